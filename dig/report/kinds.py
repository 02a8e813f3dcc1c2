"""Which people the report shows: hits and misses that teach something, found by fixed rules.

Every kind takes the example that fits it best, the first of several that fit alike; nobody is shown twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dig.report.formats import recommender_name
from dig.report.people import People, Person

if TYPE_CHECKING:
    import polars as pl

    from dig.interests.profiles import InterestProfiles
    from dig.quantization import SemanticIds

__all__ = ["Chosen", "choose_people"]

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
        cutoff: a target among so many first items is a hit.
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
