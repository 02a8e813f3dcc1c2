"""A rank of two whose loss is not a number on rank 1 alone: ``two_ranks_finite.py FOLDER``, told by its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning
import torch

from callbacks.guards import FiniteGuard
from dig.config import UserError
from support import tiny


class FailsOnRank1(lightning.LightningModule):
    """A weight whose loss fails at the third batch, on rank 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        broken = batch_idx == 2 and self.global_rank == 1
        return self.weight.sum() * (float("nan") if broken else 1.0)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(folder: Path) -> None:
    guard = FiniteGuard("sft", folder / "resume.ckpt")
    trainer = tiny.quiet_trainer(devices=2, strategy="ddp", max_epochs=1, callbacks=[guard], limit_val_batches=0)
    module = FailsOnRank1()
    try:
        trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader(torch.zeros(8, 1)))
    except UserError as error:
        (folder / os.environ["LOCAL_RANK"]).write_text(f"{error}; weights {module.weight.tolist()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
