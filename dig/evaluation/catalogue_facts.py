"""What metrics beyond accuracy know of items: how often they were bought, and their categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["CatalogueFacts"]


@dataclass(frozen=True)
class CatalogueFacts:
    """Facts of the training part.

    Attributes:
        counts: (items,) int64 occurrences.
        buyers: (items,) int64 different users who have it.
        users: users with a history.
        categories: numbers of the categories of all items, one after the other, int64; None where none is known.
        offsets: (items + 1,) item i has ``categories[offsets[i]:offsets[i + 1]]``; None as above.
    """

    counts: Tensor
    buyers: Tensor
    users: int
    categories: Tensor | None = None
    offsets: Tensor | None = None

    @classmethod
    def of(
        cls,
        counts: np.ndarray,
        users: int,
        categories: Sequence[Sequence[str] | None] | None = None,
        buyers: np.ndarray | None = None,
    ) -> CatalogueFacts:
        """Numbers the categories.

        Args:
            counts: (items,) occurrences.
            buyers: (items,) different users who have each; None where nobody has an item twice.
            users: users with a history.
            categories: (items,) names of each item's categories, None or empty where it has none. One that all items
                with a category are of tells nothing and is left out.
        """
        given = [set(names or ()) for names in categories or ()]
        of_all = set.intersection(*(names for names in given if names)) if any(given) else set()
        known = [sorted(names - of_all) for names in given]
        occurrences, people = (
            torch.from_numpy(each.astype(np.int64)) for each in (counts, counts if buyers is None else buyers)
        )
        if not any(known):
            return cls(occurrences, people, users)
        numbers = {name: number for number, name in enumerate(sorted({name for names in known for name in names}))}
        flat = torch.tensor([numbers[name] for names in known for name in names])
        offsets = torch.tensor([0, *np.cumsum([len(names) for names in known])])
        return cls(occurrences, people, users, flat, offsets)
