"""Tables of rankings that other programs wrote, as they stand in the file: Parquet, CSV, JSON and TREC run files."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import polars as pl

from dig.comparison.runs import path_of
from dig.config import UserError, nearest
from dig.engine.console import printable
from dig.received.tables import extent_problem

__all__ = ["FILES", "counted", "frame_of", "is_rankings_file", "read_file", "refused"]

FILES = (
    ".parquet",
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".jsonl",
    ".jsonl.gz",
    ".ndjson",
    ".json",
    ".json.gz",
    ".run",
    ".run.gz",
    ".trec",
    ".trec.gz",
)
"""Extensions of files with rankings."""
_TREC = ("query", "q0", "doc", "rank", "score", "tag")
_PICKLED = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_QUOTES = "a quote mark does not end on the line where it begins, or in the middle of a cell"
_USERS = ("user", "userid", "uid", "query", "queryid", "qid", "customer", "customerid")
_ITEMS = ("item", "itemid", "iid", "items", "itemids", "docid", "recommendations", "recs", "ranking", "topk")
_DELIMITERS = (",", ";", "\t")
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a long list is a cell as any other
_UNPACKED = 4 << 30  # bytes of a gzipped text at most
_SHOWN = 60  # characters of a value from the file
csv.field_size_limit(2**31 - 1)  # a ranking of a whole catalogue is one cell


def is_rankings_file(text: str) -> bool:
    """Whether an argument names a file, there or not, rather than a run."""
    path = path_of(text)
    if any((path / inside / "config.yaml").is_file() for inside in (".", "latest")):
        return False
    return path.is_file() or text.lower().endswith((*FILES, *_PICKLED))


def refused(name: str, problem: str) -> UserError:
    """One line on what is wrong with a file; wrong input is exit code 2."""
    return UserError(f"{name}: {problem}", exit_code=2)


def counted(number: int, thing: str) -> str:
    """``1 user``, ``2,000 users``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def read_file(path: Path) -> pl.DataFrame:
    """The columns of a file; those of a text file are strings, or lists of strings.

    A folder of Parquet files, which Spark writes under the name of one, is read as one table.

    Raises:
        UserError: it is not there, cannot be read, or is of another kind; one line says which line of it.
    """
    name, lower = str(path), path.name.lower()
    if lower.endswith(_PICKLED):
        raise refused(name, "pickled files can run code and are not opened; write the rankings as Parquet or CSV")
    if not path.exists():
        files = [other.name for other in path.parent.glob("*") if other.name.lower().endswith(FILES)]
        hint = nearest(path.name, files)
        raise refused(name, f"no such file{f'; did you mean {path.parent / hint}?' if hint else ''}")
    if lower.endswith(".parquet"):
        return _parquet(path)
    kind = next((end.removesuffix(".gz") for end in FILES if lower.endswith(end)), None)
    if kind is None:
        raise refused(name, f"rankings are read from {', '.join(FILES)}, not from {path.suffix or 'such files'}")
    if path.is_dir():
        raise refused(name, "it is a folder, not a file")
    text = _text(path)
    if kind in (".csv", ".tsv"):
        return _delimited(text, name, "\t" if kind == ".tsv" else None)
    if kind in (".run", ".trec"):
        return _trec(text, name)
    records = _json_lines(text, name) if kind in (".jsonl", ".ndjson") else _json(text, name)
    return _columns(records, name)


