"""Three steps of IntRR on one process or on two, for tests that compare them.

Without the alignment, which is a mean over the distinct items of each rank's own histories.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from datamodules.item_sequences import ItemSequences
from dig.config.schema import EvaluationConfig
from dig.config.sections.backbone import AssignmentConfig
from dig.recommenders.intrr import IntRRConfig
from dig.recommenders.intrr.module import IntRRModule
from support import tiny

FORM = {"residual": True, "scale": 5.0, "uid_input": True, "uid_output": True, "softmax": "trie"}


class PlainIntRR(IntRRModule):
    """Plain gradient descent, so that weights tell the size of gradients, which Adam would hide."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def train(devices: int, file: Path) -> None:
    """Saves the weights after three steps of eight users, and the validation of eleven users before them."""
    torch.set_num_threads(1)
    ids = tiny.ragged_catalogue()
    data = ItemSequences(tiny.cyclic_sequences(30, 24), 8, 8 // devices, 11, 0)
    config = IntRRConfig(assignment=AssignmentConfig(alignment=0.0))
    module = PlainIntRR(tiny.tiny_intrr(ids, **FORM).train(), config, EvaluationConfig(ks=[1, 10]))
    strategy = "ddp_fork" if devices > 1 else "auto"
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy, max_steps=3, limit_val_batches=1.0)
    trainer.validate(module, datamodule=data, verbose=False)
    valid = {name: value.item() for name, value in trainer.callback_metrics.items()}
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy, max_steps=3, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    torch.save({"valid": valid, "weights": module.state_dict()}, file)


if __name__ == "__main__":
    train(int(sys.argv[1]), Path(sys.argv[2]))
