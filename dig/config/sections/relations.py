"""Relations between items, which two of the tasks of supervised fine-tuning name."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import PositiveInt, check_bounds

__all__ = ["NAMED", "RELATION_TASKS", "RelationsConfig"]

RELATION_TASKS = ("collaborative", "semantic")
"""Tasks that read relations between items."""
NAMED = 5
"""Neighbours that a task names, the first ones."""


@dataclass
class RelationsConfig:
    """Which items belong together, for the tasks `collaborative` and `semantic` (IIRG, arXiv 2606.17276)."""

    window: PositiveInt = 5
    """Two items are bought together when they stand within this many positions of a history's training part."""
    kept: PositiveInt = 10
    """Neighbours of an item that are kept; the tasks name the first five, the others are lent to items without."""
    collaborative: str = "cooccurrence"
    """Neighbours by behaviour: `cooccurrence`; or as a control `random` items, or `shuffled`, another item's."""
    semantic: str = "cosine"
    """Neighbours by meaning: `cosine` of the text's vectors; or as a control `random` items, or `shuffled`."""
    fill: bool = True
    """Give items with too few neighbours by behaviour those of the items whose text is most like theirs."""
    search: str = "auto"
    """How the nearest vectors are found: `exact`, in `cells` (k-means, not all of them), or `auto`: exact up to
    100,000 items."""
    probes: PositiveInt = 16
    """Cells that are searched for an item's neighbours; more find more of them and take longer."""

    def __post_init__(self) -> None:
        check_bounds("relations", self)
        check(
            self.kept >= NAMED,
            f"relations.kept must be {NAMED} or above, which is what the tasks name; it is {self.kept}",
        )
        check_choice("relations.collaborative", self.collaborative, ("cooccurrence", "random", "shuffled"))
        check_choice("relations.semantic", self.semantic, ("cosine", "random", "shuffled"))
        check_choice("relations.search", self.search, ("auto", "exact", "cells"))

    def compares_texts(self, tables: set[str]) -> bool:
        """Whether items' vectors are needed for the given tables, `collaborative` and `semantic`."""
        by_text = "semantic" in tables and self.semantic != "random"
        return by_text or ("collaborative" in tables and self.collaborative != "random" and self.fill)

    def draws(self, tables: set[str]) -> bool:
        """Whether chance, and so the seed, has a part in the given tables."""
        return any(getattr(self, table) in ("random", "shuffled") for table in tables)
