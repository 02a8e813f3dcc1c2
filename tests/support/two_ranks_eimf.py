"""Two epochs of EIMF on one process or two, for tests that compare them: ``python two_ranks_eimf.py DEVICES FILE``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from callbacks.resume import StepSeed
from datamodules.item_sequences import ItemSequences
from datamodules.splits import Sequences
from dig.config.schema import EvaluationConfig
from dig.interests.interest import mined_frame
from dig.interests.profiles import ExplicitInterests
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.explicit import KnownUsers
from dig.recommenders.eimf.model import EIMF
from dig.recommenders.eimf.module import EIMFModule
from support import tiny

ITEMS = 24
CONFIG = EIMFConfig(hidden_size=32, attention_size=16, interests=3, layers=1, scale=10.0, max_history=8, dropout=0.0,
                    batch_size=8, warmup_epochs=1, epochs=2, clusters=3, typical_users=4, typical_batch=12,
                    explicit_interests=2, semantic_weight=0.5, alignment_weight=0.5)  # fmt: skip


def sequences(users: int = 32) -> Sequences:
    """Everybody walks equally far, so that the mean over ranks is the mean over targets."""
    rows = [(np.arange(7) + 5 * user) % ITEMS for user in range(users)]
    return Sequences.from_lists([f"u{user}" for user in range(users)], rows)


def known_users(train: Any, dim: int = 5) -> KnownUsers:
    """Items in threes have an interest in common, the last nine none."""
    ids = [f"i{item}" for item in range(ITEMS)]
    frame = mined_frame((ids[item], f"theme {item // 3}", "text", 0.9, "miner") for item in range(ITEMS - 9))
    explicit = ExplicitInterests(frame.with_columns(label=pl.lit(1, pl.Int8)), ids, train, CONFIG.explicit_interests)
    vectors = torch.randn(len(explicit.phrases), dim, generator=torch.Generator().manual_seed(1))
    return KnownUsers(explicit, vectors, explicit.users())


def module(config: EIMFConfig = CONFIG, kind: type[EIMFModule] = EIMFModule) -> EIMFModule:
    """Always the same weights; with the explicit side where the configuration has one."""
    torch.manual_seed(0)
    known = known_users(sequences().train) if config.explicit_losses else None
    return kind(EIMF(ITEMS, config), config, EvaluationConfig(ks=[1, 10]), known, seed=0)


class PlainEIMF(EIMFModule):
    """Plain gradient descent, so that weights tell the size of gradients, which Adam would hide."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(devices: int, file: Path) -> None:
    """Saves the weights of rank 0, and whether all ranks ended with the same."""
    torch.set_num_threads(1)
    config = replace(CONFIG, batch_size=8 // devices, readout="hard")  # shared, each rank draws rivals of its own
    found = module(config, PlainEIMF)
    data = ItemSequences(sequences(), config.max_history, config.batch_size, None, 0)
    trainer = tiny.quiet_trainer(
        devices=devices, strategy="ddp_fork" if devices > 1 else "auto", max_epochs=2, callbacks=[StepSeed(0)]
    )
    trainer.fit(found, datamodule=data)
    valid = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("valid/")}
    torch.save({"valid": valid, "weights": found.state_dict()}, file)


if __name__ == "__main__":
    train(int(sys.argv[1]), Path(sys.argv[2]))
