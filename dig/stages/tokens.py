"""The token arrays that SFT reads: an artifact per task, shared by every run with the same prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import polars as pl

import datamodules
from datamodules.leakage import guard_artifact, write_items_seen
from datamodules.mixture import TokenArrays, write_token_arrays
from datamodules.prompts import PromptBuilder
from datamodules.splits import Sequences, leading_items
from datamodules.tasks import TASKS, ItemTexts, TaskSource
from dig.config import UserError
from dig.config.schema import RELATION_TASKS
from dig.engine.artifacts import fingerprint
from dig.engine.console import warn
from dig.engine.stage import StageContext, build_alone
from dig.stages.label import load_interests
from dig.stages.prepare import load_catalogue
from dig.stages.relations import load_relations

__all__ = [
    "task_mixture",
    "interests_of_items",
    "known_of_items",
]


_KIND = "tokens"
_VERSION = 2
_ORIGIN = {"interests": "label", "semantic": "relations", "collaborative": "relations"}
"""The stage that what a task reads comes from, where that is not `prepare`."""


@dataclass
class _Writer:
    context: StageContext
    sequences: Sequences
    builder: PromptBuilder
    kinds: set[str]

    @cached_property
    def known(self) -> ItemTexts:
        """What the tasks read of items; looked up when the first array has to be written."""
        return known_of_items(self.context, self.kinds)

    def arrays(self, name: str) -> TokenArrays:
        """A task's token arrays, written by rank 0 on first use, and the record of the items in them."""
        context = self.context
        stages = {"prepare", *(_ORIGIN[kind] for kind in TASKS[name].reads if kind in _ORIGIN)}
        origin = {
            "version": _VERSION,
            "inputs": {stage: context.inputs[stage].fingerprint for stage in sorted(stages)},
            "prompts": self.builder.fingerprint(name),
            "seed": context.config.seed if len(self.builder.frames(name)) > 1 else None,
        }
        key = fingerprint(origin)
        return TokenArrays(build_alone(context, _KIND, key, partial(self._write, name), origin).path)

    def _write(self, name: str, folder: Path) -> None:
        windows = datamodules.training_windows(self.sequences, self.builder, name)
        write_token_arrays(TaskSource(name, self.builder, windows, self.known, self.context.config.seed), folder)
        counted = self.sequences.train if name == "collaborative" else windows.histories
        seen = leading_items(self.sequences, counted)
        write_items_seen(folder, self.sequences, seen, load_catalogue(self.context)["item_id"])


def task_mixture(
    context: StageContext, sequences: Sequences, builder: PromptBuilder, shares: dict[str, float], pack: bool
) -> datamodules.TaskMixture:
    """All tasks of an experiment, guarded against held-out items.

    Args:
        context: the stage's.
        sequences: the split.
        builder: the prompt builder.
        shares: how much of each task an epoch holds.
        pack: lay several samples side by side in a row.
    """
    writer = _Writer(context, sequences, builder, {kind for name in shares for kind in TASKS[name].reads})
    item_ids = load_catalogue(context)["item_id"]
    parts = []
    for name, share in shares.items():
        arrays = writer.arrays(name)
        guard_artifact(f"sft: the samples of {name}", arrays.folder, sequences, item_ids)
        if not len(arrays):
            warn(f"sft: the task {name} has no samples here: the items tell nothing that it needs")
            continue
        _check_context(name, arrays, builder)
        parts.append(datamodules.TaskPart(arrays, getattr(context.config.sft.tasks, name).weight, share))
    return datamodules.TaskMixture(parts, pack)


def _check_context(name: str, arrays: TokenArrays, builder: PromptBuilder) -> None:
    """Refuses samples that a pretrained backbone was not made to read."""
    longest = int(arrays.lengths.max())
    if builder.knows_text and builder.context is not None and longest > builder.context:
        raise UserError(
            f"sft.tasks.{name}: its longest sample has {longest:,} tokens, and the backbone reads {builder.context:,}; "
            f"lower prompt.max_text_tokens or prompt.max_history, or leave it out (sft.tasks.{name}.share=0)"
        )


_INTERESTS = 5  # positive interests that are told of an item


def known_of_items(context: StageContext, kinds: set[str]) -> ItemTexts:
    """What of the items is asked for: ``title``, ``description``, ``interests``, ``collaborative``, ``semantic``."""
    catalogue = load_catalogue(context)
    item_texts = ItemTexts()
    for kind in ("title", "description"):
        if kind in kinds:
            texts = catalogue[kind].to_list() if kind in catalogue.columns else [None] * len(catalogue)
            setattr(item_texts, kind, texts)
    if "interests" in kinds:
        item_texts.interests = interests_of_items(context, catalogue["item_id"].to_list())
    for kind in kinds & set(RELATION_TASKS):
        setattr(item_texts, kind, load_relations(context)[kind])
    return item_texts


def interests_of_items(context: StageContext, item_ids: list[str]) -> list[str | None]:
    """Each item's positive interests, joined, as the miners ordered them; None for an item without."""
    labelled = load_interests(context)
    positive = labelled.filter(pl.col("label") == 1).group_by("item_id", maintain_order=True)
    joined = dict(positive.agg(pl.col("text").head(_INTERESTS).str.join(", ")).iter_rows())
    return [joined.get(item_id) for item_id in item_ids]
