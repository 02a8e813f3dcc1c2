"""What the stages behind the preparation would refuse of a data set, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from datamodules.fetching import item_pictures
from datamodules.leakage import guard
from datamodules.preparation import Prepared
from dig.config import Config, UserError
from dig.interests import read_user_interests

__all__ = ["find_refusals"]

_WORDS = ("title", "brand", "categories", "description")


def find_refusals(prepared: Prepared, config: Config) -> list[tuple[str, str]]:
    """Stage and reason of every refusal that the data of an experiment would meet after they were prepared.

    Args:
        prepared: the data.
        config: the experiment.
    """
    found = [*_catalogue(prepared, config), *_sequences(prepared)]
    for stage, check in (("pictures", _pictures), ("mine", _interests)):
        try:
            check(prepared, config)
        except UserError as error:
            found.append((stage, str(error)))
    return found


def _catalogue(prepared: Prepared, config: Config) -> Iterator[tuple[str, str]]:
    items = len(prepared.catalogue)
    if items == 1:
        yield "tokenize", "the catalogue has one item, so there is nothing to tell apart"
    size, rollouts = config.grpo.group_size, config.grpo.rollouts
    if rollouts != "sample" and size > items:
        yield (
            "grpo",
            (
                f"grpo.group_size={size} is more than the {items} items of the catalogue, and grpo.rollouts={rollouts} "
                "takes none twice: lower it, or take rollouts=sample"
            ),
        )
    fields = [name for name in config.embedding.fields if name in _WORDS]
    others = config.mining.captions or set(config.mining.miners) - {"lexical"}
    if not others and prepared.catalogue.select(pl.all_horizontal(pl.col(fields).is_null()).all()).item():
        yield "embed", f"none of the {items:,} items has any text in embedding.fields={config.embedding.fields}"


def _sequences(prepared: Prepared) -> Iterator[tuple[str, str]]:
    if not (prepared.sequences.train.lengths >= 2).any():
        yield "sft", "no user has two items in the training part, so there is no next item to learn"


def _pictures(prepared: Prepared, config: Config) -> None:
    if config.visual.model is not None and config.data.source != "quickstart":
        item_pictures(prepared.catalogue, Path(config.visual.folder or config.data.path or "").expanduser())


def _interests(prepared: Prepared, config: Config) -> None:
    if config.mining.user_interests is None:
        return
    path = Path(config.mining.user_interests).expanduser()
    if not path.is_file():
        raise UserError(f"mining.user_interests: there is no file {path}")
    sequences = prepared.sequences
    seen = read_user_interests(path, sequences.user_ids.to_list()).interests
    guard(path.name, seen, sequences, prepared.catalogue["item_id"], config.data.leaks)
