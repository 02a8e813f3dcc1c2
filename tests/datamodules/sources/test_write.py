"""What is written is read back the same, and equal tables give equal bytes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sources import read_source
from datamodules.sources.base import CATALOGUE_SCHEMA, INTERACTION_SCHEMA, Tables
from datamodules.sources.write import write_tables
from dig.config.schema import DataConfig
from dig.console import console

# Every character but lone surrogates and NUL; a carriage return too.
IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=6, unique=True), st.lists(IDS, min_size=1, max_size=4),
       st.booleans(), st.floats(0, 2e9, allow_nan=False))  # fmt: skip
def test_strange_ids_and_times_round_trip(items: list[str], users: list[str], whole: bool, time: float):
    rows = [(user, item, float(round(time)) if whole else time) for user in users for item in items]
    interactions = pl.DataFrame(rows, schema=INTERACTION_SCHEMA, orient="row")
    catalogue = pl.DataFrame(
        [{"item_id": item, "title": f"t{item}".strip()} for item in items], schema=CATALOGUE_SCHEMA
    )
    with TemporaryDirectory() as name, console.capture():
        write_tables(Tables(interactions, catalogue), Path(name))
        first = [path.read_bytes() for path in sorted(Path(name).iterdir())]
        found = read_source(DataConfig(path=name))
        write_tables(Tables(interactions, catalogue), Path(name))
        assert [path.read_bytes() for path in sorted(Path(name).iterdir())] == first
    assert found.interactions.rows() == rows
    assert found.catalogue["item_id"].to_list() == items


def test_every_field_survives(tmp_path: Path):
    row = {"item_id": "a", "title": "Tea é", "brand": "B", "categories": ["x", "y"], "description": "d\nd",
           "price": 2.5, "image": "https://h/x.png"}  # fmt: skip
    catalogue = pl.DataFrame([row, {"item_id": "b"}], schema=CATALOGUE_SCHEMA)
    interactions = pl.DataFrame({"user_id": ["u"], "item_id": ["b"], "timestamp": [1.25], "rating": [4.0]})
    write_tables(Tables(interactions, catalogue), tmp_path)
    found = read_source(DataConfig(path=str(tmp_path)))
    assert found.catalogue.equals(catalogue) and found.interactions.equals(interactions)
