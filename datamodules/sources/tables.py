"""The interchange format, and your own tables: one file of interactions and one of items in a folder.

What cannot be read is counted with file, line and reason; past ``data.max_bad_fraction`` the file is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import Problems, Tables
from datamodules.sources.catalogue import Row, catalogue_frame, item_row
from datamodules.sources.csv_table import check_columns, check_values, csv_records, read_csv
from datamodules.sources.files import data_folder, find_one
from datamodules.sources.lines import json_lines, not_utf8
from datamodules.sources.streams import blocks, count_records
from dig.config import UserError
from dig.config.schema import DataConfig

__all__ = ["files", "read"]

_NAMES = {
    "interactions": ("interactions.csv", "interactions.tsv", "interactions.parquet"),
    "items": ("items.jsonl", "items.csv", "items.tsv", "items.parquet"),
}
_INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "rating")
_ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "price", "image")


def files(config: DataConfig) -> dict[str, Path]:
    """The two files of ``data.path``.

    Raises:
        UserError: if the folder or one of them is missing.
    """
    folder = data_folder(config)
    return {table: find_one(folder, f"table of {table}", names) for table, names in _NAMES.items()}


def read(found: dict[str, Path], config: DataConfig) -> Tables:
    """Reads both tables.

    Raises:
        UserError: for a missing column, a damaged file or an empty table.
    """
    of_interactions, of_items = Problems(found["interactions"]), Problems(found["items"])
    columns = {name: config.columns.get(name, name) for name in _INTERACTION_COLUMNS}
    if found["interactions"].suffix == ".parquet":
        interactions = _parquet_interactions(found["interactions"], columns, of_interactions)
    else:
        interactions = read_csv(found["interactions"], columns, of_interactions, encoding=config.encoding)
    if interactions.is_empty() and not of_interactions.rows:
        raise UserError(f"{found['interactions']}: there are no interactions")
    catalogue = _read_items(found["items"], config, of_items)
    if catalogue.is_empty() and not of_items.rows:
        raise UserError(f"{found['items']}: the catalogue is empty")
    return Tables(interactions, catalogue, [of_interactions, of_items])


def _parquet_interactions(path: Path, columns: Mapping[str, str], problems: Problems) -> pl.DataFrame:
    frame = _read_parquet(path, problems)
    check_columns(path, frame.columns, [columns[name] for name in ("user_id", "item_id", "timestamp")])
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in columns.items() if theirs in frame.columns)
    problems.total += len(frame)
    if frame["timestamp"].dtype == pl.Time:
        raise UserError(f"{path}: column {columns['timestamp']!r} holds times of day without a date")
    ids = [pl.col("user_id", "item_id")]
    if any(frame[name].dtype.is_float() for name in ("user_id", "item_id")):
        ids = [pl.col(name).fill_nan(None) if frame[name].dtype.is_float() else pl.col(name)
               for name in ("user_id", "item_id")]  # fmt: skip
    frame = frame.with_columns(column.cast(pl.String) for column in ids)
    frame = check_values(frame, range(1, len(frame) + 1), problems)
    problems.delivered = len(frame)
    return frame


def _read_parquet(path: Path, problems: Problems) -> pl.DataFrame:
    """The table; its rows are counted by what the file says of itself."""
    try:
        problems.in_file += pl.scan_parquet(path).select(pl.len()).collect().item()
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _read_items(path: Path, config: DataConfig, problems: Problems) -> pl.DataFrame:
    columns = {name: config.columns.get(name, name) for name in _ITEM_COLUMNS}
    rows: dict[str, Row] = {}
    lines: dict[str, int] = {}
    nameless = 0
    for line, record in _records(path, columns, problems, config.encoding):
        if not isinstance(record, dict):
            problems.add(line, f"holds a {type(record).__name__}, not an item")
            continue
        try:
            row = item_row(*(record.get(theirs) for theirs in columns.values()))
        except ValueError:
            nameless += 1
            problems.add(line, f"no {columns['item_id']}")
            continue
        if not_utf8(row[0]):
            problems.add(line, f"{columns['item_id']} is not UTF-8")
        elif row[0] not in rows:
            _note_broken_text(record, problems)
            rows[row[0]] = _with_safe_image(row, path.parent, problems)
            lines[row[0]] = line
        elif _with_safe_image(row, path.parent, Problems(path)) == rows[row[0]]:
            problems.note("item repeated word for word, one is kept")
            problems.left_out += 1
        else:
            problems.add(line, f"item {row[0]!r} stands in line {lines[row[0]]} already, with other words")
    if not rows and nameless and nameless == len(problems.rows):
        raise UserError(f"{path}: column {columns['item_id']} is missing (data.columns maps names)")
    problems.delivered = len(rows)
    return catalogue_frame(list(rows.values()))


def _records(
    path: Path, columns: Mapping[str, str], problems: Problems, encoding: str
) -> Iterator[tuple[int, Any]]:  # fmt: skip
    if path.suffix == ".parquet":
        frame = _read_parquet(path, problems)
        check_columns(path, frame.columns, [columns["item_id"], columns["title"]])
        problems.total += len(frame)
        yield from enumerate(frame.iter_rows(named=True), start=1)
    elif ".jsonl" in path.suffixes:
        for block in blocks(path, encoding):
            problems.in_file += count_records(block.data)
            yield from json_lines(block, problems)
    else:
        yield from csv_records(path, [columns["item_id"], columns["title"]], problems, encoding)


def _note_broken_text(record: Mapping[str, Any], problems: Problems) -> None:
    if any(not_utf8(text) for text in _texts(record.values())):
        problems.note_broken_text()


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(value)


def _with_safe_image(row: Row, folder: Path, problems: Problems) -> Row:
    """Keeps an address on the web and a path inside the folder; item data are untrusted."""
    image = row[-1]
    if image is None or image.startswith(("http://", "https://")):
        return row
    if "://" in image:
        problems.note("image with an address that is neither http nor https, left out")
        return (*row[:-1], None)
    try:
        inside = (folder / image).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, a name too long, a null byte
        inside = False
    if inside:
        return row
    problems.note("image path that leaves the data folder, left out")
    return (*row[:-1], None)
