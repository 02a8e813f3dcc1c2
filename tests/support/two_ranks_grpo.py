"""Three steps of GRPO, on one process or two: ``two_ranks_grpo.py DEVICES OBJECTIVE FILE [DYNAMIC_SAMPLING]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from datamodules.prompts import SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from dig.config.schema import EvaluationConfig, GRPOConfig, PromptConfig
from dig.modules.grpo import GRPOModule
from dig.rollouts import RewardContext, Rollouts
from dig.rollouts.loop import install_group_rollouts
from support import tiny


class PlainGRPO(GRPOModule):
    """Plain gradient descent, so that weights tell the size of gradients; remembers what was rolled out."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3)

    def on_fit_end(self) -> None:
        """Here, because the processes of ``ddp_fork`` leave nothing but weights behind."""
        if self.trainer.is_global_zero:
            rollouts = [sorted(rolled.tolist()) for rolled in self.rolled]
            torch.save({"start": self.start, "weights": self.state_dict(), "rollouts": rollouts}, self.file)

    def rollout(self, batch: Any) -> Rollouts:
        found = super().rollout(batch)
        rolled = torch.cat([batch.samples[: len(found.items)].unsqueeze(1), found.items], dim=1)
        self.rolled.append(self.all_gather(rolled).reshape(-1, rolled.shape[1]))
        return found


def train(devices: int, objective: str, file: Path, dynamic_sampling: int = 1) -> None:
    """Saves the weights before and after, and the rollouts of each step in the prompts' order."""
    torch.set_num_threads(1)
    ids = tiny.ragged_catalogue()
    backbone = tiny.scratch_backbone(ids)
    tokens = backbone.vocabulary.encode(ids.codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=True)
    sequences = tiny.cyclic_sequences(30, 24)
    config = GRPOConfig(
        group_size=4,
        prompts_per_step=8 // devices,
        objective=objective,
        advantage="batch",
        kl_weight=0.1,
        dynamic_sampling=dynamic_sampling,
        minibatches=dynamic_sampling,
    )
    prompts = TrainingPrompts(sequences, builder, per_user=1)
    data = PromptDataModule(prompts, sequences, builder, config.prompts_per_step * dynamic_sampling, 8, 3, 0)
    context = RewardContext(ids.codes[:, : ids.levels], torch.linspace(0.0, 1.0, 24))
    module = PlainGRPO(backbone, tokens, context, config, EvaluationConfig(ks=[1, 10]), seed=5)
    module.rolled, module.file = [], file
    module.start = {name: weight.clone() for name, weight in module.state_dict().items()}
    strategy = "ddp_fork" if devices > 1 else "auto"
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy, max_steps=3, limit_val_batches=0)
    install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    train(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))
