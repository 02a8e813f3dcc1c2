"""Settings of supervised fine-tuning: its tasks, the relations they read, and items of one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from dig.config.errors import nearest
from dig.config.sections.backbone import BackboneConfig, PromptConfig
from dig.config.sections.checks import (
    Dropout,
    Fraction,
    LearningRate,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Size,
    WeightDecay,
    check,
    check_values,
)

__all__ = [
    "SFTConfig",
    "COMPACT_TASKS",
    "INTEREST_TASKS",
    "TaskConfig",
    "TasksConfig",
    "active_shares",
    "NAMED",
    "RELATION_TASKS",
    "RelationsConfig",
    "ONE_TOKEN_SIZES",
    "check_one_token",
    "one_token_sizes",
]


COMPACT_TASKS = ("next_item", "collaborative", "semantic")
"""Tasks of Semantic IDs alone, which a backbone without text can learn."""
INTEREST_TASKS = ("interest_to_sid", "sid_to_interests", "next_interests")
"""Tasks that read labelled interests."""


@dataclass
class TaskConfig:
    """A task of supervised fine-tuning."""

    weight: PositiveFloat = 1.0
    """Factor on the loss of its samples."""
    share: NonNegativeFloat | None = None
    """How many of its samples an epoch holds: 1 each once, 0.5 half of them, 2 each twice, 0 none; unset decides by
    the backbone: all tasks for one that knows text, `next_item` alone for one from scratch."""


@dataclass
class TasksConfig:
    """Tasks of supervised fine-tuning, each with a weight and a share."""

    next_item: TaskConfig = field(default_factory=TaskConfig)
    """History → Semantic ID of the next item."""
    title_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Title → Semantic ID."""
    sid_to_title: TaskConfig = field(default_factory=TaskConfig)
    """Semantic ID → title."""
    description_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Description → Semantic ID."""
    interest_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Positive interests → Semantic ID."""
    sid_to_interests: TaskConfig = field(default_factory=TaskConfig)
    """Semantic ID → positive interests."""
    title_history: TaskConfig = field(default_factory=TaskConfig)
    """Titles of a history → Semantic ID of the next item."""
    next_title: TaskConfig = field(default_factory=TaskConfig)
    """History → title of the next item."""
    next_interests: TaskConfig = field(default_factory=TaskConfig)
    """History → positive interests behind the next item."""
    collaborative: TaskConfig = field(default_factory=TaskConfig)
    """Item → the five items most often bought near it in the training part (IIRG, arXiv 2606.17276)."""
    semantic: TaskConfig = field(default_factory=TaskConfig)
    """Item → the five items with the most similar text (IIRG, arXiv 2606.17276)."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            task = getattr(self, entry.name)
            check(task.weight != 0, f"sft.tasks.{entry.name}.weight must be above 0, it is 0; share=0 switches it off")
            check_values(f"sft.tasks.{entry.name}", task)


def active_shares(tasks: TasksConfig, knows_text: bool) -> dict[str, float]:
    """Share of each task that is learned, those of 0 left out.

    Raises:
        UserError: a task of words is asked of a backbone that knows none, or nothing is left to learn.
    """
    shares = {}
    for entry in fields(tasks):
        asked = getattr(tasks, entry.name).share
        check(
            knows_text or not asked or entry.name in COMPACT_TASKS,
            f"sft.tasks.{entry.name}.share={asked} needs a backbone that knows text: set backbone.pretrained and "
            "leave prompt.style=text",
        )
        share = asked if asked is not None else float(knows_text or entry.name == "next_item")
        if share:
            shares[entry.name] = share
    check(bool(shares), "sft.tasks leaves nothing to learn: every share is 0")
    return shares


RELATION_TASKS = ("collaborative", "semantic")
"""Tasks that read relations between items."""
NAMED = 5
"""Neighbours that a task names, the first ones."""


@dataclass
class RelationsConfig:
    """Which items belong together, for the tasks `collaborative` and `semantic` (IIRG, arXiv 2606.17276)."""

    window: PositiveInt = 5
    """Two items are bought together when they stand within this many positions of a history's training part."""
    kept: PositiveInt = 10
    """Neighbours of an item that are kept; the tasks name the first five, the others are lent to items without."""
    collaborative: Literal["cooccurrence", "random", "shuffled"] = "cooccurrence"
    """Neighbours by behaviour: `cooccurrence`; or as a control `random` items, or `shuffled`, another item's."""
    semantic: Literal["cosine", "random", "shuffled"] = "cosine"
    """Neighbours by meaning: `cosine` of the text's vectors; or as a control `random` items, or `shuffled`."""
    fill: bool = True
    """Give items with too few neighbours by behaviour those of the items whose text is most like theirs."""
    search: Literal["auto", "exact", "cells"] = "auto"
    """How the nearest vectors are found: `exact`, in `cells` (k-means, not all of them), or `auto`: exact up to
    100,000 items."""
    probes: PositiveInt = 16
    """Cells that are searched for an item's neighbours; more find more of them and take longer."""

    def __post_init__(self) -> None:
        check_values("relations", self)
        check(
            self.kept >= NAMED,
            f"relations.kept must be {NAMED} or above, which is what the tasks name; it is {self.kept}",
        )

    def compares_texts(self, tables: set[str]) -> bool:
        """Whether items' vectors are needed for the given tables, `collaborative` and `semantic`."""
        by_text = "semantic" in tables and self.semantic != "random"
        return by_text or ("collaborative" in tables and self.collaborative != "random" and self.fill)

    def draws(self, tables: set[str]) -> bool:
        """Whether chance, and so the seed, has a part in the given tables."""
        return any(getattr(self, table) in ("random", "shuffled") for table in tables)


