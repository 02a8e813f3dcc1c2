"""How much of each of several data sets an epoch holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["draw_shares"]


def draw_shares(counts: Sequence[int], wanted: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers of the samples of an epoch in random order: (sum of ``wanted``,), one data set's behind the other's.

    More than there are repeats samples, fewer takes a part, a new one with every epoch.

    Args:
        counts: samples of each data set.
        wanted: samples of each that the epoch holds.
        generator: decides.
    """
    chosen, begin = [], 0
    for count, number in zip(counts, wanted, strict=True):
        if number:
            turns = [torch.randperm(count, generator=generator) for _ in range(-(-number // count))]
            chosen.append(begin + torch.cat(turns)[:number])
        begin += count
    if len(chosen) == 1:
        return chosen[0]
    everything = torch.cat(chosen)
    return everything[torch.randperm(len(everything), generator=generator)]
