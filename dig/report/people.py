"""People whose histories were continued: what rules may ask about them, and everything that is shown of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dig.report.formats import recommender_name

if TYPE_CHECKING:
    import polars as pl

    from dig.interests.profiles import InterestProfiles, Reason, WeightedInterest
    from dig.quantization import SemanticIds

__all__ = ["People", "Person", "Recommended", "places_of"]

_SHOWN = 10


@dataclass(frozen=True)
class Recommended:
    """A recommended item, and what speaks for it."""

    item: str
    score: float
    sid: str
    hit: bool
    interests: list[Reason]


@dataclass(frozen=True)
class Person:
    """A history, what came next, and what was recommended."""

    user: str
    history: list[str]
    """Item ids, oldest first."""
    target: str
    sid: str
    """The Semantic ID of what came next."""
    shared: list[Reason]
    """Good interests that what came next has in common with the history."""
    interests: list[WeightedInterest]
    recommendations: list[Recommended]
    places: dict[str, int | None]
    """The place of the target by recommender, the first is 1; None where it is not in the list."""


def places_of(recommendations: pl.DataFrame, examples: pl.DataFrame) -> dict[str, np.ndarray]:
    """``(examples,)`` places of the targets by recommender, the first is 1; 0 where the target is not in the list."""
    import polars as pl

    found = (
        recommendations.select("stage", "example", "items")
        .join(examples.select("example", "target"), on="example")
        .with_columns(place=pl.int_ranges(1, pl.col("items").list.len() + 1))
        .explode("items", "place")
        .filter(pl.col("items") == pl.col("target"))
        .group_by("stage", "example")
        .agg(pl.col("place").min())
    )
    places = {}
    for stage in recommendations["stage"].unique(maintain_order=True).to_list():
        own = found.filter(pl.col("stage") == stage).select("example", "place")
        joined = examples.select("example").join(own, on="example", how="left", maintain_order="left")
        places[stage] = joined["place"].fill_null(0).to_numpy().astype(np.int64)
    return places


class People:
    """Examples by their row in the table of examples.

    Args:
        recommendations: ``example``, ``items``, ``scores``, ``stage``; the last stage is the one that is looked at.
        examples: ``example``, ``user``, ``target``, ``history``, and where known ``one_hop`` and ``target_slice``.
        cutoff: a target among so many first items is a hit.
        ids: Semantic IDs, where the run has them.
        profiles: the customers' interests, where the run has them.
    """

    def __init__(
        self,
        recommendations: pl.DataFrame,
        examples: pl.DataFrame,
        cutoff: int,
        ids: SemanticIds | None,
        profiles: InterestProfiles | None,
    ) -> None:
        self.cutoff, self.ids, self.profiles = cutoff, ids, profiles
        self.places = places_of(recommendations, examples)
        *self.others, self.last = self.places
        self.baselines = [name for name in self.others if name != "sft"]
        self.name = recommender_name(self.last)
        own = recommendations.filter(recommendations["stage"] == self.last)
        self.own = own.select("items", "scores")
        self.row_of = dict(zip(own["example"].to_list(), range(len(own)), strict=True))
        self.examples = examples
        self.columns = set(examples.columns)
        self.told = np.array([each in self.row_of for each in examples["example"].to_list()], dtype=bool)
        self.hits = self.among(self.last) & self.told
        self.misses = ~self.among(self.last) & self.told
        self.rows_of = {item: row for row, item in enumerate(ids.item_ids)} if ids else {}

    def among(self, stage: str) -> np.ndarray:
        """(examples,) whether a recommender had the target among the first."""
        return (self.places[stage] > 0) & (self.places[stage] <= self.cutoff)

    def row(self, row: int) -> dict[str, Any]:
        """A line of the table of examples."""
        return self.examples.row(row, named=True)

    def recommended(self, row: int) -> dict[str, Any]:
        """Items and scores of the recommender that is looked at."""
        return self.own.row(self.row_of[self.examples["example"][row]], named=True)

    def items(self, row: int) -> list[str]:
        """The first recommended items."""
        return list(self.recommended(row)["items"])[: self.cutoff]

    def in_memory(self) -> np.ndarray:
        """(examples,) whether the target is in the one-hop set; all False where the sets are not known."""
        if "one_hop" not in self.columns:
            return np.zeros(len(self.examples), dtype=bool)
        pairs = zip(self.examples["one_hop"].to_list(), self.examples["target"].to_list(), strict=True)
        return np.array([target in (candidates or ()) for candidates, target in pairs], dtype=bool)

    def beyond_memory(self) -> np.ndarray:
        """(examples,) whether the target is outside the one-hop set; all False where the sets are not known."""
        return ~self.in_memory() & ("one_hop" in self.columns)

    def hop_place(self, row: int) -> int:
        """The target's place in the one-hop set, the first is 1; 0 where it is not in it."""
        line = self.row(row)
        return _place(line.get("one_hop") or (), line["target"])

    def shared(self, row: int) -> list[Reason]:
        """Good interests that the target shares with the history."""
        line = self.row(row)
        return self.reasons(line["history"], line["target"])

    def reasons(self, history: Sequence[str], item: str, limit: int = 3) -> list[Reason]:
        """Good interests that an item shares with a history; none where no profiles are known."""
        return self.profiles.reasons(history, item, limit) if self.profiles else []

    def shared_weight(self, row: int) -> float:
        """How much of what the customer is after the target has."""
        return sum(reason.share for reason in self.shared(row))

    def codes(self, item: str) -> list[int]:
        """An item's codes without padding; empty where it has none."""
        row = self.rows_of.get(item)
        return [code for code in self.ids.codes[row].tolist() if code >= 0] if self.ids and row is not None else []

    def neighbours(self, row: int) -> int:
        """Recommended items that begin with the target's first codes (all but the last level)."""
        target = self.codes(self.row(row)["target"])
        depth = max(1, (self.ids.levels if self.ids else 1) - 1)
        if len(target) < depth:
            return 0
        return sum(self.codes(item)[:depth] == target[:depth] for item in self.items(row))

    def best_other(self, row: int, names: Sequence[str]) -> tuple[str, int]:
        """The other recommender that had the target first, and where."""
        found = [(int(self.places[name][row]), name) for name in names if self.places[name][row] > 0]
        place, name = min(found, default=(0, ""))
        return name, place

    def person(self, row: int) -> Person:
        """Everything that is shown of an example."""
        line = self.row(row)
        found = self.recommended(row)
        history = list(line["history"] or [])
        pairs = list(zip(found["items"], found["scores"], strict=True))[: max(_SHOWN, self.cutoff)]
        return Person(
            user=str(line["user"]),
            history=history,
            target=line["target"],
            sid=" ".join(map(str, self.codes(line["target"]))),
            shared=self.shared(row),
            interests=self.profiles.interests(history) if self.profiles else [],
            recommendations=[self._recommended(history, line["target"], *pair) for pair in pairs],
            places={name: int(places[row]) or None for name, places in self.places.items()},
        )

    def _recommended(self, history: list[str], target: str, item: str, score: float) -> Recommended:
        sid = " ".join(map(str, self.codes(item)))
        return Recommended(item, score, sid, item == target, self.reasons(history, item, 2))


def _place(items: Sequence[str], target: str) -> int:
    return items.index(target) + 1 if target in items else 0
