"""Examples: people, what they were after, what was recommended, and why it is worth a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dig.report.data import ReportData
from dig.report.formats import recommender_name, shorten
from dig.report.kinds import Chosen, choose_people
from dig.report.protocols import main_cutoff
from dig.report.thumbnails import Thumbnails

__all__ = ["Item", "examples"]

_HISTORY = 10
_TITLE = 160


@dataclass(frozen=True)
class Item:
    """An item as it is shown."""

    id: str
    title: str
    brand: str
    picture: str
    """A data URI, empty where there is no picture."""


def examples(data: ReportData) -> dict[str, Any]:
    """The chosen people with their items looked up."""
    cutoff = main_cutoff(data.metrics)
    shown = _Shown(data)
    chosen = _chosen(data, cutoff)
    return {
        "cutoff": cutoff,
        "people": [_card(each, shown) for each in chosen],
        "recommender": recommender_name(list(chosen[0].person.places)[-1]) if chosen else "",
    }


def _chosen(data: ReportData, cutoff: int) -> list[Chosen]:
    if data.recommendations is None or data.examples is None or "example" not in data.recommendations.columns:
        return []
    profiles = None
    if data.interests is not None and not data.interests.is_empty():
        from dig.interests.profiles import InterestProfiles

        profiles = InterestProfiles(data.interests)
    return choose_people(data.recommendations, data.examples, cutoff, data.ids, profiles)


class _Shown:
    """Looks items up for the page."""

    def __init__(self, data: ReportData) -> None:
        catalogue = data.catalogue
        self.rows = {}
        if catalogue is not None:
            brands = catalogue["brand"].to_list() if "brand" in catalogue.columns else [None] * len(catalogue)
            self.rows = dict(
                zip(catalogue["item_id"].to_list(), zip(catalogue["title"].to_list(), brands, strict=True), strict=True)
            )
        self.thumbnail = Thumbnails(data.pictures)

    def __call__(self, item: str) -> Item:
        title, brand = self.rows.get(item, (None, None))
        return Item(item, shorten(title or "untitled", _TITLE), shorten(brand or "", 60), self.thumbnail(item))


def _card(chosen: Chosen, shown: _Shown) -> dict[str, Any]:
    person = chosen.person
    skipped = max(0, len(person.history) - _HISTORY)
    return {
        "title": chosen.title,
        "why": chosen.why,
        "hit": chosen.hit,
        "user": shorten(person.user, 60),
        "skipped": skipped,
        "history": [shown(item) for item in person.history[skipped:]],
        "target": shown(person.target),
        "sid": person.sid,
        "shared": person.shared,
        "interests": person.interests,
        "recommended": [(shown(each.item), each) for each in person.recommendations],
        "places": person.places,
    }
