"""TIGER: the generative baseline, an encoder-decoder over Semantic IDs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dig.config.recommenders import RecommenderSpec
from dig.config.sections.checks import (
    Dropout,
    Fraction,
    Layers,
    LearningRate,
    NonNegativeInt,
    PositiveInt,
    Size,
    WeightDecay,
    check_values,
)
from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.recommenders.tiger.model import PAD, Tiger, build_t5, sid_vocabulary
    from dig.recommenders.tiger.module import TigerModule

__all__ = ["PAD", "SPEC", "Tiger", "TigerConfig", "TigerModule", "build_t5", "sid_vocabulary"]


@dataclass
class TigerConfig:
    """TIGER (arXiv 2305.05065), a T5 from scratch that reads the Semantic IDs of a history and spells the next item's.

    The paper has 4 layers, 6 heads of 64 and 1024 in the feed-forward layers, and 200,000 steps; the defaults are what
    a single core trains in an hour and a half on Beauty.
    """

    layers: Layers = 2
    """Layers of the encoder, and as many of the decoder."""
    d_model: Size = 128
    """Width."""
    d_ff: Size = 512
    """Width of the feed-forward layers."""
    heads: Size = 4
    """Attention heads."""
    d_kv: Size = 32
    """Width of a head."""
    dropout: Dropout = 0.1
    """Dropout on embeddings and on what attention and feed-forward layers compute."""
    max_history: Size = 20
    """Latest items that it reads."""
    batch_size: Size = 128
    """Next items per step and device."""
    learning_rate: LearningRate = 1.5e-3
    """Peak learning rate."""
    embedding_learning_rate: LearningRate = 7.5e-3
    """Peak learning rate of the token table, whose values start ten times as large as those of the other weights; T5's
    own optimiser makes its steps in proportion to a tensor's values, too (arXiv 1804.04235)."""
    warmup_steps: NonNegativeInt = 500
    """Steps with a rising learning rate; a cosine down to 0 follows."""
    weight_decay: WeightDecay = 0.01
    """AdamW's weight decay."""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the token cross-entropy."""
    epochs: PositiveInt = 26
    """Passes over the training part, at most."""
    patience: PositiveInt = 10
    """Stop after this many validations without improvement."""

    def __post_init__(self) -> None:
        check_values("tiger", self)


SPEC = RecommenderSpec(
    name="tiger",
    title="TIGER",
    settings=TigerConfig,
    stage="dig.recommenders.tiger.stage:STAGE",
    loader="dig.recommenders.tiger.model:load",
    needs=("prepare", "tokenize"),
    colour=3,
)

__getattr__ = lazy_names(
    __name__,
    {
        "PAD": "model",
        "Tiger": "model",
        "build_t5": "model",
        "sid_vocabulary": "model",
        "TigerModule": "module",
    },
)
