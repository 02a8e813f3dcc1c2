"""IntRR (arXiv 2602.20704) as a ranker: a history is read once, and the beams live in the assignment network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from dig.evaluation.rankers import BeamRanker
from dig.generation.intrr import IntRR, intrr_vocabulary

if TYPE_CHECKING:
    from datamodules.prompts import ItemPrompts, Prompts

__all__ = ["IntRRRanker"]


class IntRRRanker(BeamRanker):
    """Ranks items after a history.

    Args:
        model: the model; its Semantic IDs are the catalogue.
        builder: the prompts of its catalogue.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories a batch.
        device: where to compute; None takes a GPU if there is one.
    """

    def __init__(
        self,
        model: IntRR,
        builder: ItemPrompts,
        num_beams: int = 20,
        batch_size: int = 256,
        device: torch.device | str | None = None,
    ) -> None:
        self.builder = builder
        tokens = intrr_vocabulary(model.sizes.codes).encode(model.codes.cpu())
        super().__init__(model, tokens, num_beams, batch_size, device)
        self.model.remember()

    def prompts(self, histories: Sequence[np.ndarray]) -> Prompts:
        """The items of each history."""
        return self.builder.prompts(histories)
