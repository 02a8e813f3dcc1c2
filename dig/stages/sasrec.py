"""sasrec: the sequential model over item numbers, a baseline and a voice in the rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning

from datamodules.item_sequences import ItemSequences
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.splits import leading_items
from dig.baselines.sasrec import SASRec
from dig.config import Config
from dig.modules.sasrec import SASRecModule
from dig.stages.base import Stage, StageContext
from dig.stages.policies import says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.reward_needs import stages_behind
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE", "load_sasrec"]


def load_sasrec(context: StageContext) -> SASRec:
    """The trained model, guarded against held-out items."""
    item_ids = load_catalogue(context)["item_id"]
    guard_artifact("grpo: the sequential model", context.inputs["sasrec"].path, load_sequences(context), item_ids)
    return SASRec.load(context.file("sasrec", "model"))


def _reads(config: Config) -> dict[str, Any]:
    return reads_training(config, "sasrec", "evaluation.ks", "evaluation.valid_users")


def _build(context: StageContext, folder: Path) -> None:
    config, sequences = context.config, load_sequences(context)
    lightning.seed_everything(config.seed, verbose=False)
    item_ids = load_catalogue(context)["item_id"]
    model = SASRec(len(item_ids), config.sasrec)
    data = ItemSequences(
        sequences,
        config.sasrec.max_history,
        config.sasrec.batch_size,
        config.evaluation.valid_users,
        config.seed,
        config.trainer.workers,
    )
    plan = Plan("sasrec", _reads(config), config.sasrec.epochs, clip_norm=1.0, ranked=True,
                patience=config.sasrec.patience)  # fmt: skip
    module = SASRecModule(model, config.sasrec, config.evaluation)
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        model.save(folder / "model")
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


STAGE = Stage("sasrec", ("prepare",), _reads, _build, says_policy, version=2, every_rank=True,
              enabled=lambda config: "sasrec" in config.baselines or "sasrec" in stages_behind(config))  # fmt: skip