def frame_of(table: Any, name: str) -> pl.DataFrame:
    """A table that is in memory already: polars, pandas, columns by name, or lists by user.

    Args:
        table: a polars or pandas DataFrame, or items (best first) or scores by item, by user.
        name: for messages.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, Mapping):
        content = {str(user): _plain(items) for user, items in table.items()}
        return _columns(_by_column(content) or _by_user(content, name), name)
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if hasattr(table, "columns") and hasattr(table, "to_dict"):
        return _columns(
            [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")], name
        )
    raise refused(name, f"rankings are a file, a DataFrame or lists by user, not a {type(table).__name__}")


def _parquet(path: Path) -> pl.DataFrame:
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    for part in parts:
        problem = extent_problem(part)
        if problem is not None:
            raise refused(str(part), f"it cannot be read as Parquet ({printable(problem, 120)})")
    try:
        return pl.read_parquet(parts, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise refused(str(path), f"it cannot be read as Parquet ({printable(str(error), 120)})") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.open(BytesIO(content)) as stream:
                content = stream.read(_UNPACKED + 1)
            if len(content) > _UNPACKED:
                raise refused(str(path), f"it unpacks to more than {_UNPACKED >> 30} GB; write it as Parquet")
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise refused(str(path), f"it cannot be read ({printable(str(error), 120)})") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise refused(str(path), "it is written in UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refused(str(path), f"line {line} is not UTF-8; save the file as UTF-8") from None
    if not text.strip():
        raise refused(str(path), "it is empty")
    return text


def _lines(text: str) -> list[str]:
    """Lines as editors count them: a line separator of Unicode is a character of its line."""
    return list(StringIO(text, newline=""))


def _delimited(text: str, name: str, delimiter: str | None) -> pl.DataFrame:
    """Columns of strings; every line is a row of the header's length, or refused."""
    lines = _lines(text)
    first = max(_DELIMITERS, key=lines[0].count) if delimiter is None else delimiter
    reader = csv.reader(lines, delimiter=first, strict=True)
    rows: list[list[str]] = []
    line = 0  # the last that was read as a whole
    try:
        header = [field.strip() for field in next(reader)]
        line = reader.line_num
        for row in reader:
            if reader.line_num > line + 1 and not _wraps_lists(row):
                raise refused(name, f"line {line + 1}: {_QUOTES}")
            line = reader.line_num
            if row and len(row) != len(header):
                lists = "; a list that holds the delimiter needs quotes around it" if "[" in "".join(row) else ""
                raise refused(name, f"line {line} has {len(row)} fields and the header {len(header)}{lists}")
            if row:
                rows.append(row)
    except csv.Error:
        raise refused(name, f"line {line + 1}: {_QUOTES}") from None
    twice = next((field for field in header if field and header.count(field) > 1), None)
    if twice is not None:
        raise refused(name, f"two columns are called {printable(twice, _SHOWN)}")
    values = list(zip(*rows, strict=True)) or [()] * len(header)
    return pl.DataFrame(
        {field: pl.Series(list(column), dtype=pl.String) for field, column in zip(header, values, strict=True) if field}
    )


def _wraps_lists(row: list[str]) -> bool:
    """Whether line ends stand in printed lists alone: NumPy breaks a line after 75 characters."""
    broken = [cell.strip() for cell in row if "\n" in cell or "\r" in cell]
    return all(cell[:1] == "[" and cell[-1:] == "]" and cell.count("[") == 1 for cell in broken)


def _trec(text: str, name: str) -> pl.DataFrame:
    """``query Q0 document rank score tag``, six fields between blanks."""
    rows = []
    for number, line in enumerate(_lines(text), start=1):
        fields = line.split()
        if fields and len(fields) != len(_TREC):
            raise refused(name, f"line {number} has {len(fields)} fields; a TREC run has six: {' '.join(_TREC)}")
        if fields:
            rows.append(fields)
    columns = zip(*rows, strict=True)
    return pl.DataFrame(
        {field: pl.Series(list(column), dtype=pl.String) for field, column in zip(_TREC, columns, strict=True)}
    )


