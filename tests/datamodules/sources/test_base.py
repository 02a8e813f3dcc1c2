"""What is written is read back the same, and equal tables give equal bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.preparation import prepare
from datamodules.sources import read_source
from datamodules.sources.base import CATALOGUE_SCHEMA, INTERACTION_SCHEMA, Tables, write_tables
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import console

# Every character but lone surrogates and NUL; a carriage return too.
IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(IDS, min_size=1, max_size=6, unique=True),
    st.lists(IDS, min_size=1, max_size=4),
    st.booleans(),
    st.floats(0, 2e9, allow_nan=False),
)
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
    row = {
        "item_id": "a",
        "title": "Tea é",
        "brand": "B",
        "categories": ["x", "y"],
        "description": "d\nd",
        "price": 2.5,
        "image": "https://h/x.png",
    }
    catalogue = pl.DataFrame([row, {"item_id": "b"}], schema=CATALOGUE_SCHEMA)
    interactions = pl.DataFrame({"user_id": ["u"], "item_id": ["b"], "timestamp": [1.25], "rating": [4.0]})
    write_tables(Tables(interactions, catalogue), tmp_path)
    found = read_source(DataConfig(path=str(tmp_path)))
    assert found.catalogue.equals(catalogue) and found.interactions.equals(interactions)


def test_entry_8_a_published_split_survives(tmp_path: Path):
    """Entry 8: convert keeps the publisher's split, and data.split=published reads it back."""
    interactions = pl.DataFrame(
        {"user_id": ["u"] * 4, "item_id": ["a"] * 4, "timestamp": [1.0, 2.0, 2.0, 3.0], "part": [0, 0, 1, 2]},
        schema_overrides={"part": pl.UInt8},
    )
    catalogue = pl.DataFrame([{"item_id": "a", "title": "T"}], schema=CATALOGUE_SCHEMA)
    write_tables(Tables(interactions, catalogue), tmp_path)
    config = DataConfig(path=str(tmp_path), split="published")
    assert read_source(config).interactions.equals(interactions)
    prepared = prepare(read_source(config), config)
    assert prepared.sequences.parts.tolist() == [0, 0, 1, 2]
    write_tables(read_source(DataConfig(path=str(tmp_path))), tmp_path / "again")  # whatever split is asked for
    assert read_source(replace(config, path=str(tmp_path / "again"))).interactions.equals(interactions)


@pytest.mark.parametrize("name", ["interactions.csv", "interactions.parquet"])
def test_entry_8_a_column_of_that_name_may_be_another(tmp_path: Path, name: str):
    """Entry 8: a shop of spare parts has a column part, too; it is ignored by name, and refused as a split."""
    frame = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "a"], "timestamp": [1, 2], "part": ["bolt", "train"]})
    frame.write_csv(tmp_path / name) if name.endswith("csv") else frame.write_parquet(tmp_path / name)
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "T"}\n')
    with console.capture() as captured:
        assert "part" not in read_source(DataConfig(path=str(tmp_path))).interactions.columns
    assert "column ignored: 'part'" in captured.get()
    with pytest.raises(UserError, match="column 'part' holds 'bolt', which is none of train, valid and test"):
        read_source(DataConfig(path=str(tmp_path), split="published"))
    frame.with_columns(phase=pl.Series(["Training", "validation"])).write_csv(tmp_path / "interactions.csv")
    (tmp_path / "interactions.parquet").unlink(missing_ok=True)
    config = DataConfig(path=str(tmp_path), split="published", columns={"part": "phase"})
    with console.capture():
        assert read_source(config).interactions["part"].to_list() == [0, 1]
