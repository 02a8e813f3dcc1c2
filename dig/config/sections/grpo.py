"""GRPO and its reward."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check, check_fraction, check_positive

__all__ = ["GRPOConfig", "RewardConfig"]


@dataclass
class RewardConfig:
    """The interest-aware reward: hit + λ_valid·valid + λ_pref·LCP/L + α·q·hit."""

    hit: float = 1.0
    """Weight of an exact hit (the paper's is 1)."""
    valid: float = 0.0
    """λ_valid, paid for a catalogue SID; trie-constrained rollouts are always valid."""
    prefix: float = 0.2
    """λ_pref, times the share of leading codes that agree with the target (suffix ignored)."""
    interest: float = 0.5
    """α, times the target's interest quality q, paid on an exact hit (0.5 in the paper; 0 is the ablation)."""

    def __post_init__(self) -> None:
        weights = (self.hit, self.valid, self.prefix, self.interest)
        check(min(weights) >= 0, "grpo.reward weights must not be negative")
        check(max(weights) > 0, "grpo.reward weights are all 0, so there is nothing to learn from")


@dataclass
class GRPOConfig:
    """Group relative policy optimisation from the SFT checkpoint."""

    group_size: int = 16
    """Rollouts G a prompt (8 in the paper)."""
    temperature: float = 1.0
    """Sampling temperature of the rollouts."""
    prompts_per_user: int = 2
    """Prompts from each user's training part: its latest items, each with what came before it."""
    prompts_per_step: int = 64
    """Prompts a rollout batch and device."""
    minibatches: int = 1
    """Parts into which a rollout batch is cut, an optimiser step each."""
    updates_per_rollout: int = 1
    """Passes over a rollout batch."""
    learning_rate: float = 3e-5
    """Peak learning rate; 1e-5 is the paper's for LoRA on a 7B backbone."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    warmup_fraction: float = 0.05
    """Share of the steps with a rising learning rate; a cosine follows."""
    epochs: int = 2
    """Passes over the prompts."""
    max_steps: int | None = None
    """Stop after this many optimiser steps, whatever the epochs say."""
    clip_norm: float = 1.0
    """Gradients are clipped at this norm."""
    clip_range: float = 0.2
    """ε of the clipped ratio (open in the paper)."""
    kl_weight: float = 1e-3
    """β of the KL divergence from the reference policy."""
    advantage_epsilon: float = 1e-6
    """Added to a group's standard deviation."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """Weights of the reward's terms."""
    validate_every: int = 50
    """Rollout batches between two validations."""
    resume_from: str | None = None
    """A checkpoint to go on from instead of this stage's own last one; its configuration must be the same."""

    def __post_init__(self) -> None:
        check(
            self.group_size >= 2,
            f"grpo.group_size must be at least 2, a group of one has no advantage; it is {self.group_size}",
        )
        check_positive(
            "grpo",
            self,
            "temperature",
            "prompts_per_step",
            "prompts_per_user",
            "minibatches",
            "updates_per_rollout",
            "learning_rate",
            "epochs",
            "max_steps",
            "clip_norm",
            "clip_range",
            "advantage_epsilon",
            "validate_every",
        )
        check(self.kl_weight >= 0, f"grpo.kl_weight must not be negative, it is {self.kl_weight}")
        check(
            self.minibatches <= self.prompts_per_step,
            f"grpo.minibatches={self.minibatches} is more than grpo.prompts_per_step={self.prompts_per_step}",
        )
        check_fraction("grpo", self, "warmup_fraction")
