"""GRPOModule: group relative policy optimisation with the interest-aware reward, from the SFT checkpoint."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from torch import Tensor, nn

from dig.config.schema import EvaluationConfig, GRPOConfig
from dig.generation import sample_groups, score
from dig.generation.backbone import Backbone
from dig.modules.policy import PolicyModule
from dig.rollouts import Reward, group_advantages, interest_aware_reward, policy_objective
from dig.rollouts.loop import RolloutBatch

if TYPE_CHECKING:
    from datamodules.sequences import HeldOutBatch

__all__ = ["GRPOModule"]


class GRPOModule(PolicyModule):
    """Sharpens a policy by the rewards of its own rollouts.

    The reference is the policy before training: with LoRA the same weights with the adapter switched off, else a
    frozen copy. Dropout is off throughout, so that the ratio of new to old policy starts at exactly 1.

    Args:
        backbone: the SFT result; with LoRA, fresh adapters around it.
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        codes: (items, levels) codes without the collision suffix.
        quality: (items,) interest quality q.
        config: the stage's settings.
        evaluation: cut-offs and beams of the validation.
    """

    codes: Tensor
    quality: Tensor

    def __init__(
        self,
        backbone: Backbone,
        item_tokens: Tensor,
        codes: Tensor,
        quality: Tensor,
        config: GRPOConfig,
        evaluation: EvaluationConfig,
    ) -> None:
        super().__init__(backbone, item_tokens, config, evaluation)
        self.config = config
        self.minibatches = config.minibatches
        self.updates_per_rollout = config.updates_per_rollout
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("quality", quality, persistent=False)
        _disable_dropout(self.model)
        # In a list, so that the frozen copy is no submodule: neither saved, nor optimised, nor wrapped by a strategy.
        self._frozen = [] if isinstance(self.model, PeftModel) else [_frozen_copy(self.model)]

        self._rollout_values: dict[str, Tensor] = {}  # logged with the updates that they lead to

    def on_fit_start(self) -> None:
        """The frozen copy follows the policy to its device."""
        for reference in self._frozen:
            reference.to(self.device)

    def rollout(self, batch: HeldOutBatch) -> RolloutBatch:
        """Samples a group for each prompt, scores it under the reference and computes advantages."""
        config = self.config
        prompts = (batch.input_ids, batch.attention_mask)
        training = self.model.training
        self.model.eval()  # gradient checkpointing would switch the key-value cache off; dropout is off anyway
        drawn = sample_groups(self.model, *prompts, self.trie, config.group_size, config.temperature)
        # under rqvae.collisions=keep a leaf stands for all its items, and so for the target among them
        own_leaf = drawn.items == self.trie.leaders(batch.targets).unsqueeze(1)
        reached = torch.where(own_leaf, batch.targets.unsqueeze(1), drawn.items)
        reward = interest_aware_reward(reached, batch.targets, self.codes, self.quality, config.reward)
        advantages = group_advantages(reward.total, config.advantage_epsilon)
        self._rollout_values = _rollout_values(drawn.items, drawn.log_probs, reward)
        reference = self._reference_log_probs(*prompts, drawn.items)
        self.model.train(training)
        return RolloutBatch(*prompts, drawn.items, drawn.log_probs, reference, advantages)

    def training_step(self, batch: RolloutBatch) -> Tensor:
        """The clipped objective of one minibatch of rollouts."""
        log_probs = score(
            self.model, batch.input_ids, batch.attention_mask, self.trie, batch.items, self.config.temperature
        )
        result = policy_objective(
            log_probs,
            batch.old_log_probs,
            batch.reference_log_probs,
            batch.advantages,
            self.config.clip_range,
            self.config.kl_weight,
        )
        values = {"loss": result.loss.detach(), "kl": result.kl, "clip_share": result.clip_share, "ratio": result.ratio}
        named = {f"train/{name}": value for name, value in values.items()} | self._rollout_values
        self.log_dict(named, batch_size=len(batch.items))
        return result.loss

    def scheduled_steps(self) -> int:
        """Batches of prompts: Lightning moves the learning rate on once a batch, whatever steps that batch takes."""
        batches = self.schedule_per_epoch() * int(self.trainer.max_epochs or 1)
        if self.trainer.max_steps < 0:
            return batches
        return min(batches, -(-self.trainer.max_steps // (self.minibatches * self.updates_per_rollout)))

    @torch.no_grad()
    def _reference_log_probs(self, input_ids: Tensor, attention_mask: Tensor, items: Tensor) -> Tensor:
        reference = self._frozen[0] if self._frozen else self.model
        adapter = self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()
        with adapter:
            return score(reference, input_ids, attention_mask, self.trie, items, self.config.temperature)


def _rollout_values(items: Tensor, log_probs: Tensor, reward: Reward) -> dict[str, Tensor]:
    """What tells whether learning is alive: rewards by term, groups without variance, distinct items, surprise."""
    ordered = items.sort(dim=1).values
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1).float()
    values = {
        "reward": reward.total.mean(),
        **{f"reward_{name}": term.mean() for name, term in reward.terms.items()},
        "dead_groups": (reward.total.std(dim=1, correction=0) < 1e-6).float().mean(),
        "distinct_items": distinct.mean() / items.shape[1],
        "surprise": -log_probs.sum(dim=-1).mean(),
    }
    return {f"rollout/{name}": value for name, value in values.items()}


def _frozen_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(requires_grad=False)


def _disable_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):  # architectures that hand a probability to a function
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
