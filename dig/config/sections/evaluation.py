"""The test."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check
from dig.config.sections.numbers import PositiveInt, Size, check_bounds

__all__ = ["EvaluationConfig"]


@dataclass
class EvaluationConfig:
    """The test: full ranking by constrained beam search."""

    ks: list[Size] = field(default_factory=lambda: [5, 10])
    """Cut-offs K of HR@K and NDCG@K."""
    num_beams: Size = 20
    """Beams, which is also the length of the stored ranking (20 in the paper)."""
    batch_size: Size = 256
    """Users a batch."""
    valid_users: PositiveInt | None = 1000
    """Validate on a fixed random subset of this many held-out items (leave-one-out has one a user), also to choose
    checkpoints; unset takes all."""
    valid_beams: Size = 20
    """Beams of the validation that chooses checkpoints."""
    max_users: PositiveInt | None = None
    """Evaluate a fixed random subset of this many tests (leave-one-out has one a user); unset takes all."""
    mask_history: bool = False
    """Leave items of the history out of the ranking; beam search bans them, so that beams are not spent on them."""

    def __post_init__(self) -> None:
        check_bounds("evaluation", self)
        check(bool(self.ks) and min(self.ks) > 0, f"evaluation.ks must be numbers above 0, it is {self.ks}")
        check(
            not self.ks or max(self.ks) <= self.num_beams,
            f"evaluation.ks asks for {max(self.ks)} items, evaluation.num_beams={self.num_beams} ranks fewer",
        )
