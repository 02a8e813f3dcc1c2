#!/usr/bin/env bash
# Ranks that begin at 0, as enumerate() gives them, in a table of recommendations for RecTools.
# Guess:    refused, or shifted by one.
# Happens:  every place is taken for the one before it, in silence: a target at the second place has a reciprocal rank
#           of 1, and HitRate@1 counts it. Only where somebody's target is first do MRR and NDCG show it: they are inf.
# Follows:  look at the smallest rank before another program's rankings are measured; dig compare takes both kinds and
#           refuses gaps (dig/comparison).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "rectools==0.19.0" "pandas==2.3.3"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import math

import pandas
from rectools.metrics import MRR, NDCG, HitRate, calc_metrics

METRICS = {"HitRate@1": HitRate(1), "MRR@2": MRR(2), "NDCG@2": NDCG(2, divide_by_achievable=True)}
bought = pandas.DataFrame({"user_id": [1], "item_id": ["target"]})


def measured(items, first_rank):
    shown = pandas.DataFrame({"user_id": 1, "item_id": items, "rank": range(first_rank, first_rank + len(items))})
    values = calc_metrics(METRICS, shown, interactions=bought)
    return {name: round(float(value), 4) for name, value in values.items()}


second = ["other", "target", "third"]
print("target at the second place, ranks from 1:", measured(second, 1))
print("target at the second place, ranks from 0:", measured(second, 0))
first = measured(["target", "other", "third"], 0)
print("target at the first place,  ranks from 0:", first)
assert measured(second, 1) == {"HitRate@1": 0.0, "MRR@2": 0.5, "NDCG@2": 0.6309}, "changed: ranks from 1"
assert measured(second, 0) == {"HitRate@1": 1.0, "MRR@2": 1.0, "NDCG@2": 1.0}, "changed: ranks from 0"
assert math.isinf(first["MRR@2"]) and math.isinf(first["NDCG@2"]), "changed: a first place at rank 0"
PYTHON_CODE
