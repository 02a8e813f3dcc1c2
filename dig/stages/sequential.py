"""sequential: a model over item numbers, for the rewards that ask what behaviour alone would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file, save_file

from datamodules.item_sequences import ItemSequences
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.splits import leading_items
from dig.baselines.sasrec import SASRec
from dig.config import Config
from dig.modules.sequential import SequentialModule
from dig.stages.base import Stage, StageContext
from dig.stages.policies import says_policy
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.reward_needs import stages_behind
from dig.stages.training import Plan, fit, reads_training

__all__ = ["STAGE", "load_sequential"]


def load_sequential(context: StageContext) -> SASRec:
    """The trained model, guarded against held-out items."""
    item_ids = load_catalogue(context)["item_id"]
    guard_artifact("grpo: the sequential model", context.inputs["sequential"].path, load_sequences(context), item_ids)
    model = SASRec(len(item_ids), context.config.sequential)
    model.load_state_dict(load_file(context.file("sequential", "model.safetensors")))
    return model


def _reads(config: Config) -> dict[str, Any]:
    return reads_training(config, "sequential", "evaluation.ks", "evaluation.valid_users")


def _build(context: StageContext, folder: Path) -> None:
    config, sequences = context.config, load_sequences(context)
    lightning.seed_everything(config.seed, verbose=False)
    item_ids = load_catalogue(context)["item_id"]
    model = SASRec(len(item_ids), config.sequential)
    data = ItemSequences(
        sequences,
        config.sequential.max_history,
        config.sequential.batch_size,
        config.evaluation.valid_users,
        config.seed,
        config.trainer.workers,
    )
    plan = Plan("sequential", _reads(config), config.sequential.epochs, clip_norm=1.0, ranked=True,
                patience=config.sequential.patience)  # fmt: skip
    module = SequentialModule(model, config.sequential, config.evaluation)
    fit(plan, module, data, context, folder)
    if module.trainer.is_global_zero:
        weights = {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        write_items_seen(folder, sequences, leading_items(sequences, sequences.train), item_ids)


STAGE = Stage("sequential", ("prepare",), _reads, _build, says_policy, every_rank=True,
              enabled=lambda config: "sequential" in stages_behind(config))  # fmt: skip
