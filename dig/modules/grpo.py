"""GRPOModule: group relative policy optimisation with the interest-aware reward, from the SFT checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import torch
from torch import Tensor, nn

from dig.config import UserError
from dig.config.schema import EvaluationConfig, GRPOConfig
from dig.engine.console import warn
from dig.generation import score
from dig.generation.backbone import Backbone
from dig.generation.sampling import prompt_seeds
from dig.generation.search import Scores, score_with_entropy
from dig.modules.policy import PolicyModule
from dig.quantization import SemanticIds
from dig.rollouts.objectives import PolicyLoss, group_advantages, has_variance, policy_objective, term_advantages
from dig.rollouts.record import Rollouts, sample_rollouts
from dig.rollouts.reference import HeldWeights, reference_policy
from dig.rollouts.rewards import RewardContext, total_reward

__all__ = ["GRPOModule"]


class GRPOModule(PolicyModule):
    """Sharpens a policy by the rewards of its own rollouts.

    Dropout is off throughout, so that the ratio of new to old policy starts at exactly 1.

    Args:
        backbone: the SFT result; with LoRA, fresh adapters around it.
        item_tokens: (items, levels) vocabulary ids, -1 for a missing suffix.
        reward_context: what the reward's terms read of items.
        config: the stage's settings.
        evaluation: cut-offs and beams of the validation.
        seed: decides the samples, with a prompt's number and the step.
    """

    stage, settings = "grpo", GRPOConfig
    _required = (*PolicyModule._required, "reward_context")

    def __init__(
        self,
        backbone: Backbone,
        item_tokens: Tensor,
        reward_context: RewardContext,
        config: GRPOConfig,
        evaluation: EvaluationConfig,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, item_tokens, config, evaluation)
        self.config = config
        self.reward_context = reward_context
        self.seed = seed
        self.minibatches = config.minibatches
        self.updates_per_rollout = config.updates_per_rollout
        self.advantage_scale = config.advantage_scale
        self.weights = {name: weight for name, weight in config.reward.weights.items() if weight}
        self.reference = reference_policy(config.reference, self.model, config.reference_decay)
        self.latest: Rollouts | None = None  # what was rolled out last, for those who watch
        _disable_dropout(self.model)
        self._rollout_values: dict[str, Tensor] = {}  # logged with the updates that they lead to

    def rollout(self, prompts: Rollouts) -> Rollouts:
        """A group for each prompt, with rewards, advantages and what the reference thinks of it.

        Under dynamic sampling the batch holds several times the prompts of an update: they are rolled out part by part
        until enough groups teach something on every process, and the rest is dropped. Where too few do, groups that
        teach nothing fill up, so that all processes take equally many steps.
        """
        with self.gathered():
            return self._rollout(prompts)

    def _rollout(self, prompts: Rollouts) -> Rollouts:
        size = self.config.prompts_per_step
        parts: list[Rollouts] = []
        for part in prompts.split(size):
            parts.append(self.with_rewards(self.sample(part)))
            if self.config.dynamic_sampling == 1 or self._everywhere(_teaching(parts) >= size):
                break
        self.latest = parts[0]
        rollouts = Rollouts.join(parts)
        self._rollout_values = _rollout_values(rollouts)
        if self.config.dynamic_sampling > 1:
            teaching = has_variance(rollouts.advantages).to(torch.int8)
            rollouts = rollouts.take(teaching.argsort(descending=True, stable=True)[:size])
        return replace(rollouts, reference_log_probs=self._reference_log_probs(rollouts))

    def sample(self, prompts: Rollouts) -> Rollouts:
        """Rolls the policy out."""
        config = self.config
        training = self.model.training
        self.model.eval()  # gradient checkpointing would switch the key-value cache off; dropout is off anyway
        seeds = prompt_seeds(prompts.samples, self.seed, self.global_step)
        rollouts = sample_rollouts(
            prompts, config.rollouts, self.model, self.trie, config.group_size, config.temperature, seeds
        )
        self.model.train(training)
        return rollouts

    def with_rewards(self, rollouts: Rollouts) -> Rollouts:
        """The rollouts with their rewards and advantages.

        Raises:
            UserError: a reward is not finite (which term, which item), or reads what is not known of the items.
        """
        config = self.config
        try:
            reward = total_reward(rollouts, self.reward_context, self.weights)
        except ValueError as error:
            raise UserError(f"grpo: {error}") from None
        except KeyError as error:
            raise UserError(f"grpo: {error.args[0]}; pass reward_context= to GRPOModule.load_from_checkpoint") from None
        scale = (config.advantage_epsilon, self.advantage_scale, self._mean_over_ranks)
        if config.reward.combine == "apart":
            advantages = term_advantages(reward.terms, self.weights, *scale)
        else:
            advantages = group_advantages(reward.total, *scale)
        return replace(rollouts, rewards=reward.total, terms=reward.terms, advantages=advantages)

    def training_step(self, batch: Rollouts) -> Tensor:
        """The clipped objective of one minibatch of rollouts."""
        present = self.trie.paths(batch.items) >= 0
        loss, result, scores = self.computed(self._objective, batch, present)
        values = {
            "loss": loss.detach(),
            "clip_ratio": result.clip_ratio,
            "ratio": result.ratio,
            "entropy": scores.entropy.sum(dim=-1).mean(),
        }
        if batch.reference_log_probs is not None:
            values["kl"] = result.kl
        named = {f"train/{name}": value for name, value in values.items()} | self._rollout_values
        self.log_dict(named, batch_size=len(batch.items))
        return loss * self._weight_of_rank(present)

    def _objective(self, batch: Rollouts, present: Tensor) -> tuple[Tensor, PolicyLoss, Scores]:
        config = self.config
        prompts = (batch.input_ids, batch.attention_mask)
        scores = score_with_entropy(self.model, *prompts, self.trie, batch.items, config.temperature)
        result = policy_objective(
            scores.log_probs,
            batch.old_log_probs,
            batch.reference_log_probs,
            batch.advantages,
            config.clip_range,
            config.kl_weight,
            config.objective,
            config.clip_range_high,
            present,
        )
        return result.loss, result, scores

    def optimizer_step(self, *args: Any, **named: Any) -> None:
        """A reference that moves follows."""
        super().optimizer_step(*args, **named)
        if self.config.reference == "ema":
            with self.gathered():
                self.reference.follow(self.model)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path | IO[bytes], *arguments: Any, **named: Any) -> Self:
        """As of :class:`~dig.modules.policy.PolicyModule`, with two things that a checkpoint does not hold.

        - Of the items, rewards then know codes, quality and counts, a few numbers each. A term that reads vectors or
          a model needs ``reward_context=``, and says so when it is asked.
        - A frozen reference of full fine-tuning is not kept: it becomes the loaded policy. To train with the former
          one, pass the backbone that GRPO began with, ``backbone=load_backbone(folder, sizes)``.
        """
        loaded = super().load_from_checkpoint(checkpoint_path, *arguments, **named)
        held = isinstance(loaded.reference, HeldWeights) and loaded.reference.decay is None
        if held and "backbone" not in named:
            config = loaded.config
            loaded.reference = reference_policy(config.reference, loaded.model, config.reference_decay)
            if config.kl_weight:
                warn(
                    "grpo: the loaded policy is the reference of grpo.kl_weight from here on; pass backbone= with the "
                    "policy of sft to keep the former one"
                )
        return loaded

    @classmethod
    def _arguments_of(
        cls, making: Mapping[str, Any], state: Mapping[str, Tensor], where: str, named: Mapping[str, Any]
    ) -> dict[str, Any]:
        arguments = super()._arguments_of(making, state, where, named)
        context = RewardContext(**making["facts"], item_ids=making["item_ids"])
        return {**arguments, "reward_context": context, "seed": int(making["seed"])}

    @classmethod
    def _arguments_of_run(cls, folder: Path, named: Mapping[str, Any]) -> dict[str, Any]:
        arguments = super()._arguments_of_run(folder, named)
        table = folder.resolve().parent.parent / "semantic_ids.parquet"  # a policy may spell items otherwise
        ids = SemanticIds.load(table if table.is_file() else folder / table.name)
        return {**arguments, "reward_context": RewardContext(ids.codes[:, : ids.levels], item_ids=ids.item_ids)}

    @cached_property
    def _making(self) -> dict[str, Any]:
        context = self.reward_context
        facts = {name: getattr(context, name) for name in ("codes", "quality", "counts")}
        return {
            **super()._making,
            "facts": {name: fact.cpu() for name, fact in facts.items() if fact is not None},
            "item_ids": None if context.item_ids is None else list(context.item_ids),
            "seed": self.seed,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A reference that moves is part of where training stands."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.reference, HeldWeights) and self.reference.decay is not None:
            checkpoint["dig_reference"] = self.reference.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes such a reference up again."""
        super().on_load_checkpoint(checkpoint)
        if isinstance(self.reference, HeldWeights) and "dig_reference" in checkpoint:
            self.reference.restore(checkpoint["dig_reference"])

    def scheduled_steps(self) -> int:
        """Batches of prompts: Lightning moves the learning rate on once a batch, whatever steps that batch takes."""
        batches = self.schedule_per_epoch() * int(self.trainer.max_epochs or 1)
        if self.trainer.max_steps < 0:
            return batches
        return min(batches, -(-self.trainer.max_steps // (self.minibatches * self.updates_per_rollout)))

    @torch.no_grad()
    def _reference_log_probs(self, batch: Rollouts) -> Tensor | None:
        if not self.config.kl_weight:
            return None
        with self.reference.active(self.model):
            prompts = (batch.input_ids, batch.attention_mask)
            return score(self.model, *prompts, self.trie, batch.items, self.config.temperature)

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        if self._trainer is None or self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value.clone(), reduce_op="mean")

    def _everywhere(self, here: bool) -> bool:
        """Whether something holds on every process; each asks equally often, so none waits for another."""
        return bool(self._mean_over_ranks(torch.tensor(float(here), device=self.device)) == 1.0)

    def _weight_of_rank(self, present: Tensor) -> Tensor | float:
        """Makes the mean over ranks, which is what DDP takes of gradients, one over all ranks' rollouts or tokens."""
        if self.trainer.world_size == 1:
            return 1.0
        count = present.sum().float() if self.config.objective == "dapo" else present.new_tensor(len(present)).float()
        return count / self._mean_over_ranks(count)


def _teaching(parts: Sequence[Rollouts]) -> int:
    """Groups from which anything can be learned."""
    return sum(int(has_variance(part.advantages).sum()) for part in parts)


def _rollout_values(rollouts: Rollouts) -> dict[str, Tensor]:
    """What tells whether learning is alive: rewards by term, hits, groups without variance, distinct items."""
    values = {
        "reward": rollouts.rewards,
        **{f"reward_{name}": term for name, term in rollouts.terms.items()},
        "hits": rollouts.hits,
        "groups_with_hit": rollouts.hits.any(dim=1),
        "frac_reward_zero_std": ~has_variance(rollouts.advantages),
        "unique_fraction": rollouts.first,
        "nll": -rollouts.log_probs,
    }
    return {f"rollout/{name}": value.float().mean() for name, value in values.items()}


def _disable_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):  # architectures that hand a probability to a function
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
