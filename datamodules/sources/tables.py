"""The interchange format: ``interactions.{csv,csv.gz,parquet}`` and ``items.{jsonl,jsonl.gz,parquet}`` in one folder.

What cannot be read is counted with file, line and reason; past ``data.max_bad_fraction`` the file is refused.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from dig.config import UserError, nearest
from dig.config.schema import DataConfig
from dig.console import warn

__all__ = ["CATALOGUE_SCHEMA", "Tables", "input_files", "read_tables"]

CATALOGUE_SCHEMA = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
    "price": pl.Float64,
    "image": pl.String,
}
_REQUIRED = {"interactions": ("user_id", "item_id", "timestamp"), "items": ("item_id", "title")}
_SUFFIXES = {"interactions": (".csv", ".csv.gz", ".parquet"), "items": (".jsonl", ".jsonl.gz", ".parquet")}
_SHOWN_PROBLEMS = 5


@dataclass
class Tables:
    """What a source delivers.

    Attributes:
        interactions: user_id, item_id, timestamp (as Float64), rows in file order.
        catalogue: one row an item, columns of ``CATALOGUE_SCHEMA``, in file order.
        bad_rows: unparsable rows that were left out.
    """

    interactions: pl.DataFrame
    catalogue: pl.DataFrame
    bad_rows: int = 0


@dataclass
class _Problems:
    """Bad rows of one file."""

    path: Path
    total: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        self.rows.append((line, reason))

    def settle(self, max_fraction: float) -> int:
        """Says what was wrong; refuses the file when too much was."""
        if not self.rows:
            return 0
        for line, reason in self.rows[:_SHOWN_PROBLEMS]:
            warn(f"{self.path.name}:{line}: {reason}; the row is left out")
        count, share = len(self.rows), len(self.rows) / max(self.total, 1)
        if share > max_fraction:
            line, reason = self.rows[0]
            raise UserError(
                f"{self.path}: {count} of {self.total} rows ({share:.1%}) cannot be read, more than "
                f"data.max_bad_fraction={max_fraction:.1%}; the first is line {line}: {reason}"
            )
        warn(f"{self.path.name}: {count} of {self.total} rows ({share:.2%}) could not be read and were left out")
        return count


def input_files(config: DataConfig) -> dict[str, Path]:
    """The two files of ``data.path``.

    Raises:
        UserError: if the folder or one of them is missing.
    """
    folder = Path(config.path or "").expanduser()
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder; set it, or DIG_DATA_ROOT above it")
    files = {}
    for table, suffixes in _SUFFIXES.items():
        found = [folder / f"{table}{suffix}" for suffix in suffixes if (folder / f"{table}{suffix}").is_file()]
        if not found:
            names = ", ".join(f"{table}{suffix}" for suffix in suffixes)
            raise UserError(f"{folder} has no table of {table}; looked for {names}")
        if len(found) > 1:
            raise UserError(f"{folder} has {found[0].name} and {found[1].name}; keep one of them")
        files[table] = found[0]
    return files


def read_tables(files: dict[str, Path], config: DataConfig) -> Tables:
    """Reads and checks both tables.

    Raises:
        UserError: for a missing column, too many unparsable rows, an empty table, an item given twice, or (with
            ``data.unknown_items=refuse``) an interaction with an item that the catalogue lacks.
    """
    catalogue, bad_items = _read_items(files["items"], config.max_bad_fraction)
    if catalogue.is_empty():
        raise UserError(f"{files['items']}: the catalogue is empty")
    interactions, bad_interactions = _read_interactions(files["interactions"], config.max_bad_fraction)
    if interactions.is_empty():
        raise UserError(f"{files['interactions']}: there are no interactions")
    interactions = _check_items_known(interactions, catalogue, files, config)
    return Tables(interactions, catalogue, bad_items + bad_interactions)


def _check_items_known(
    interactions: pl.DataFrame, catalogue: pl.DataFrame, files: dict[str, Path], config: DataConfig
) -> pl.DataFrame:
    known = interactions["item_id"].is_in(catalogue["item_id"].implode())
    if known.all():
        return interactions
    unknown = interactions.filter(~known)["item_id"]
    found = f"{len(unknown)} interactions with {unknown.n_unique()} items that {files['items'].name} lacks"
    if config.unknown_items == "refuse":
        raise UserError(f"{files['interactions']}: {found}, for example {unknown[0]!r}; add them to the catalogue, or "
                        "set data.unknown_items=drop")  # fmt: skip
    warn(f"{files['interactions'].name}: {found}; they are left out (data.unknown_items=drop)")
    return interactions.filter(known)


def _read_interactions(path: Path, max_bad: float) -> tuple[pl.DataFrame, int]:
    if path.suffix == ".parquet":
        frame = _read_parquet(path)
        _check_columns(path, "interactions", frame.columns)
        raw, lines = frame.select(_REQUIRED["interactions"]), None
        problems = _Problems(path, total=len(raw))
    else:
        raw, lines, problems = _read_csv(path)
    raw = raw.select(pl.col("user_id", "item_id").cast(pl.String), pl.col("timestamp"))
    parsed = raw.with_columns(_timestamp(raw["timestamp"]).alias("parsed"))
    reason = (
        pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("user_id is empty"))
        .when(pl.col("item_id").fill_null("") == "").then(pl.lit("item_id is empty"))
        .when(pl.col("parsed").is_null())
        .then(pl.format("timestamp {} is not a number", pl.col("timestamp").cast(pl.String).fill_null("(empty)")))
    )  # fmt: skip
    checked = parsed.with_row_index("row").with_columns(reason.alias("reason"))
    for row, text in checked.filter(pl.col("reason").is_not_null()).select("row", "reason").iter_rows():
        problems.add(lines[row] if lines is not None else row + 1, text)
    bad = problems.settle(max_bad)
    good = checked.filter(pl.col("reason").is_null())
    return good.select("user_id", "item_id", pl.col("parsed").alias("timestamp")), bad


def _timestamp(values: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("ms")).dt.epoch("ms") / 1000
    numbers = values.cast(pl.Float64, strict=False)
    return numbers.set(numbers.is_finite().not_().fill_null(value=False), None)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _read_csv(path: Path) -> tuple[pl.DataFrame, list[int] | range, _Problems]:
    """All columns as text, the line number of each row, and rows with a wrong number of fields."""
    with _open_text(path) as stream:
        header = next(csv.reader([stream.readline().lstrip("\ufeff")]), [])
    _check_columns(path, "interactions", header)
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8", columns=list(_REQUIRED["interactions"]))
        return frame, range(2, len(frame) + 2), _Problems(path, total=len(frame))
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError):
        return _read_csv_by_line(path, header)  # slower, and knows which line is wrong


def _read_csv_by_line(path: Path, header: list[str]) -> tuple[pl.DataFrame, list[int], _Problems]:
    problems = _Problems(path)
    columns = [header.index(name) for name in _REQUIRED["interactions"]]
    rows, lines = [], []
    with _open_text(path) as stream:
        reader = csv.reader(_intact_lines(path, stream))
        next(reader, None)
        for fields in reader:
            problems.total += 1
            if len(fields) != len(header):
                problems.add(reader.line_num, f"{len(fields)} fields instead of {len(header)}")
            else:
                rows.append([fields[column] for column in columns])
                lines.append(reader.line_num)
    schema = dict.fromkeys(_REQUIRED["interactions"], pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row"), lines, problems


def _read_items(path: Path, max_bad: float) -> tuple[pl.DataFrame, int]:
    if path.suffix == ".parquet":
        frame = _read_parquet(path)
        _check_columns(path, "items", frame.columns)
        records: Iterable[tuple[int, Any]] = enumerate(frame.iter_rows(named=True), start=1)
        problems = _Problems(path, total=len(frame))
    else:
        problems = _Problems(path)
        records = _json_lines(path, problems)
    rows: list[tuple[Any, ...]] = []
    seen: dict[str, int] = {}
    for line, record in records:
        try:
            row = _item_row(record)
        except ValueError as error:
            problems.add(line, str(error))
            continue
        if row[0] in seen:
            problems.add(line, f"item {row[0]!r} stands in line {seen[row[0]]} already")
            continue
        seen[row[0]] = line
        rows.append(row)
    if not rows and problems.rows and all(reason.startswith("no item_id") for _, reason in problems.rows):
        raise UserError(f"{path}: column item_id is missing")
    bad = problems.settle(max_bad)
    return pl.DataFrame(rows, schema=CATALOGUE_SCHEMA, orient="row"), bad


def _json_lines(path: Path, problems: _Problems) -> Iterator[tuple[int, Any]]:
    with _open_text(path) as stream:
        for number, line in enumerate(_intact_lines(path, stream), start=1):
            if not line.strip():
                continue
            problems.total += 1
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                problems.add(number, f"not JSON: {error.msg} at column {error.colno}")


def _item_row(record: Any) -> tuple[Any, ...]:
    if not isinstance(record, dict):
        raise ValueError(f"holds a {type(record).__name__}, not an item")
    item_id = record.get("item_id")
    if item_id is None or str(item_id) == "":
        raise ValueError("no item_id")
    price = record.get("price")
    try:
        price = None if price in (None, "") else float(str(price).lstrip("$").replace(",", ""))
    except ValueError:
        price = None  # a price in words says nothing that dig uses
    texts = [_text(record.get(name)) for name in ("title", "brand", "description", "image")]
    title, brand, description, image = texts
    return str(item_id), title, brand, _flat_names(record.get("categories")), description, price, image


def _text(value: Any) -> str | None:
    """A text, or texts joined by spaces; None where there is nothing."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value if part)
    return str(value).strip() or None if value is not None else None


def _flat_names(value: Any) -> list[str] | None:
    """Category names of a list, or of a list of paths, each once and in order."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    names = [name for part in parts for name in (part if isinstance(part, list) else [part])]
    return list(dict.fromkeys(str(name).strip() for name in names if name)) or None


def _check_columns(path: Path, table: str, columns: list[str]) -> None:
    for name in _REQUIRED[table]:
        if name not in columns:
            hint = nearest(name, columns)
            found = f"did you mean {hint!r}?" if hint else f"it has: {', '.join(columns) or 'nothing'}"
            raise UserError(f"{path}: column {name!r} is missing; {found}")
    repeated = [name for name in _REQUIRED[table] if columns.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands there twice")


def _open_text(path: Path) -> TextIO:
    stream = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - the caller closes it
    return TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")


def _intact_lines(path: Path, stream: TextIO) -> Iterator[str]:
    try:
        yield from stream
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise UserError(f"{path}: damaged or cut off: {error}") from None
