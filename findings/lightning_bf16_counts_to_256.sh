#!/usr/bin/env bash
# A torchmetrics metric in a LightningModule under Trainer(precision="bf16-true").
# Guess:    metrics count in float32 whatever the precision of the weights; torchmetrics documents that `.half()` and
#           `.to(dtype)` on a metric do nothing, and Lightning's own `self.log` means stay exact.
# Happens:  the plugin casts the whole module, states included, and a bfloat16 counter stops at 256: 256 + 1 = 256. A
#           sum of hits over 1,000 users is 256. The *same* value logged as a number comes out right.
# Follows:  states that count must be integers, which no cast touches. dig's are (dig/evaluation/ranking.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "lightning==2.6.6" "torchmetrics==1.9.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import logging
import warnings

import lightning
import torch
from torchmetrics import MeanMetric, SumMetric

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.hits = SumMetric()
        self.mean = MeanMetric()

    def validation_step(self, batch, index):
        self.hits.update(1.0)
        self.mean.update(2.0)
        self.log("logged", 1.0, reduce_fx="sum", batch_size=1)

    def on_validation_epoch_end(self):
        self.counted = (self.hits.compute().item(), self.mean.weight.item(), str(self.mean.weight.dtype))

    def val_dataloader(self):
        return torch.utils.data.DataLoader(range(1000), batch_size=1)


seen = {}
for precision in ("32-true", "bf16-mixed", "bf16-true"):
    module = Module()
    trainer = lightning.Trainer(precision=precision, accelerator="cpu", logger=False, enable_progress_bar=False,
                                enable_checkpointing=False, enable_model_summary=False)
    logged = trainer.validate(module, verbose=False)[0]["logged"]
    seen[precision] = (*module.counted, logged)
    print(f"{precision:11} sum of 1,000 ones {seen[precision][0]:g}, weight of the mean {seen[precision][1]:g} "
          f"({seen[precision][2]}), self.log's sum {logged:g}")
assert seen["32-true"] == seen["bf16-mixed"] == (1000.0, 1000.0, "torch.float32", 1000.0), "changed: full precision"
assert seen["bf16-true"] == (256.0, 256.0, "torch.bfloat16", 1000.0), "changed: bf16-true no longer stops at 256"
PYTHON_CODE
