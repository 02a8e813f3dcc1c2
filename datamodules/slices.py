"""Slices of the held-out examples, labelled once: how well known the target is, how long the history."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from datamodules.splits import Sequences

__all__ = ["label_slices"]

_RARE = 5
_LENGTHS = (1, 5, 10, 20)


def label_slices(sequences: Sequences, num_items: int) -> pl.DataFrame:
    """A row an example of validation and test, in the order of :meth:`Sequences.held_out`.

    Args:
        sequences: all users.
        num_items: size of the catalogue.

    Returns:
        ``part`` (valid or test); ``target_slice``, how often the training part holds the target: ``cold`` never,
        ``rare`` up to five times, else ``warm``; ``history_slice``, items in the history: ``1-4``, ``5-9``, ``10-19``,
        ``20+``.
    """
    counts = np.bincount(sequences.train.flat(), minlength=num_items)
    frames = []
    for part in ("valid", "test"):
        held_out = sequences.held_out(part)
        seen = counts[held_out.targets]
        popularity = np.select([seen == 0, seen <= _RARE], ["cold", "rare"], "warm")
        bucket = np.searchsorted(_LENGTHS, held_out.histories.lengths, side="right") - 1
        lengths = np.array(_bucket_names())[bucket]
        frames.append(
            pl.DataFrame({"target_slice": popularity, "history_slice": lengths}).with_columns(
                pl.lit(part).alias("part")
            )
        )
    return pl.concat(frames).select("part", "target_slice", "history_slice")


def _bucket_names() -> list[str]:
    return [*(f"{low}-{high - 1}" for low, high in pairwise(_LENGTHS)), f"{_LENGTHS[-1]}+"]
