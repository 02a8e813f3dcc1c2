"""Parquet tables of anybody: columns, types, nulls and lengths before values."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from dig.config import UserError
from dig.engine.catalogue import Catalogue, check_catalogue
from dig.quantization import SemanticIds
from dig.received.tables import IDS, extent_problem, most_values, read_parquet_table
from dig.recommender import read_ids

FRAME = pl.DataFrame(
    {"user": ["a", "b"], "items": [["x"], []], "tests": pl.Series([1, 0], dtype=pl.UInt8), "score": [1, 2]}
)
SCHEMA = {"user": pl.String, "items": IDS, "tests": pl.Int64, "score": pl.Float64}


def written(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def test_columns_come_in_the_types_that_are_asked_for(tmp_path: Path):
    path = tmp_path / "run[1] *.parquet"  # not a pattern
    FRAME.with_columns(other=pl.lit(1)).write_parquet(path)
    frame = read_parquet_table(path, SCHEMA, optional={"target": pl.String})
    assert frame.schema == pl.Schema(SCHEMA) and frame.rows() == [("a", ["x"], 1, 1.0), ("b", [], 0, 2.0)]
    chosen = pl.DataFrame(
        {"user": pl.Series(["a"], dtype=pl.Categorical), "items": pl.Series([[]], dtype=pl.List(pl.Null))}
    )
    chosen.write_parquet(path)
    assert read_parquet_table(path, {"user": pl.String, "items": IDS}).rows() == [("a", [])]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"user,items\n", "it is not a Parquet file"),
        (written(FRAME)[:-20], "cannot be read"),
        (b"PAR1" + bytes(100) + b"PAR1", "cannot be read"),
        (written(FRAME.drop("items")), "it has no column items"),
        (written(FRAME.rename({"user": "user_id"})), "it has no column user (is it user_id?)"),
        (written(FRAME.with_columns(user=pl.Series([1, 2]))), "its column user holds whole numbers and not texts"),
        (
            written(FRAME.with_columns(tests=pl.Series([1.5, 2]))),
            "its column tests holds numbers and not whole numbers",
        ),
        (written(FRAME.with_columns(items=pl.Series([[1], [2]]))), "lists of whole numbers and not lists of texts"),
        (written(FRAME.with_columns(user=pl.Series(["a", None]))), "row 2 has no user"),
        (written(FRAME.with_columns(items=pl.Series([["x", None], []]))), "a row lacks a value within its items"),
        (written(FRAME.with_columns(user=None)), "row 1 has no user"),
    ],
)
def test_another_table_is_one_line(tmp_path: Path, content: bytes, said: str):
    """Guard 8: tables that lack a column, with integers or nulls for ids, cut or of another kind."""
    path = tmp_path / "users.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_parquet_table(path, SCHEMA, advice="write it again")
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read: ") and said in message and message.endswith("; write it again")
    assert "\n" not in message


def test_nulls_are_let_through_where_they_may_be(tmp_path: Path):
    path = tmp_path / "users.parquet"
    FRAME.with_columns(items=None, tests=None).cast({"items": IDS, "tests": pl.Int64}).write_parquet(path)
    frame = read_parquet_table(path, SCHEMA, nulls=("items", "tests"))
    assert frame["items"].null_count() == frame["tests"].null_count() == 2


def test_a_table_of_more_rows_than_its_bytes_can_hold_is_refused(tmp_path: Path):
    """Guard 6: a column that repeats one value takes nothing on disk and all there is in memory."""
    path = tmp_path / "users.parquet"
    pl.select(user=pl.repeat("a", 2_000_000, dtype=pl.String)).write_parquet(path)
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match="bytes hold 2,000,000 rows"):
        read_parquet_table(path, {"user": pl.String})


def test_a_folder_and_nothing_are_not_tables(tmp_path: Path):
    with pytest.raises(UserError, match="it is not a file"):
        read_parquet_table(tmp_path, SCHEMA)
    with pytest.raises(UserError, match="it is missing"):
        read_parquet_table(tmp_path / "none.parquet", SCHEMA)


def test_a_list_of_more_values_than_its_bytes_can_hold_is_refused(tmp_path: Path):
    """Guard 6: one row may hold a list of any length."""
    path = tmp_path / "users.parquet"
    pl.DataFrame({"codes": [pl.repeat(7, 20_000_000, dtype=pl.Int64, eager=True)]}).write_parquet(path)
    assert path.stat().st_size < 40_000
    for read in (lambda: read_parquet_table(path, {"codes": pl.List(pl.Int64)}), lambda: _raise(extent_problem(path))):
        with pytest.raises(UserError, match="bytes hold 20,000,000 values"):
            read()


def _raise(problem: str | None) -> None:
    if problem:
        raise UserError(problem)


def test_texts_of_more_bytes_than_a_file_can_tell_are_refused(tmp_path: Path):
    """Guard 6: a text that stands in a million rows is on disk once."""
    path = tmp_path / "items.parquet"
    pl.select(title=pl.repeat("long" * 1000, 300_000, dtype=pl.String)).write_parquet(path)
    with pytest.raises(UserError, match="bytes hold 1,200,000,000 bytes of text"):
        read_parquet_table(path, {"title": pl.String})


def test_ids_of_a_model_are_counted_before_they_are_read(tmp_path: Path):
    """Guard 6: the table beside a model is asked for its order of items."""
    pl.select(item_id=pl.repeat("x", 2_000_000, dtype=pl.String)).write_parquet(tmp_path / "semantic_ids.parquet")
    with pytest.raises(UserError, match="bytes hold 2,000,000 rows"):
        check_catalogue(tmp_path, Catalogue.of(["x"]), "items.parquet")
    with pytest.raises(UserError, match="bytes hold 2,000,000 rows"):
        SemanticIds.load(tmp_path / "semantic_ids.parquet")
    with pytest.raises(UserError, match="bytes hold 2,000,000 rows"):
        read_ids(tmp_path / "semantic_ids.parquet", "item_id")


def test_the_footer_tells_the_values_of_the_longest_column(tmp_path: Path):
    frame = pl.DataFrame({"a": range(1000), "b": [["x"] * (n % 5) for n in range(1000)]})
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=100, metadata={"key": "value"})
    values = sum(max(1, n % 5) for n in range(1000))  # an empty list has an entry, too
    assert most_values(tmp_path / "x.parquet") == values
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"\xff" * 50 + (50).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="footer"):
        most_values(tmp_path / "x.parquet")
