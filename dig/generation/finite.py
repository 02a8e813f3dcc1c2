"""What a search says when a model's logits are no numbers."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NotFiniteError"]

_NAMED = 8


class NotFiniteError(ValueError):
    """A model gave logits that are not finite.

    Args:
        rows: places of the prompts in their batch.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"the model's logits are not finite for prompts {list(rows[:_NAMED])}")
        self.rows = list(rows)
