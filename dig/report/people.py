"""Which people the report shows, found by fixed rules, and everything that is shown of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dig.report.formats import recommender_name

if TYPE_CHECKING:
    import polars as pl

    from dig.interests.profiles import InterestProfiles, Reason, WeightedInterest
    from dig.quantization import SemanticIds

__all__ = ["People", "Person", "Recommended", "places_of", "Chosen", "choose_people"]


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

    ranked = (
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
        own = ranked.filter(pl.col("stage") == stage).select("example", "place")
        joined = examples.select("example").join(own, on="example", how="left", maintain_order="left")
        places[stage] = joined["place"].fill_null(0).to_numpy().astype(np.int64)
    return places


class People:
    """Examples by their row in the table of examples.

    Args:
        recommendations: ``example``, ``items``, ``scores``, ``stage``; the last stage is the one that is looked at.
        examples: ``example``, ``user``, ``target``, ``history``, and where known ``one_hop`` and ``target_slice``.
        cutoff: a target among this many first items is a hit.
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
        others = [(int(self.places[name][row]), name) for name in names if self.places[name][row] > 0]
        place, name = min(others, default=(0, ""))
        return name, place

    def person(self, row: int) -> Person:
        """Everything that is shown of an example."""
        line = self.row(row)
        recommended = self.recommended(row)
        history = list(line["history"] or [])
        pairs = list(zip(recommended["items"], recommended["scores"], strict=True))[: max(_SHOWN, self.cutoff)]
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


# Which people the report shows: hits and misses that teach something, found by fixed rules.
#
# Every kind takes the example that fits it best, the first of several that fit alike; nobody is shown twice.


_LOOKED_AT = 400
"""Examples of a kind whose interests are compared, since each costs a walk through its history."""


@dataclass(frozen=True)
class Chosen:
    """A person and why they are shown."""

    title: str
    why: str
    hit: bool
    person: Person


@dataclass(frozen=True)
class _Kind:
    """A rule.

    Attributes:
        title: what it is called.
        hit: whether it shows hits.
        fits: (examples,) bool, who can be shown.
        words: why somebody is shown, with names of facts in braces.
        rates: how well a row fits, 0 not at all; without it the first is taken.
    """

    title: str
    hit: bool
    fits: Callable[[People], np.ndarray]
    words: str
    rates: Callable[[People, int], float] | None = None


def choose_people(
    recommendations: pl.DataFrame,
    examples: pl.DataFrame,
    cutoff: int,
    ids: SemanticIds | None = None,
    profiles: InterestProfiles | None = None,
) -> list[Chosen]:
    """People for whom the last recommender did something worth looking at.

    Args:
        recommendations: ``example``, ``items``, ``scores``, ``stage``; the last stage is the one that is looked at.
        examples: ``example``, ``user``, ``target``, ``history``, and where known ``one_hop`` and ``target_slice``.
        cutoff: a target among this many first items is a hit.
        ids: Semantic IDs, where the run has them.
        profiles: the customers' interests, where the run has them.
    """
    if recommendations.is_empty() or examples.is_empty():
        return []
    people = People(recommendations, examples, cutoff, ids, profiles)
    taken: set[int] = set()
    chosen = []
    for kind in _KINDS:
        rows = [row for row in np.flatnonzero(kind.fits(people)).tolist() if row not in taken]
        if not rows:
            continue
        rates = kind.rates
        row = max(rows[:_LOOKED_AT], key=lambda row: rates(people, row)) if rates else rows[0]
        if rates and rates(people, row) <= 0:
            continue
        taken.add(row)
        chosen.append(Chosen(kind.title, kind.words.format_map(_facts(people, row)), kind.hit, people.person(row)))
    return chosen


def _any_among(people: People, names: Sequence[str]) -> np.ndarray:
    return np.any([people.among(name) for name in names] or [np.zeros(len(people.examples), dtype=bool)], axis=0)


def _sft(people: People, hit: bool) -> np.ndarray:
    """(examples,) whether SFT hit or missed, where GRPO is looked at."""
    if people.last != "grpo" or "sft" not in people.places:
        return np.zeros(len(people.examples), dtype=bool)
    return people.among("sft") == hit


