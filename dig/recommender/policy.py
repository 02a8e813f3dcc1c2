"""A trained language model as a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.prompts import Prompts, prompt_builder
from dig.config import Config
from dig.config.schema import PromptConfig
from dig.engine.weights import without_bars
from dig.evaluation.beams import BeamRanker
from dig.generation.backbone import Backbone, load_backbone
from dig.quantization import SemanticIds

__all__ = ["PolicyRanker", "load"]


class PolicyRanker(BeamRanker):
    """Ranks items after a prompt that tells the history.

    Args:
        backbone: model and tokenizer.
        ids: the Semantic ID table as the backbone spells it.
        prompt: style and longest history.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories per batch.
        device: where to compute; None takes a GPU if there is one.
    """

    def __init__(
        self,
        backbone: Backbone,
        ids: SemanticIds,
        prompt: PromptConfig,
        num_beams: int = 20,
        batch_size: int = 256,
        device: torch.device | str | None = None,
    ) -> None:
        tokens = backbone.vocabulary.encode(ids.codes)
        self.builder = prompt_builder(backbone, ids, prompt)
        super().__init__(backbone.model, tokens, num_beams, batch_size, device)
        backbone.remember()

    @classmethod
    def load(cls, folder: Path, config: Config, device: torch.device | str | None = None) -> PolicyRanker:
        """Reads a policy's model folder, which holds its Semantic ID table."""
        ids = SemanticIds.load(folder / "semantic_ids.parquet")
        evaluation = config.evaluation
        return cls(
            load_backbone(folder, ids.sizes), ids, config.prompt, evaluation.num_beams, evaluation.batch_size, device
        )

    def prompts(self, histories: Sequence[np.ndarray]) -> Prompts:
        """What the model is told of each history."""
        return self.builder.prompts(histories)


def load(folder: Path, config: Config, device: torch.device | str | None) -> PolicyRanker:
    """The ranker of a finished stage."""
    with without_bars():
        return PolicyRanker.load(folder, config, device)
