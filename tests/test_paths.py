"""Tables are read from the very path that is named: polars takes brackets, stars and question marks for patterns."""

from __future__ import annotations

import ast
from pathlib import Path

import polars as pl
import pytest

from datamodules.sources.base import Problems
from datamodules.sources.own_items import read_parquet
from dig.comparison.files import _parquet
from dig.engine.catalogue import STAMP, table_stamp
from dig.received.tables import read_parquet_table
from dig.recommender.tables import read_ids

ROOT = Path(__file__).parents[1]
PATTERNS = (
    "read_parquet",
    "read_parquet_schema",
    "scan_parquet",
    "read_csv",
    "scan_csv",
    "scan_ndjson",
    "read_ipc",
    "scan_ipc",
)


def test_every_reading_by_polars_takes_the_path_as_it_is() -> None:
    """Guard 8: a folder called ``a[1]`` was read as its neighbour ``a1``, without a word."""
    seen = 0
    for path in (file for package in ("dig", "datamodules", "callbacks") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("pl."):
                continue
            if ast.unparse(node.func).removeprefix("pl.") not in PATTERNS or "BytesIO" in ast.unparse(node.args[0]):
                continue
            seen += 1
            assert any(each.arg == "glob" and ast.unparse(each.value) == "False" for each in node.keywords), (
                f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)} without glob=False"
            )
    assert seen > 20


@pytest.mark.parametrize("name", ["a[1]", "a?", "a*", "[red]a[/red]", "{a,b}"])
def test_a_folder_called_like_a_pattern_is_no_pattern(name: str, tmp_path: Path) -> None:
    """Guard 8: of homes, runs and data; the neighbours that the pattern would match hold other rows."""
    for folder in ("a1", "ab", "a", name):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame({"item_id": [folder]})
        frame.write_parquet(tmp_path / folder / "table.parquet")
    path = tmp_path / name / "table.parquet"
    assert read_parquet(path, Problems(path))["item_id"].to_list() == [name]
    assert read_parquet_table(path, {"item_id": pl.String})["item_id"].to_list() == [name]
    assert _parquet(path)["item_id"].to_list() == _parquet(path.parent)["item_id"].to_list() == [name]
    assert read_ids(path, "item_id") == [name]
    pl.DataFrame({"item_id": [name]}).write_parquet(path, metadata={STAMP: "1 of this one"})
    assert table_stamp(path) == "1 of this one"
