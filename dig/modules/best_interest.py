"""Which of several interests a target trains."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best_interests"]


def best_interests(interests: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The interest that fits each target best: the hard read-out of ComiRec (arXiv 2005.09347, equation 8).

    Args:
        interests: (targets, K, width).
        table: (items, width) the output layer.
        targets: (targets,) item rows.

    Returns:
        (targets, width), the first of interests that fit alike, and (targets, K - 1, width) the others in their order;
        which one is chosen has no gradient.
    """
    with torch.no_grad():
        chosen = (interests * table[targets].unsqueeze(1)).sum(dim=-1).argmax(dim=1)
    number, count, width = interests.shape
    best = interests[torch.arange(number, device=chosen.device), chosen]
    left = torch.arange(count, device=chosen.device) != chosen.unsqueeze(1)
    return best, interests[left].view(number, count - 1, width)
