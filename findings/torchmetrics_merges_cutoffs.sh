#!/usr/bin/env bash
# HR@1, HR@5 and HR@10 of one's own metric class, side by side in a torchmetrics MetricCollection.
# Guess:    metrics share their state only if class and arguments are the same; HR@1 and HR@10 never do.
# Happens:  after the first batch, metrics whose states are *equal by value* become one group and only the first is
#           updated from then on. If each target of that batch is at the first place or nowhere, all cut-offs agree by
#           chance, and HR@10 is HR@1 until the reset. Nothing is said.
# Follows:  name the groups (`compute_groups=[[...]]`) or switch them off. dig names them (dig/evaluation/measures.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "torchmetrics==1.9.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import torch
from torchmetrics import Metric, MetricCollection


class HitRate(Metric):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.add_state("hits", torch.tensor(0), "sum")
        self.add_state("total", torch.tensor(0), "sum")

    def update(self, ranked, targets):
        self.hits += (ranked[:, : self.k] == targets[:, None]).any(1).sum()
        self.total += len(targets)

    def compute(self):
        return self.hits / self.total


ranked = torch.arange(10).repeat(4, 1)  # everybody is shown items 0 to 9
batches = [torch.tensor(targets) for targets in ([0, 0, 99, 99], [7, 7, 7, 7], [3, 3, 3, 3])]


def measured(metric):
    for targets in batches:
        metric.update(ranked, targets)
    values = metric.compute()
    return {k: round(float(v), 4) for k, v in values.items()} if isinstance(values, dict) else round(float(values), 4)


alone = {f"hr@{k}": measured(HitRate(k)) for k in (1, 5, 10)}
together = measured(MetricCollection({f"hr@{k}": HitRate(k) for k in (1, 5, 10)}))
apart = measured(MetricCollection({f"hr@{k}": HitRate(k) for k in (1, 5, 10)}, compute_groups=False))
print("each alone:          ", alone)
print("in a MetricCollection:", together)
assert alone == apart == {"hr@1": 0.1667, "hr@5": 0.5, "hr@10": 0.8333}, "changed: the plain values"
assert together == {"hr@1": 0.1667, "hr@5": 0.1667, "hr@10": 0.1667}, "changed: the collection no longer merges them"
PYTHON_CODE