def _cold(people: People) -> np.ndarray:
    if "target_slice" not in people.columns:
        return np.zeros(len(people.examples), dtype=bool)
    return (people.examples["target_slice"] == "cold").fill_null(False).to_numpy()


def _early(people: People, row: int) -> float:
    return 1 / int(people.places[people.last][row])


def _early_elsewhere(people: People, row: int) -> float:
    return 1 / people.best_other(row, people.baselines)[1]


def _early_in_memory(people: People, row: int) -> float:
    return 1 / people.hop_place(row)


def _early_in_sft(people: People, row: int) -> float:
    return 1 / int(people.places["sft"][row])


def _facts(people: People, row: int) -> dict[str, object]:
    """What the words of a rule may name."""
    baseline, baseline_place = people.best_other(row, people.baselines)
    reasons = people.shared(row)
    names = ", ".join(f"“{reason.interest}”" for reason in reasons)
    share = sum(reason.share for reason in reasons)
    return {
        "name": people.name,
        "cutoff": people.cutoff,
        "place": _where(int(people.places[people.last][row]), people.cutoff),
        "sft": _where(int(people.places["sft"][row]), people.cutoff) if "sft" in people.places else "",
        "baseline": recommender_name(baseline),
        "baseline_place": baseline_place,
        "hop_place": people.hop_place(row),
        "neighbours": people.neighbours(row),
        "shared": f"{'an interest' if len(reasons) == 1 else 'interests'} in common with the history ({names}; "
        f"{share:.0%} of what this history is about)",
    }


def _where(place: int, cutoff: int) -> str:
    return f"place {place}" if place else f"not among the first {cutoff}"


_KINDS = (
    _Kind(
        "A hit that no baseline had",
        True,
        lambda people: people.hits & ~_any_among(people, people.baselines) & bool(people.baselines),
        "{name} has what came next at {place}; no baseline has it among its first {cutoff}.",
        _early,
    ),
    _Kind(
        "A hit beyond memory",
        True,
        lambda people: people.hits & people.beyond_memory(),
        "What came next is not in the one-hop set of this history, so remembering which item followed which could not "
        "find it; {name} has it at {place}.",
        _early,
    ),
    _Kind(
        "A hit that interests explain",
        True,
        lambda people: people.hits & (people.profiles is not None),
        "What came next has {shared}, and is at {place}.",
        People.shared_weight,
    ),
    _Kind(
        "What GRPO gained",
        True,
        lambda people: people.hits & _sft(people, hit=False),
        "SFT: {sft}; GRPO: {place}.",
        _early,
    ),
    _Kind(
        "Missed in spite of shared interests",
        False,
        lambda people: people.misses & (people.profiles is not None),
        "What came next has {shared}, and yet {name} ranks it low: {place}.",
        People.shared_weight,
    ),
    _Kind(
        "Missed though memory held it",
        False,
        lambda people: people.misses & people.in_memory(),
        "What came next is number {hop_place} of the one-hop set, the items that most often followed those of this "
        "history, and {name} does not have it: {place}.",
        _early_in_memory,
    ),
    _Kind(
        "Missed, and a baseline had it",
        False,
        lambda people: people.misses & _any_among(people, people.baselines),
        "{baseline} has what came next at place {baseline_place}, {name} does not: {place}.",
        _early_elsewhere,
    ),
    _Kind(
        "What GRPO lost",
        False,
        lambda people: people.misses & _sft(people, hit=True),
        "SFT: {sft}; GRPO: {place}.",
        _early_in_sft,
    ),
    _Kind(
        "The right shelf, the wrong item",
        False,
        lambda people: people.misses & (people.ids is not None),
        "{neighbours} of the recommended items begin with the same codes as what came next; only the end is wrong.",
        lambda people, row: float(people.neighbours(row)),
    ),
    _Kind(
        "Out of reach: never bought before",
        False,
        lambda people: people.misses & _cold(people),
        "What came next is in no training sequence; nothing that learns from purchases alone can know it.",
    ),
)
