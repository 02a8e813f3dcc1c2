import os
from pathlib import Path

import polars as pl
import pytest

DATA = Path(os.environ.get("DIG_DATA_ROOT", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def real_data():
    """Folder of a real data set; skips where it is not at hand."""

    def folder(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip(f"{DATA / name} is not here; set DIG_DATA_ROOT")
        return DATA / name

    return folder


@pytest.fixture
def real_catalogue(real_data):
    """A real catalogue with its categories flattened to names."""

    def read(name: str) -> pl.DataFrame:
        frame = pl.read_ndjson(real_data(name) / "items.jsonl.gz", infer_schema_length=None)
        return frame.with_columns(categories=pl.col("categories").list.eval(pl.element().explode()))

    return read


@pytest.fixture
def make_catalogue():
    """A catalogue of dicts; fields that are not given are null."""

    def make(*rows: dict) -> pl.DataFrame:
        schema = {
            "item_id": pl.String,
            "title": pl.String,
            "brand": pl.String,
            "categories": pl.List(pl.String),
            "description": pl.String,
        }
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)

    return make
