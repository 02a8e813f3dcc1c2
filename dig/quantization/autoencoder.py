"""The multi-layer perceptrons around the quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given widths, ``(batch, widths[0])`` to ``(batch, widths[-1])``, with SiLU between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
