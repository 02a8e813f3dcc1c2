"""TIGER (arXiv 2305.05065): a T5 reads the Semantic IDs of a history and spells the next item's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.item_sequences import HistoryTokens
from dig.config import Config
from dig.engine.lazy import transformers
from dig.engine.weights import load_complete, without_bars
from dig.evaluation.beams import BeamRanker
from dig.generation.factory import check_paths
from dig.generation.vocabulary import SidVocabulary
from dig.quantization import SemanticIds
from dig.received.models import check_model_folder, check_vocabulary
from dig.recommenders.tiger import SPEC, TigerConfig

__all__ = ["PAD", "Tiger", "build_t5", "load", "load_t5", "sid_vocabulary"]

PAD = 0
"""Token at padding."""
_START = 1
_SPECIAL = 2
# Scores that are masked and biased in float32, as training sees them; other kernels round elsewhere.
_ATTENTION = "eager"


def sid_vocabulary(sizes: Sequence[int]) -> SidVocabulary:
    """A token for every code of every level, behind padding and the decoder's start."""
    firsts = np.cumsum([_SPECIAL, *sizes[:-1]])
    return SidVocabulary(tuple(sizes), tuple(firsts.tolist()))


def build_t5(sizes: Sequence[int], config: TigerConfig) -> Any:
    """A T5 with random weights for Semantic IDs of ``sizes`` codes per level, the suffix level included."""
    model = transformers.T5ForConditionalGeneration._from_config(
        transformers.T5Config(
            vocab_size=_SPECIAL + sum(sizes),
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.layers,
            num_decoder_layers=config.layers,
            num_heads=config.heads,
            dropout_rate=config.dropout,
            feed_forward_proj="relu",
            pad_token_id=PAD,
            decoder_start_token_id=_START,
            eos_token_id=None,
        ),
        attn_implementation=_ATTENTION,
    )
    check_paths(model, "tiger")
    return model


def load_t5(folder: Path) -> Any:
    """The T5 that ``save_pretrained`` wrote.

    Raises:
        UserError: its files lack weights, or its scores are not its own.
    """
    check_model_folder(folder, transformers.T5ForConditionalGeneration, ("t5",))
    model = load_complete(
        transformers.T5ForConditionalGeneration.from_pretrained, folder, str(folder), attn_implementation=_ATTENTION
    )
    check_paths(model, str(folder))
    return model


class Tiger(BeamRanker):
    """Ranks items after a history by constrained beam search.

    Args:
        model: a T5 over the tokens of :func:`sid_vocabulary`.
        tokens: how histories and items are spelled.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories per batch.
        device: where to compute; None takes a GPU if there is one.
    """

    def __init__(
        self,
        model: Any,
        tokens: HistoryTokens,
        num_beams: int = 20,
        batch_size: int = 256,
        device: torch.device | str | None = None,
    ) -> None:
        self.tokens = tokens
        super().__init__(model, tokens.item_tokens, num_beams, batch_size, device)

    def prompts(self, histories: Sequence[np.ndarray]) -> Any:
        """The tokens of each history."""
        return self.tokens.prompts(histories)


def load(folder: Path, config: Config, device: torch.device | str | None) -> Tiger:
    """The ranker of a finished stage."""
    ids = SemanticIds.load(folder / "semantic_ids.parquet")
    vocabulary, settings = sid_vocabulary(ids.sizes), SPEC.of(config)
    tokens = HistoryTokens(vocabulary.encode(ids.codes), settings.max_history, PAD)
    with without_bars():
        model = load_t5(folder)
    check_vocabulary(folder, model, int(tokens.item_tokens.max()))
    return Tiger(model, tokens, config.evaluation.num_beams, config.evaluation.batch_size, device)
