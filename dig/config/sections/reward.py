"""What rollouts are paid for."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import NonNegativeFloat, check_bounds

__all__ = ["COMBINATIONS", "RewardConfig"]

COMBINATIONS = ("sum", "apart")
_TERMS = ("hit", "valid", "prefix", "interest", "similarity", "rank", "collaborative", "diversity", "novelty", "unseen")


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
    combine: str = "sum"
    """`sum`: the weighted sum gives the advantages; `apart`: each term gives its own, and those are summed (GDPO,
    arXiv 2601.05242)."""

    def __post_init__(self) -> None:
        check_bounds("grpo.reward", self)
        weights = self.weights
        check(max(weights.values()) > 0, "grpo.reward weights are all 0, so there is nothing to learn from")
        known = [name for name in self.extra if name in _TERMS]
        check(
            not known,
            f"grpo.reward.extra.{known[0] if known else ''} is a term of its own: set grpo.reward."
            f"{known[0] if known else ''}",
        )
        check_choice("grpo.reward.combine", self.combine, COMBINATIONS)

    @property
    def weights(self) -> dict[str, float]:
        """Every term's weight by name."""
        return {name: getattr(self, name) for name in _TERMS} | self.extra
