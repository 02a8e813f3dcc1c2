"""GRPO."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from dig.config.sections.checks import (
    Fraction,
    LearningRate,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Size,
    Temperature,
    WeightDecay,
    check,
    check_values,
)

__all__ = [
    "OBJECTIVES",
    "REFERENCES",
    "ROLLOUTS",
    "GRPOConfig",
    "RolloutTasksConfig",
    "RewardConfig",
]


RolloutMethod = Literal["sample", "stochastic_beam", "beam"]
Objective = Literal["sequence", "grpo", "dr_grpo", "dapo", "gspo"]
Reference = Literal["auto", "adapter", "frozen", "ema"]
ROLLOUTS: tuple[str, ...] = get_args(RolloutMethod)
OBJECTIVES: tuple[str, ...] = get_args(Objective)
REFERENCES: tuple[str, ...] = get_args(Reference)


_NO_TERMS = ("extra", "modules", "combine")
"""Fields of the reward that are not the weight of a term; each other one is."""


@dataclass
class RewardConfig:
    """Weights of the reward's terms; DeepInterestGR's is hit + λ_valid·valid + λ_pref·LCP/L + α·q·hit."""

    hit: NonNegativeFloat = 1.0
    """Weight of an exact hit (the paper's is 1)."""
    valid: NonNegativeFloat = 0.0
    """λ_valid, paid for a catalogue SID; trie-constrained rollouts are always valid."""
    prefix: NonNegativeFloat = 0.2
    """λ_pref, times the share of leading codes that agree with the target (suffix ignored)."""
    interest: NonNegativeFloat = 0.5
    """α, times the target's interest quality q, paid on an exact hit (0.5 in the paper; 0 is the ablation)."""
    similarity: NonNegativeFloat = 0.0
    """Times the cosine of the rollout's and the target's positive interests and the target's q: pays near misses."""
    rank: NonNegativeFloat = 0.0
    """MiniOneRec's penalty of misses by their rank, in groups that hold the target (1 there)."""
    collaborative: NonNegativeFloat = 0.0
    """Times what a frozen sequential model thinks of the rollout; trains that model first."""
    diversity: NonNegativeFloat = 0.0
    """SMORL's: times one minus the cosine of the rollout's text and the latest item's."""
    novelty: NonNegativeFloat = 0.0
    """SMORL's: paid for an item outside the most popular tenth."""
    unseen: NonNegativeFloat = 0.0
    """Paid for an item that the history does not hold: what was bought stands first with many a policy, and in most
    shops it is not bought again."""
    extra: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Weights of terms of your own, by name."""
    modules: list[str] = field(default_factory=list)
    """Python modules to import first: they register such terms."""
    combine: Literal["sum", "apart"] = "sum"
    """`sum`: the weighted sum gives the advantages; `apart`: each term gives its own, and those are summed (GDPO,
    arXiv 2601.05242; TRL's `normalize_then_sum`)."""

    def __post_init__(self) -> None:
        check_values("grpo.reward", self)
        weights = self.weights
        check(max(weights.values()) > 0, "grpo.reward weights are all 0, so there is nothing to learn from")
        built_in = [name for name in self.extra if name in _terms()]
        check(
            not built_in,
            f"grpo.reward.extra.{built_in[0] if built_in else ''} is a term of its own: set grpo.reward."
            f"{built_in[0] if built_in else ''}",
        )

    @property
    def weights(self) -> dict[str, float]:
        """Every term's weight by name."""
        return {name: getattr(self, name) for name in _terms()} | self.extra


def _terms() -> list[str]:
    """The terms that come with the project: each has its weight as a field."""
    return [entry.name for entry in fields(RewardConfig) if entry.name not in _NO_TERMS]


@dataclass
class RolloutTasksConfig:
    """How many of each task's prompts an epoch holds: 1 each once, 0.5 half of them, 0 none."""

    next_item: NonNegativeFloat = 1.0
    """History → Semantic ID of the next item, spelled as evaluation spells it."""
    title_to_sid: NonNegativeFloat = 0.0
    """Title → Semantic ID."""
    description_to_sid: NonNegativeFloat = 0.0
    """Description → Semantic ID."""
    title_history: NonNegativeFloat = 0.0
    """Titles of a history → Semantic ID of the next item."""

    def __post_init__(self) -> None:
        check_values("grpo.tasks", self)
        shares = [getattr(self, entry.name) for entry in fields(self)]
        check(max(shares) > 0, "grpo.tasks leaves nothing to learn: every share is 0")

    @property
    def shares(self) -> dict[str, float]:
        """Those above 0."""
        return {entry.name: share for entry in fields(self) if (share := getattr(self, entry.name))}


@dataclass
class GRPOConfig:
    """Group relative policy optimisation from the SFT checkpoint."""

    group_size: Size = 16
    """Rollouts G per prompt (8 in the paper; TRL's `num_generations`)."""
    temperature: Temperature = 1.0
    """Divides the logits of the rollouts, and with them those that learn."""
    rollouts: RolloutMethod = "sample"
    """`sample`: independent samples; `stochastic_beam`: a sample without replacement (arXiv 1903.06059); `beam`: the
    most probable items (MiniOneRec, arXiv 2510.24431)."""
    dynamic_sampling: PositiveInt = 1
    """Rollout batches that may be drawn for one update, so that groups whose rewards are all equal make room for
    others (DAPO, arXiv 2503.14476); 1 keeps every group."""
    tasks: RolloutTasksConfig = field(default_factory=RolloutTasksConfig)
    """What is asked; tasks of words need a backbone that knows them."""
    prompts_per_user: PositiveInt = 2
    """Prompts from each user's training part: its latest items, each with what came before it."""
    prompts_per_step: Size = 64
    """Prompts per rollout batch and device."""
    minibatches: PositiveInt = 1
    """Parts into which a rollout batch is cut, an optimiser step each."""
    updates_per_rollout: PositiveInt = 1
    """Passes over a rollout batch (TRL's `num_iterations`)."""
    learning_rate: LearningRate = 3e-5
    """Peak learning rate; 1e-5 is the paper's for LoRA on a 7B backbone."""
    weight_decay: WeightDecay = 0.0
    """AdamW's weight decay."""
    warmup_ratio: Fraction = 0.05
    """Share of the steps with a rising learning rate; a cosine follows."""
    epochs: PositiveInt = 2
    """Passes over the prompts."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimiser steps, whatever the epochs say."""
    gradient_clip_val: PositiveFloat = 1.0
    """Gradients are clipped at this norm."""
    objective: Objective = "sequence"
    """`sequence` (DeepInterestGR), `grpo` (arXiv 2402.03300), `dr_grpo` (2503.20783), `dapo` (2503.14476) or `gspo`
    (2507.18071): which ratio is clipped, and what tokens are averaged over (TRL's `loss_type`)."""
    advantage: Literal["auto", "group", "none", "batch"] = "auto"
    """What centred rewards are divided by: their `group`'s deviation (GRPO), the `batch`'s (REINFORCE++,
    arXiv 2501.03262) or `none` (Dr. GRPO); `auto` is none for dr_grpo, else group. TRL's
    `scale_rewards`."""
    clip_range: PositiveFloat | None = 0.2
    """ε of the clipped ratio (open in the paper; TRL's `epsilon`); null clips nothing (MiniOneRec)."""
    clip_range_high: PositiveFloat | None = None
    """ε above 1 where it differs (DAPO's clip higher: 0.28; TRL's `epsilon_high`)."""
    kl_weight: NonNegativeFloat = 1e-3
    """β of the KL divergence (k3) from the reference policy (TRL's `beta`); 0 keeps no reference."""
    reference: Reference = "auto"
    """`adapter` (the policy with its adapter off), `frozen` (the weights that are trained, as they began), `ema` (a
    moving average of them); `auto` is adapter under LoRA, else frozen."""
    reference_decay: Fraction = 0.99
    """Decay of `reference=ema` per step."""
    advantage_epsilon: PositiveFloat = 1e-6
    """Added to a group's standard deviation."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """Weights of the reward's terms."""
    validate_every: PositiveInt = 50
    """Rollout batches between two validations."""
    resume_from: str | None = None
    """A checkpoint to resume from instead of this stage's own last one; its configuration must be the same."""

    def __post_init__(self) -> None:
        check(
            self.group_size != 1,
            "grpo.group_size must be at least 2, a group of one has no advantage; it is 1",
        )
        check_values("grpo", self)
        check(
            self.minibatches <= self.prompts_per_step,
            f"grpo.minibatches={self.minibatches} is more than grpo.prompts_per_step={self.prompts_per_step}",
        )
        check(
            self.clip_range_high is None or self.clip_range is not None,
            "grpo.clip_range_high is set, but grpo.clip_range=null clips nothing",
        )

    @property
    def advantage_scale(self) -> str:
        """`group`, `batch` or `none`."""
        if self.advantage != "auto":
            return self.advantage
        return "none" if self.objective == "dr_grpo" else "group"
