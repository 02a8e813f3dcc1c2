"""The interest, a mined phrase that says why somebody wants an item, and the quality q of an item by its interests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
import polars as pl

from dig.engine.folding import fold
from dig.engine.moved import renamed_names

__all__ = [
    "INTEREST_SCHEMA",
    "KINDS",
    "Interest",
    "Kind",
    "MinedRow",
    "distinct_phrases",
    "fold_column",
    "from_frame",
    "mined_frame",
    "to_frame",
    "without_duplicates",
    "item_quality",
]
__getattr__ = renamed_names(__name__, without_twins="without_duplicates")

Kind = Literal["text", "visual"]
KINDS: tuple[Kind, ...] = ("text", "visual")

INTEREST_SCHEMA = pl.Schema(
    {
        "item_id": pl.String,
        "text": pl.String,
        "kind": pl.String,
        "confidence": pl.Float64,
        "miner": pl.String,
        "label": pl.Int8,
        "score": pl.Float64,
        "votes": pl.Int16,
        "miners": pl.List(pl.String),
        "wordings": pl.List(pl.String),
    }
)
"""Columns of a frame of interests, one row per interest, in rank order within an item (and miner and kind).

``confidence`` is null where the miner gives none; ``label`` and ``score`` are null until RLDI has filled them.
``votes`` is the number of miners that found the interest. ``miners`` and ``wordings``, aligned, say which and in what
words; both are null until :func:`~dig.interests.merging.merge_interests` has filled them."""

MinedRow = tuple[str, str, str, float | None, str]
"""What a miner gives of an interest: item_id, text, kind, confidence, miner."""


def mined_frame(rows: Iterable[MinedRow]) -> pl.DataFrame:
    """A frame (:data:`INTEREST_SCHEMA`) of what miners gave, in its order: one vote each, not merged, no labels."""
    given = INTEREST_SCHEMA.names()[:5]
    frame = pl.DataFrame(list(rows), schema={name: INTEREST_SCHEMA[name] for name in given}, orient="row")
    rest = [pl.lit(1 if name == "votes" else None, dtype).alias(name) for name, dtype in INTEREST_SCHEMA.items()][5:]
    return frame.with_columns(rest)


def fold_column(texts: pl.Series) -> pl.Series:
    """:func:`fold` of a whole column; every distinct text is folded once."""
    distinct = texts.unique().drop_nulls()
    folded = pl.Series([fold(text) for text in distinct], dtype=pl.String)
    return texts.replace_strict(distinct, folded, default=None, return_dtype=pl.String)


def distinct_phrases(interests: pl.DataFrame) -> list[str]:
    """The folded texts of interests, each once, sorted."""
    return fold_column(interests["text"]).unique().sort().to_list()


@dataclass(frozen=True, slots=True)
class Interest:
    """A phrase that one miner found for one item.

    Args:
        item_id: the item.
        text: the phrase as the miner wrote it; never blank.
        kind: ``text`` (from words) or ``visual`` (from the picture).
        confidence: the miner's confidence in [0, 1], None where it gives none.
        miner: the name of the model or method.
        label: RLDI's 1 (specific, actionable, grounded) or 0; None before labelling.
        score: the probability behind the label; None where no classifier was trained.
        votes: the number of miners that found it.
        miners: which they are, once merged; empty before.
        wordings: the words of each of ``miners``.

    Raises:
        ValueError: if a value is outside its range.
    """

    item_id: str
    text: str
    kind: Kind
    confidence: float | None
    miner: str
    label: int | None = None
    score: float | None = None
    votes: int = 1
    miners: tuple[str, ...] = ()
    wordings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.item_id:
            raise ValueError("an interest needs an item_id")
        if not fold(self.text):
            raise ValueError(f"an interest of item {self.item_id!r} has a blank text")
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if not self.miner:
            raise ValueError(f"an interest of item {self.item_id!r} has no miner")
        if self.label not in (None, 0, 1):
            raise ValueError(f"label must be 0, 1 or None, it is {self.label!r}")
        for name in ("confidence", "score"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1, it is {value}")
        if len(self.miners) != len(self.wordings):
            raise ValueError(f"{len(self.miners)} miners have {len(self.wordings)} wordings")
        if not 1 <= self.votes <= max(1, len(self.miners)):
            raise ValueError(f"votes must lie between 1 and the number of miners, it is {self.votes}")


def without_duplicates(frame: pl.DataFrame) -> pl.DataFrame:
    """Keeps the first of the interests that are equal within (item, miner, kind) once folded; the order stays."""
    return (
        frame.with_columns(fold_column(frame["text"]).alias("_folded"))
        .unique(["item_id", "miner", "kind", "_folded"], keep="first", maintain_order=True)
        .drop("_folded")
    )


def to_frame(interests: Iterable[Interest]) -> pl.DataFrame:
    """The interests as a frame (:data:`INTEREST_SCHEMA`) in the given order, duplicates left out."""
    rows = [(*values[:-2], values[-2] or None, values[-1] or None) for values in map(astuple, interests)]
    return without_duplicates(pl.DataFrame(rows, schema=INTEREST_SCHEMA, orient="row"))


def from_frame(frame: pl.DataFrame) -> list[Interest]:
    """The rows of a frame as validated records, in order.

    Raises:
        ValueError: if a row is not a valid interest.
    """
    rows = frame.select(INTEREST_SCHEMA.names()).iter_rows(named=True)
    return [Interest(**row | {name: tuple(row[name] or ()) for name in ("miners", "wordings")}) for row in rows]


# The quality q of an item: how much of what was mined for it is good, weighted by the miner's confidence.


def item_quality(interests: pl.DataFrame, item_ids: Sequence[str]) -> np.ndarray:
    """``q_i = Σ_j c_ij·y_ij / Σ_j c_ij`` (DeepInterestGR, arXiv 2602.18907: the interest-aware reward).

    ``y`` is the label and ``c`` the confidence of interest j of item i; where a miner gives no confidence, c = 1.

    Args:
        interests: labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`); items that are not asked for
            are ignored.
        item_ids: the catalogue, in order.

    Returns:
        float32 ``(items,)`` in [0, 1]; 0 for an item without interests, and for one whose confidences are all 0.

    Raises:
        ValueError: if an interest has no label.
    """
    if interests["label"].null_count():
        raise ValueError(f"{interests['label'].null_count()} interests have no label; run the label stage first")
    weight = pl.col("confidence").fill_null(1.0)
    sums = interests.group_by("item_id").agg(
        (weight * pl.col("label")).sum().alias("good"), weight.sum().alias("weight")
    )
    catalogue = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
    quality = catalogue.join(sums, on="item_id", how="left", maintain_order="left").select(
        pl.when(pl.col("weight") > 0)
        .then((pl.col("good") / pl.col("weight")).clip(0.0, 1.0))
        .otherwise(0.0)
        .alias("quality")
    )
    return quality["quality"].cast(pl.Float32).to_numpy()
