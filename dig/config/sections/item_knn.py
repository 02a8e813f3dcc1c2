"""Item-kNN by co-occurrence."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_positive

__all__ = ["ItemKNNConfig"]


@dataclass
class ItemKNNConfig:
    """Neighbours of the items of a history, weighted by how late they were bought."""

    neighbours: int = 200
    """Nearest items that are kept of each."""
    shrinkage: float = 5.0
    """Purchases in common that a similarity needs to be believed half."""
    decay: float = 0.6
    """Weight of an item, times this for every later item of the history; 1 weighs all the same."""

    def __post_init__(self) -> None:
        check_positive("item_knn", self, "neighbours", "decay")
        check(self.shrinkage >= 0, f"item_knn.shrinkage must not be negative, it is {self.shrinkage}")
        check(self.decay <= 1, f"item_knn.decay must be at most 1, it is {self.decay}")
