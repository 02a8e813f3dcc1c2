"""The numbers of an inspection are those of the data."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from datamodules.preparation import prepare
from datamodules.problems import Inspection, inspect_data
from datamodules.sources import read_source
from datamodules.sources.base import CATALOGUE_SCHEMA, INTERACTION_SCHEMA, Tables
from dig.config.schema import DataConfig
from dig.engine.console import console


def inspected(events: list[tuple[str, str, float]], items: list[dict]) -> Inspection:
    tables = Tables(
        pl.DataFrame(events, schema=INTERACTION_SCHEMA, orient="row"), pl.DataFrame(items, schema=CATALOGUE_SCHEMA)
    )
    with console.capture():
        return inspect_data(tables, prepare(tables, DataConfig()))


ITEMS = [{"item_id": item, "title": "x" * (3 + place)} for place, item in enumerate("abcd")] + [{"item_id": "e"}]


def test_by_hand():
    day = 86_400.0
    start = 1_400_000_000.0
    events = [("u", item, start + n * day) for n, item in enumerate("abc")]
    events += [("v", "a", start), ("v", "b", start + 400 * day), ("v", "b", start + 400 * day + 60)]
    found = inspected(events, ITEMS)
    facts = found.facts
    assert facts["users"] == "2" and facts["items"] == "5" and facts["interactions"] == "6 of 6 rows"
    assert facts["same-day last pairs"] == "1 (50% of users)"
    assert facts["last pairs at one moment"].startswith("0 (0%")
    assert facts["times"] == "2014-05-13 to 2015-06-17"
    assert facts["repeated items"] == "1 (policy: keep)"
    assert facts["items without interactions"] == "2"
    assert facts["items with title"] == "4 (80%)" and facts["items with brand"] == "0 (0%)"
    assert facts["split"] == "leave-one-out: 2 validations, 2 tests"
    by_title = {
        histogram.title: dict(zip(histogram.labels, histogram.counts, strict=True)) for histogram in found.histograms
    }
    assert by_title["interactions a user"] == {"3-4": 2}
    assert by_title["interactions an item"] == {"0": 2, "1": 1, "2": 1, "3-4": 1}
    assert by_title["interactions a year"] == {"2014": 4, "2015": 2}
    assert by_title["title length"] == {"0": 1, "1": 0, "2": 0, "3-4": 2, "5-8": 2}
    assert found.samples[0] == ("user u", "a (xxx) → b (xxxx) → test: c (xxxxx)")


@pytest.mark.parametrize(
    ("start", "expected"),
    [(0.0, "relative to each user's first interaction, up to 2"), (5e12, "5e+12 to 5e+12, no calendar seconds")],
)
def test_times_without_a_calendar(start: float, expected: str):
    events = [
        (user, item, start + time + (user == "v") * (start > 0)) for user in "uv" for time, item in enumerate("abc")
    ]
    found = inspected(events, ITEMS)
    assert found.facts["times"].startswith(expected)
    assert "interactions a year" not in {histogram.title for histogram in found.histograms}


@pytest.mark.skipif("DIG_DATA_ROOT" not in os.environ, reason="DIG_DATA_ROOT names no real data")
def test_beauty():
    config = DataConfig(path=str(Path(os.environ["DIG_DATA_ROOT"]) / "beauty"))
    tables = read_source(config)
    facts = inspect_data(tables, prepare(tables, config)).facts
    assert (facts["users"], facts["items"]) == ("22,363", "12,101")
    assert facts["interactions"] == "198,502 of 198,502 rows"
    assert facts["same-day last pairs"] == "9,719 (43% of users)"
