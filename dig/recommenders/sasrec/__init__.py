"""SASRec: the baseline, and the sequential model whose opinion a reward may pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dig.config.recommenders import RecommenderSpec
from dig.config.sections.checks import (
    Dropout,
    Fraction,
    Layers,
    LearningRate,
    PositiveFloat,
    PositiveInt,
    Size,
    WeightDecay,
    check,
    check_values,
)
from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.recommenders.sasrec.model import SASRec
    from dig.recommenders.sasrec.module import SASRecModule

__all__ = ["SPEC", "SASRec", "SASRecConfig", "SASRecModule"]


@dataclass
class SASRecConfig:
    """SASRec with a full softmax (arXiv 1808.09781); `grpo.reward.collaborative` asks for it, too."""

    hidden_size: Size = 128
    """Width."""
    layers: Layers = 2
    """Depth."""
    heads: Size = 2
    """Attention heads."""
    feed_forward: Size = 1
    """Width of the feed-forward layers, times `hidden_size` (1 in the paper)."""
    scale: PositiveFloat | None = 18.0
    """An item's score is this many times the cosine of its vector and the state, so that popular items' long vectors
    do not win by their length (NISER, arXiv 1909.04276); unset takes the inner product, as SASRec's paper does."""
    dropout: Dropout = 0.5
    """Dropout."""
    max_history: Size = 50
    """Latest items that it reads."""
    batch_size: Size = 128
    """Histories per step and device."""
    learning_rate: LearningRate = 1e-3
    """Highest learning rate."""
    warmup_ratio: Fraction = 0.02
    """Share of the steps in which the learning rate rises; a cosine down to 0 follows."""
    weight_decay: WeightDecay = 0.0
    """AdamW's weight decay."""
    epochs: PositiveInt = 26
    """Passes over the histories, at most."""
    patience: PositiveInt = 10
    """Stop after this many validations without improvement."""

    def __post_init__(self) -> None:
        check_values("sasrec", self)
        check(
            self.hidden_size % self.heads == 0,
            f"sasrec.hidden_size={self.hidden_size} cannot be cut into sasrec.heads={self.heads}",
        )


SPEC = RecommenderSpec(
    name="sasrec",
    title="SASRec",
    settings=SASRecConfig,
    stage="dig.recommenders.sasrec.stage:STAGE",
    loader="dig.recommenders.sasrec.model:load",
    colour=2,
)

__getattr__ = lazy_names(__name__, {"SASRec": "model", "SASRecModule": "module"})
