"""sasrec: the sequential model over item numbers, a baseline and a voice in the rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.leakage import guard_artifact
from dig.config import Config
from dig.engine.lazy import lightning
from dig.engine.stage import Stage, StageContext
from dig.engine.training import reads_training
from dig.recommenders import sasrec
from dig.recommenders.training import train_on_items
from dig.stages.policies import policy_summary
from dig.stages.prepare import load_catalogue, load_sequences, load_stamp
from dig.stages.rewards import stages_behind

__all__ = ["STAGE", "load_sasrec"]


def load_sasrec(context: StageContext) -> sasrec.SASRec:
    """The trained model, guarded against held-out items."""
    item_ids = load_catalogue(context)["item_id"]
    guard_artifact("grpo: the sequential model", context.inputs["sasrec"].path, load_sequences(context), item_ids)
    return sasrec.SASRec.load(context.file("sasrec", "model"))


def _config_keys(config: Config) -> dict[str, Any]:
    return reads_training(config, "sasrec", "evaluation.ks", "evaluation.valid_users")


def _build(context: StageContext, folder: Path) -> None:
    config = context.config
    lightning.seed_everything(config.seed, verbose=False)
    settings = sasrec.SPEC.of(config)
    model = sasrec.SASRec(len(load_catalogue(context)), settings)
    module = sasrec.SASRecModule(model, settings, config.evaluation)
    if train_on_items("sasrec", settings, _config_keys(config), module, context, folder):
        model.save(folder / "model", load_stamp(context))


STAGE = Stage(
    sasrec.SPEC.name,
    sasrec.SPEC.needs,
    _config_keys,
    _build,
    policy_summary,
    version=2,
    every_rank=True,
    enabled=lambda config: "sasrec" in config.baselines or "sasrec" in stages_behind(config),
)