def _loads(text: str) -> Any:
    """JSON whose numbers stay as they are written, so that no id is rounded; NaN is nothing."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("it is deeper than Python reads") from None


def _json_lines(text: str, name: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        try:
            record = _loads(line)
        except ValueError as error:
            raise refused(name, f"line {number} is not JSON ({printable(str(error), _SHOWN)})") from None
        if not isinstance(record, dict):
            raise refused(name, f"line {number} must be an object with user and items, not a {type(record).__name__}")
        records.append(record)
    return records


def _json(text: str, name: str) -> list[dict[str, Any]]:
    """A list of records, or lists or scores by user, as ranx saves its runs."""
    try:
        content = _loads(text)
    except ValueError as error:
        raise refused(name, f"it is not JSON ({printable(str(error), _SHOWN)})") from None
    if isinstance(content, dict):
        return _by_column(content) or _by_user(content, name)
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise refused(name, "it must be a list of objects, or an object with lists (or scores) by user")
    return content


def _by_column(content: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a table that is written column by column, as pandas does by default, or as its ``split``."""
    if set(content) == {"columns", "index", "data"} and all(isinstance(part, list) for part in content.values()):
        rows = [row for row in content["data"] if isinstance(row, list) and len(row) == len(content["columns"])]
        return [dict(zip(content["columns"], row, strict=True)) for row in rows] if rows == content["data"] else None
    words = [re.sub(r"[^a-z]", "", key.partition(":")[0].lower()) for key in content]
    if not any(word in _USERS for word in words) or not any(word in _ITEMS for word in words):
        return None
    columns = [dict(enumerate(column)) if isinstance(column, list) else column for column in content.values()]
    if not all(isinstance(column, dict) and list(column) == list(columns[0]) for column in columns):
        return None
    return [{key: column[row] for key, column in zip(content, columns, strict=True)} for row in columns[0]]


def _by_user(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for user, ranked in content.items():
        if isinstance(ranked, list):
            records.append({"user": user, "items": ranked})
        elif isinstance(ranked, dict):
            records += [{"user": user, "item": item, "score": score} for item, score in ranked.items()]
        else:
            raise refused(
                name,
                f"user {printable(user, _SHOWN)} must have a list of items or their scores, not "
                f"{printable(str(ranked), _SHOWN)}",
            )
    if len({tuple(record) for record in records}) > 1:
        raise refused(name, "some users have lists, others have scores by item; write all in one way")
    return records


def _columns(records: list[dict[str, Any]], name: str) -> pl.DataFrame:
    if not records:
        raise refused(name, "it holds no user")
    keys = list(dict.fromkeys(key for record in records for key in record))
    return pl.DataFrame({key: _series([record.get(key) for record in records], key, name) for key in keys})


def _series(values: list[Any], key: str, name: str) -> pl.Series:
    if any(isinstance(value, dict) for value in values):
        raise refused(name, f"{printable(key, _SHOWN)} holds objects where an id, a score or a list of items should be")
    lists = [isinstance(value, list) for value in values if value is not None]
    if not any(lists):
        return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
    if not all(lists):
        raise refused(name, f"{printable(key, _SHOWN)} is a list in some rows and a single value in others")
    kinds = {type(element) for value in values for element in value or ()} - {type(None)}
    if kinds <= {str}:
        return pl.Series(values, dtype=pl.List(pl.String))
    if kinds <= {dict}:
        fields = dict.fromkeys(field for value in values for element in value or () for field in element or ())
        texts = [
            None
            if value is None
            else [{field: _scalar((element or {}).get(field), key, name) for field in fields} for element in value]
            for value in values
        ]
        return pl.Series(texts, dtype=pl.List(pl.Struct(dict.fromkeys(fields, pl.String))))
    wrong = ", ".join(sorted(kind.__name__ for kind in kinds))
    hint = "; items with their scores are written as {item: score}" if kinds == {list} else ""
    raise refused(name, f"{printable(key, _SHOWN)} must hold ids, not {wrong}{hint}")


def _scalar(value: Any, key: str, name: str) -> str | None:
    if isinstance(value, list | dict):
        raise refused(name, f"{printable(key, _SHOWN)} holds lists in lists")
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    """Python's own values of NumPy's and pandas', numbers as the text that JSON would have."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or value != value:  # NaN is nothing
        return None
    return value if isinstance(value, str) else str(value)
