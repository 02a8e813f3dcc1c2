"""Item-kNN by co-occurrence."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.numbers import NonNegativeFloat, PositiveFraction, PositiveInt, check_bounds

__all__ = ["ItemKNNConfig"]


@dataclass
class ItemKNNConfig:
    """Neighbours of the items of a history, weighted by how late they were bought."""

    neighbours: PositiveInt = 200
    """Nearest items that are kept of each."""
    shrinkage: NonNegativeFloat = 5.0
    """Purchases in common that a similarity needs to be believed half."""
    decay: PositiveFraction = 0.6
    """Weight of an item, times this for every later item of the history; 1 weighs all the same."""

    def __post_init__(self) -> None:
        check_bounds("item_knn", self)
