#!/usr/bin/env bash
# A NaN among scores or ratings in polars.
# Guess:    as in IEEE arithmetic and SQL: `rating >= 3` drops it, and max, arg_max and top_k agree on the largest.
# Happens:  in comparisons and sorting NaN is above every number, in max and arg_max it is left out. So a filter for
#           good ratings keeps the NaN rows, `top_k(1)` recommends the item that has no score, and `max` of the same
#           column says 3.0. A null is dropped by the filter and is the last of top_k.
# Follows:  turn NaN into null where tables are read. dig does, for ids, texts, ratings and prices.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0"
"$work/venv/bin/python" - <<'PYTHON_CODE'
import polars as pl

table = pl.DataFrame({"item": ["a", "b", "c", "d"], "score": [1.0, float("nan"), 3.0, None]})
kept = table.filter(pl.col("score") >= 3)["item"].to_list()
best = table.top_k(1, by="score")["item"].to_list()
largest = table["score"].max()
place = table["item"][table["score"].arg_max()]
ranks = table["score"].rank("ordinal", descending=True).to_list()
print("polars", pl.__version__, "| filter score >= 3:", kept, "| top_k(1):", best, "| max:", largest, "| arg_max:", place,
      "| ranks, best first:", ranks)
assert (kept, best, largest, place) == (["b", "c"], ["b"], 3.0, "c") and ranks == [3, 1, 2, None], "changed"
PYTHON_CODE
