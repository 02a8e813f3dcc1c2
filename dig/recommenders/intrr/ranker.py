"""IntRR (arXiv 2602.20704) as a ranker: a history is read once, and the beams live in the assignment network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.prompts import ItemPrompts, Prompts
from dig.config import Config
from dig.config.schema import PromptConfig
from dig.evaluation.beams import BeamRanker
from dig.generation.factory import check_intrr
from dig.generation.intrr import IntRR, intrr_vocabulary

__all__ = ["IntRRRanker", "load"]


class IntRRRanker(BeamRanker):
    """Ranks items after a history.

    Args:
        model: the model; its Semantic IDs are the catalogue.
        builder: the prompts of its catalogue.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories per batch.
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


def load(folder: Path, config: Config, device: torch.device | str | None) -> IntRRRanker:
    """The ranker of a finished stage."""
    model = IntRR.load(folder)
    check_intrr(model, str(folder))
    builder = ItemPrompts(len(model.codes), PromptConfig(max_history=model.sizes.max_history))
    return IntRRRanker(model, builder, config.evaluation.num_beams, config.evaluation.batch_size, device)
