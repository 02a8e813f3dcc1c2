"""The interchange format, and your own tables: one file of interactions and one of items in a folder.

What cannot be read is counted with file, line and reason; past ``data.max_bad_fraction`` the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from datamodules.sources.base import Problems, Tables, data_folder, find_one, named_file
from datamodules.sources.cells import id_text
from datamodules.sources.csv_table import check_columns, check_values, read_csv, read_header
from datamodules.sources.own_items import ignored_columns, read_items, read_parquet
from datamodules.sources.streams import read_whole
from dig.config import UserError
from dig.config.schema import INTERACTION_COLUMNS, DataConfig

__all__ = ["files", "read", "read_catalogue", "read_interactions"]

_NAMES = {
    "interactions": ("interactions.csv", "interactions.tsv", "interactions.parquet"),
    "items": ("items.jsonl", "items.csv", "items.tsv", "items.parquet"),
}
_NEEDED = ("user_id", "item_id", "timestamp")
PARTS = {
    "train": 0,
    "training": 0,
    "0": 0,
    "valid": 1,
    "validation": 1,
    "val": 1,
    "dev": 1,
    "1": 1,
    "test": 2,
    "testing": 2,
    "2": 2,
}
"""How tables spell the parts of a published split."""


def files(config: DataConfig) -> dict[str, Path]:
    """The two files of ``data.path``, by ``data.files`` or by their names.

    Raises:
        UserError: if the folder or one of them is missing.
    """
    folder = data_folder(config)
    given = {"interactions": config.files.interactions, "items": config.files.items}
    return {
        table: named_file(folder, f"data.files.{table}", name, names)
        if (name := given[table])
        else find_one(folder, f"table of {table}", names)
        for table, names in _NAMES.items()
    }


def read(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads both tables.

    Raises:
        UserError: for a missing column, a damaged file or an empty table.
    """
    of_interactions, of_items = Problems(files["interactions"]), Problems(files["items"])
    interactions = read_interactions(files["interactions"], config, of_interactions)
    return Tables(interactions, read_catalogue(files["items"], config, of_items), [of_interactions, of_items])


def read_interactions(path: Path, config: DataConfig, problems: Problems) -> pl.DataFrame:
    """Reads the table of interactions.

    Raises:
        UserError: for a missing column, a damaged file or an empty table.
    """
    given = config.columns_of("interactions")
    columns = {name: given.get(name, name) for name in INTERACTION_COLUMNS}
    if path.suffix == ".parquet":
        interactions = _parquet_interactions(path, columns, given, problems)
    else:
        interactions = read_csv(path, columns, problems, encoding=config.encoding)
        _check_mapped(path, given, interactions.columns, config.encoding)
    if interactions.is_empty() and not problems.rows:
        raise UserError(f"{path}: there are no interactions")
    if "part" in interactions.columns:
        return _with_parts(interactions, columns["part"], config, problems)
    return interactions


def read_catalogue(path: Path, config: DataConfig, problems: Problems) -> pl.DataFrame:
    """Reads the table of items.

    Raises:
        UserError: for a missing column, a damaged file or an empty table.
    """
    try:
        catalogue = read_items(path, config, problems)
    except UserError as error:
        both = config.columns.get("item_id")
        if both is None or str(both) not in str(error) or "is missing" not in str(error):
            raise
        raise UserError(
            f"{error}; the two tables may have maps of their own, data.columns={{interactions: {{item_id: "
            f"{both}}}, items: {{item_id: …}}}}"
        ) from None
    if catalogue.is_empty() and not problems.rows:
        raise UserError(f"{path}: the catalogue is empty")
    return catalogue


def _check_mapped(path: Path, given: Mapping[str, str], read: list[str], encoding: str) -> None:
    """Refuses a mapping of an optional column to one that is not there."""
    missing = [theirs for ours, theirs in given.items() if ours not in read]
    if missing:
        check_columns(path, read_header(path, read_whole(path, encoding)), missing)


def _with_parts(frame: pl.DataFrame, column: str, config: DataConfig, problems: Problems) -> pl.DataFrame:
    """``part`` as 0, 1, 2 where it is the split of a publisher; another column of that name is ignored.

    Raises:
        UserError: if ``data.split=published`` and a value is none of train, valid and test.
    """
    words = frame["part"].cast(pl.String).str.strip_chars().str.to_lowercase().str.strip_suffix(".0")
    parts = words.replace_strict(PARTS, default=None, return_dtype=pl.UInt8)
    unknown = frame["part"].filter(parts.is_null())
    if unknown.is_empty():
        return frame.with_columns(parts.alias("part"))
    if config.split == "published":
        raise UserError(
            f"{problems.path}: column {column!r} holds {str(unknown[0])[:40]!r}, which is none of train, "
            "valid and test (data.split=published)"
        )
    problems.note(f"column ignored: {column!r}")
    return frame.drop("part")


def _parquet_interactions(
    path: Path, columns: Mapping[str, str], given: Mapping[str, str], problems: Problems
) -> pl.DataFrame:
    frame = read_parquet(path, problems)
    check_columns(path, frame.columns, [*(columns[name] for name in _NEEDED), *given.values()])
    ignored_columns(frame.columns, list(columns.values()), problems)
    frame = frame.select(pl.col(theirs).alias(ours) for ours, theirs in columns.items() if theirs in frame.columns)
    problems.total += len(frame)
    for ours in ("timestamp", "rating", "part"):
        dtype = frame[ours].dtype if ours in frame.columns else pl.Int64
        if dtype.is_nested() or dtype == pl.Binary:
            raise UserError(
                f"{path}: column {columns[ours]!r} holds {str(dtype).split('(')[0].lower()} values, not numbers or text"
            )
    if frame["timestamp"].dtype == pl.Time:
        raise UserError(f"{path}: column {columns['timestamp']!r} holds times of day without a date")
    frame, lines = _with_text_ids(frame, problems)
    frame = check_values(frame, lines, problems)
    problems.delivered = len(frame)
    return frame


def _with_text_ids(frame: pl.DataFrame, problems: Problems) -> tuple[pl.DataFrame, list[int]]:
    """Ids of any type as text, and the line of each row that is left; an id that names nothing is a bad row."""
    reasons: dict[int, str] = {}
    for name in ("user_id", "item_id"):
        ids = frame[name]
        if ids.dtype.is_integer() or ids.dtype in (pl.String, pl.Categorical, pl.Enum):
            frame = frame.with_columns(ids.cast(pl.String))  # check_values counts the empty ones
            continue
        texts: list[str | None] = []
        for row, value in enumerate(ids.to_list()):
            try:
                texts.append(id_text(value))
            except ValueError as error:
                texts.append(None)
                reasons.setdefault(row, f"{name} {error}")
        frame = frame.with_columns(pl.Series(name, texts, pl.String))
    for row, reason in reasons.items():
        problems.add(row + 1, reason)
    lines = [line for line in range(1, len(frame) + 1) if line - 1 not in reasons]
    return frame[[line - 1 for line in lines]] if reasons else frame, lines
