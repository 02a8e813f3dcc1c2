"""MLIM with several miners: what they found of one item in different words becomes one interest with several votes.

How several models' answers are merged is not published (DeepInterestGR, arXiv 2602.18907); this is our own way.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import polars as pl

from dig.interests.contradictions import contradict
from dig.interests.interest import INTEREST_SCHEMA, fold_column

__all__ = ["Merged", "merge_interests"]

_CHUNK = 16_384
_ROUNDING = 1e-6
"""What a cosine in float32 may fall short of, so that equal vectors are alike at any similarity."""


class Merged(NamedTuple):
    """What :func:`merge_interests` made of the miners' lists."""

    interests: pl.DataFrame
    """:data:`~dig.interests.interest.INTEREST_SCHEMA`, item after item."""
    joined: int
    """Interests that another one took in."""
    cut: int
    """Interests left out by the limit."""


def merge_interests(
    interests: pl.DataFrame, phrases: list[str], vectors: np.ndarray, similarity: float, limit: int | None = None
) -> Merged:
    """Joins the interests of **different** miners that say the same of one item.

    Two say the same when they are equal once folded, or when the cosine of their vectors reaches ``similarity`` and
    they do not contradict each other (:func:`~dig.interests.contradictions.contradict`). An interest joins others only
    if it says the same as all of them (complete link); the most confident go first, and of several that it could join
    it takes the most similar. Interests of one miner about one item are never joined.

    A joined interest has the words, miner and label-free rest of its most confident one, ``votes`` = the number of its
    miners, ``miners`` and ``wordings``, and the confidence ``1 − Π (1 − c)`` over those that gave one. Its ``kind`` is
    text if any is. Within an item it stands by votes, then confidence, then rank in its miner's list. Where a single
    miner spoke of an item its list keeps its order. The order in which miners come changes nothing within an item.
    A frame that was merged before is left as it is.

    Args:
        interests: :data:`~dig.interests.interest.INTEREST_SCHEMA`; each miner's list of an item in rank order.
        phrases: every folded text of ``interests``, once.
        vectors: ``(phrases, dim)`` their vectors, of any length.
        similarity: the least cosine.
        limit: interests an item at most; None for no limit.

    Raises:
        ValueError: if a text has no vector.
    """
    if interests.height and interests["miners"].null_count() == 0:
        return _cut(interests, 0, limit)
    rows = _in_order(interests, phrases)
    founders = _join(rows, phrases, _unit(vectors), similarity)
    merged = _aggregate(rows.with_columns(founder=pl.Series(founders, dtype=pl.Int64)))
    return _cut(merged, interests.height - merged.height, limit)


def _in_order(interests: pl.DataFrame, phrases: list[str]) -> pl.DataFrame:
    """The interests, item after item and the most confident first; ties by rank, so that no miner's place counts."""
    codes = fold_column(interests["text"]).replace_strict(
        phrases, np.arange(len(phrases)), default=None, return_dtype=pl.Int64
    )
    rows = interests.with_row_index("place").with_columns(
        codes.alias("phrase"),
        item=pl.col("place").min().over("item_id"),
        rank=pl.int_range(pl.len()).over("item_id", "miner"),
        alone=pl.col("miner").n_unique().over("item_id") == 1,
    )
    if rows["phrase"].null_count():
        text = rows.filter(pl.col("phrase").is_null())["text"][0]
        raise ValueError(f"{rows['phrase'].null_count()} interests have no vector, for one {text!r}")
    return rows.sort("item", "confidence", "rank", "miner", descending=[False, True, False, False], nulls_last=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def _join(rows: pl.DataFrame, phrases: list[str], units: np.ndarray, similarity: float) -> np.ndarray:
    """(rows,) the row that each row joins, itself where it joins none; a row joins none that comes after it."""
    alike = _alike(rows, phrases, units, similarity)
    founders = np.arange(rows.height)
    members: dict[int, list[int]] = {}
    earlier: dict[int, list[int]] = defaultdict(list)
    for first, second in sorted(alike):
        earlier[second].append(first)
    for row in sorted(earlier):
        best, best_value = row, -np.inf
        for founder in dict.fromkeys(int(founders[other]) for other in earlier[row]):
            group = members.get(founder, [founder])
            value = min(alike.get((member, row), -np.inf) for member in group)
            if value > best_value:
                best, best_value = founder, value
        if best != row:
            founders[row] = best
            members.setdefault(best, [best]).append(row)
    return founders


def _alike(
    rows: pl.DataFrame, phrases: list[str], units: np.ndarray, similarity: float
) -> dict[tuple[int, int], float]:
    """Pairs of rows of one item and two miners that say the same, with their cosine; the earlier row first."""
    first, second = _pairs_within_items(rows)
    phrase, miner = rows["phrase"].to_numpy(), rows["miner"].rank("dense").to_numpy()
    apart = miner[first] != miner[second]
    first, second = first[apart], second[apart]
    one, other = phrase[first], phrase[second]
    cosines = np.ones(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        cosines[part] = np.einsum("pd,pd->p", units[one[part]], units[other[part]])
    cosines[one == other] = 1.0
    near = np.flatnonzero((cosines >= similarity - _ROUNDING) | (one == other))
    return {
        (int(first[at]), int(second[at])): float(cosines[at])
        for at in near
        if not contradict(phrases[one[at]], phrases[other[at]])
    }


def _pairs_within_items(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (earlier row, later row) of one item; an item's rows are consecutive."""
    sizes = rows.group_by("item", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    ends = np.repeat(np.cumsum(sizes), sizes)
    firsts = np.arange(rows.height)
    later = ends - firsts - 1
    first = np.repeat(firsts, later)
    within = np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    return first, first + 1 + within


def _aggregate(rows: pl.DataFrame) -> pl.DataFrame:
    """An interest a founder, with the provenance of all that joined it; items as they came, the best first."""
    merged = rows.group_by("founder", maintain_order=True).agg(
        pl.col("item", "rank", "alone", "item_id", "text", "miner").first(),
        pl.when((pl.col("kind") == "text").any()).then(pl.lit("text")).otherwise(pl.lit("visual")).alias("kind"),
        _together(pl.col("confidence").drop_nulls()),
        pl.len().cast(pl.Int16).alias("votes"),
        pl.col("miner").alias("miners"),
        pl.col("text").alias("wordings"),
        pl.lit(None, pl.Int8).alias("label"),
        pl.lit(None, pl.Float64).alias("score"),
    )
    best = (pl.when("alone").then(None).otherwise(pl.col(name)) for name in ("votes", "confidence"))
    by = ["item", *best, "rank", "miner", "text"]
    order = merged.sort(by, descending=[False, True, True, False, False, False], nulls_last=True)
    return order.select(INTEREST_SCHEMA.names())


def _together(given: pl.Expr) -> pl.Expr:
    """``1 − Π (1 − c)``; one confidence stays as it was to the bit, none stays none."""
    several = (1 - (1 - given).product()).clip(0.0, 1.0)
    return pl.when(given.len() > 1).then(several).otherwise(given.first()).alias("confidence")


def _cut(merged: pl.DataFrame, joined: int, limit: int | None) -> Merged:
    kept = merged if limit is None else merged.filter(pl.int_range(pl.len()).over("item_id") < limit)
    return Merged(kept, joined, merged.height - kept.height)
