"""Supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check_choice
from dig.config.sections.numbers import (
    Dropout,
    Fraction,
    LearningRate,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Size,
    WeightDecay,
    check_bounds,
)
from dig.config.sections.tasks import TasksConfig

__all__ = ["SFTConfig"]


@dataclass
class SFTConfig:
    """Supervised fine-tuning on the next item."""

    learning_rate: LearningRate = 1e-3
    """Peak learning rate; 3e-4 is the paper's for LoRA on a 7B backbone."""
    weight_decay: WeightDecay = 0.05
    """AdamW's weight decay."""
    warmup_fraction: Fraction = 0.05
    """Share of the steps with a rising learning rate; a cosine follows."""
    batch_size: Size = 128
    """Training sequences a step and device."""
    pack: bool = True
    """Lay several sequences side by side in a row under a block mask: the same gradients with less padding."""
    epochs: PositiveInt = 10
    """Passes over the training part."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimiser steps, whatever the epochs say."""
    clip_norm: PositiveFloat = 1.0
    """Gradients are clipped at this norm."""
    patience: PositiveInt = 3
    """Stop after this many validations without a better NDCG@10."""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the token cross-entropy."""
    dropout: Dropout = 0.0
    """For a backbone from scratch: dropout on embeddings and on what attention and feed-forward blocks add, besides the
    architecture's own."""
    item_tokens: str = "codes"
    """How a backbone from scratch reads and spells items: `codes` (or own tokens) of its vocabulary, or `one` vector an
    item, with a small network behind it that chooses the next one's codes (IntRR, `intrr.assignment`). With `one`,
    `backbone.config` gives sizes alone, and `prompt.item_token`, `prompt.codes`, `backbone.sid_rows`, `sft.softmax` and
    `sft.pack` have no say."""
    softmax: str = "vocabulary"
    """What a SID token competes with in the loss: the whole `vocabulary`, or the codes of its `level`."""
    new_rows_steps: NonNegativeInt = 0
    """First steps that train the SID rows alone, for a pretrained backbone."""
    resume_from: str | None = None
    """A checkpoint to go on from instead of this stage's own last one; its configuration must be the same."""
    tasks: TasksConfig = field(default_factory=TasksConfig)

    def __post_init__(self) -> None:
        check_bounds("sft", self)
        check_choice("sft.item_tokens", self.item_tokens, ("codes", "one"))
        check_choice("sft.softmax", self.softmax, ("vocabulary", "level"))