@dataclass
class SFTConfig:
    """Supervised fine-tuning on the next item."""

    learning_rate: LearningRate = 1e-3
    """Peak learning rate; 3e-4 is the paper's for LoRA on a 7B backbone."""
    weight_decay: WeightDecay = 0.05
    """AdamW's weight decay."""
    warmup_ratio: Fraction = 0.05
    """Share of the steps with a rising learning rate; a cosine follows."""
    batch_size: Size = 128
    """Training sequences per step and device."""
    pack: bool = True
    """Lay several sequences side by side in a row under a block mask: the same gradients with less padding."""
    epochs: PositiveInt = 10
    """Passes over the training part."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimiser steps, whatever the epochs say."""
    gradient_clip_val: PositiveFloat = 1.0
    """Gradients are clipped at this norm."""
    patience: PositiveInt = 3
    """Stop after this many validations without a better NDCG@10."""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the token cross-entropy."""
    dropout: Dropout = 0.0
    """For a backbone from scratch: dropout on embeddings and on what attention and feed-forward blocks add, besides the
    architecture's own."""
    softmax: Literal["vocabulary", "level"] = "vocabulary"
    """What a SID token competes with in the loss: the whole `vocabulary`, or the codes of its `level`."""
    new_rows_steps: NonNegativeInt = 0
    """First steps that train the SID rows alone, for a pretrained backbone."""
    resume_from: str | None = None
    """A checkpoint to resume from instead of this stage's own last one; its configuration must be the same."""
    tasks: TasksConfig = field(default_factory=TasksConfig)

    def __post_init__(self) -> None:
        check_values("sft", self)


ONE_TOKEN_SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
}
"""What of ``backbone.config`` decides the shape, with the values of a backbone from scratch where it is unset."""


def one_token_sizes(config: BackboneConfig) -> dict[str, int]:
    """The sizes of the transformer."""
    return {**ONE_TOKEN_SIZES, **config.config}


def check_one_token(
    backbone: BackboneConfig, prompt: PromptConfig, sft: SFTConfig, shares: Mapping[str, float]
) -> None:
    """Refuses what does not go together.

    Raises:
        UserError: with the key.
    """
    one = "items.representation=one"
    check(backbone.pretrained is None, f"{one} builds its backbone from scratch; unset backbone.pretrained")
    unknown = [key for key in backbone.config if key not in ONE_TOKEN_SIZES]
    if unknown:
        hint = nearest(unknown[0], ONE_TOKEN_SIZES)
        check(
            False,
            f"{one} reads {', '.join(ONE_TOKEN_SIZES)} of backbone.config, not {unknown[0]}"
            f"{f'; did you mean {hint}?' if hint else ''}",
        )
    sizes = one_token_sizes(backbone)
    for key, value in sizes.items():
        check(isinstance(value, int) and value > 0, f"backbone.config.{key} must be a number above 0, it is {value!r}")
    check(
        sizes["hidden_size"] % sizes["num_attention_heads"] == 0,
        f"backbone.config.hidden_size={sizes['hidden_size']} cannot be cut into "
        f"backbone.config.num_attention_heads={sizes['num_attention_heads']}",
    )
    relations = [name for name in shares if name in RELATION_TASKS]
    check(
        not relations or prompt.max_history > NAMED,
        f"sft.tasks.{relations[0] if relations else ''} under {one} needs room for {NAMED + 1} items, "
        f"prompt.max_history={prompt.max_history} is too short",
    )
    check(prompt.style != "text", f"{one} reads no text; take prompt.style=auto")
    check(not backbone.gradient_checkpointing, f"{one} has no backbone.gradient_checkpointing; leave it out")
    check(sft.label_smoothing == 0.0, f"{one} has no sft.label_smoothing; leave it out")
    check(sft.new_rows_steps == 0, f"{one} has no new rows to train first; leave sft.new_rows_steps out")
