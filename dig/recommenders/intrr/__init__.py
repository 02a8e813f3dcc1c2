"""IntRR: one vector per item, codes chosen inside one small network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dig.config.recommenders import RecommenderSpec
from dig.config.sections.backbone import AssignmentConfig
from dig.config.sections.checks import (
    Dropout,
    Fraction,
    Layers,
    LearningRate,
    PositiveInt,
    Size,
    WeightDecay,
    check,
    check_values,
)
from dig.engine.lazy import lazy_names

if TYPE_CHECKING:
    from dig.recommenders.intrr.module import IntRRModule
    from dig.recommenders.intrr.ranker import IntRRRanker

__all__ = ["SPEC", "IntRRConfig", "IntRRModule", "IntRRRanker"]


@dataclass
class IntRRConfig:
    """IntRR (arXiv 2602.20704): a causal transformer that reads one vector per item and spells the next one's codes."""

    hidden_size: Size = 128
    """Width."""
    layers: Layers = 2
    """Depth."""
    heads: Size = 2
    """Attention heads."""
    feed_forward: Size = 1
    """Width of the feed-forward layers, times `hidden_size`."""
    dropout: Dropout = 0.5
    """Dropout of the transformer."""
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
    assignment: AssignmentConfig = field(default_factory=AssignmentConfig)

    def __post_init__(self) -> None:
        check_values("intrr", self)
        check(
            self.hidden_size % self.heads == 0,
            f"intrr.hidden_size={self.hidden_size} cannot be cut into intrr.heads={self.heads}",
        )


SPEC = RecommenderSpec(
    name="intrr",
    title="IntRR",
    settings=IntRRConfig,
    stage="dig.recommenders.intrr.stage:STAGE",
    loader="dig.recommenders.intrr.ranker:load",
    needs=("prepare", "tokenize"),
    logs=lambda config: ["train/alignment"],
    colour=7,
)

__getattr__ = lazy_names(__name__, {"IntRRModule": "module", "IntRRRanker": "ranker"})
