"""Delimited files, with a header and quotation marks or plain."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from datamodules.sources.base import Problems, read_ratings
from datamodules.sources.lines import not_utf8
from datamodules.sources.quoting import Record, form_of, layout_of, physical_lines, records
from datamodules.sources.streams import count_records, pieces, read_whole
from datamodules.sources.times import float_step, parse_times, seconds, settle_times
from dig.config import UserError, nearest

__all__ = [
    "check_columns",
    "check_form",
    "read_header",
    "separator_of",
    "leads_outside",
    "check_values",
    "csv_records",
    "read_csv",
    "seconds",
    "first_fields",
    "read_plain",
]


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def separator_of(path: Path) -> str:
    """A tab for ``.tsv``, else a comma."""
    return "\t" if ".tsv" in path.suffixes else ","


def read_header(path: Path, content: bytes) -> list[str]:
    """The first record, without blanks around the names.

    Raises:
        UserError: if there is none, or if its quotes are not closed.
    """
    if not content or content.isspace():
        raise UserError(f"{path}: the file is empty")
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace", newline="")
    try:
        header = next(csv.reader(text, delimiter=separator_of(path), strict=True), [])
    except csv.Error as error:
        raise UserError(f"{path}:1: the header cannot be read: {error}") from None
    return [name.strip() for name in header]


def check_form(path: Path, content: bytes, required: Sequence[str]) -> None:
    """Checks that the first line is a header with this file's separator.

    Raises:
        UserError: which names the form that the file has instead, and what to do.
    """
    end = content.find(b"\n")
    first = content[: end if end >= 0 else len(content)].decode("utf-8", "replace").strip("\r\n")
    if first.strip('" ').lower().startswith("sep="):
        raise UserError(f"{path}:1: the first line is a spreadsheet's {first.strip()!r}, not the header; delete it")
    own = separator_of(path)
    if set(required) & set(read_header(path, content)):
        return
    if not first.strip():
        raise UserError(f"{path}:1: the first line is empty; it must be the header: {own.join(required)}")
    for other, name in _NAMES.items():
        names = [field.strip('" ') for field in first.split(other)]
        if other != own and set(required) & set(names):
            remedy = {",": "name it .csv", "\t": "name it .tsv"}.get(other, f"save it with {_NAMES[own]}")
            raise UserError(f"{path}:1: fields are separated by {name}, not {_NAMES[own]}; {remedy}")
    fields = first.split(own)
    after = content[end + 1 : content.find(b"\n", end + 1)].decode("utf-8", "replace").split(own) if end >= 0 else []
    alike = len(after) == len(fields) and _alike(fields, after) > 1
    if len(fields) >= len(required) and (alike or any(_is_value(field) for field in fields)):
        such = f", such as {own.join(required)!r}" if required else ""
        row = "" if leads_outside(path) else f" ({first[:60]})"
        raise UserError(
            f"{path}:1: there is no header, the first line is a row{row}; put a line of names before it{such}"
        )


def leads_outside(path: Path) -> bool:
    """Whether a file is a link out of its folder: one in a folder from a stranger may point to whatever is here, so
    errors do not quote what it holds."""
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError):
        return True


def check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    """Checks a header.

    Raises:
        UserError: for a column that is missing (with the nearest that is there) or stands there twice.
    """
    for name in required:
        if name not in columns:
            hint = nearest(name, columns)
            near = f"did you mean {hint!r}?" if hint else f"it has: {', '.join(columns) or 'nothing'}"
            if leads_outside(path):
                near = "the file is a link out of its folder, so its columns are not told"
            raise UserError(f"{path}: column {name!r} is missing; {near} (data.columns maps names)")
        if list(columns).count(name) > 1:
            raise UserError(f"{path}: column {name!r} stands there twice")


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many fields with digits have the form of the one below, as ``i17`` and ``i18``, unlike a name."""
    forms = [form_of(field) for field in first]
    return sum("9" in form and form == form_of(below) for form, below in zip(forms, second, strict=True))


def _is_value(field: str) -> bool:
    """Whether a field is a number or starts like a date, as no name does."""
    text = field.strip('" ')
    try:
        float(text)
    except ValueError:
        return len(text) >= 8 and text[:4].isdigit()
    return True


# Interactions from CSV and TSV: the whole table by polars, or row by row where quotes or line ends are odd.


_OPTIONAL = ("rating", "part")
_IDS = ("user_id", "item_id")


def read_csv(
    path: Path,
    columns: Mapping[str, str],
    problems: Problems,
    ignored: Sequence[str] = (),
    *,
    per_second: int = 1,
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp, and rating and part where there are any.

    Args:
        path: comma-separated (tab-separated for ``.tsv``) with a header, plain or compressed.
        columns: our name → the file's.
        problems: takes bad rows, with the line each begins at, and counts.
        ignored: columns that are known and of no use; others are noted.
        per_second: units of a timestamp in a second, where it is not a date.
        encoding: of the file.

    Raises:
        UserError: if the file is empty, damaged, in another form, or lacks or repeats a column.
    """
    content = read_whole(path, encoding)
    header = _checked_header(path, content, columns)
    extra = [name for name in header if name not in columns.values() and name not in ignored]
    if extra:
        problems.note(f"column ignored: {', '.join(repr(name) for name in extra[:5])}")
    columns_read = {ours: theirs for ours, theirs in columns.items() if theirs in header}
    parsed = _whole(content, path, header, columns_read, problems)
    if parsed is None:
        parsed = _row_by_row(content, path, header, columns_read, problems)
    frame = check_values(*parsed, problems, per_second=per_second, header=columns_read)
    problems.delivered = len(frame)
    return frame


def check_values(
    frame: pl.DataFrame,
    lines: Sequence[int] | np.ndarray,
    problems: Problems,
    *,
    per_second: int = 1,
    header: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Checks and converts columns; what cannot be is a bad row.

    Args:
        frame: user_id and item_id, text; timestamp and perhaps rating and part, of any type.
        lines: (rows,) where each begins.
        problems: takes the bad rows.
        per_second: units of a timestamp in a second, where it is not a date.
        header: our name → the file's, to tell a header that stands there again.

    Returns:
        The good rows, with timestamp in seconds and rating as Float64, and ``ticks`` where seconds alone do not keep
        the order (see :mod:`datamodules.sources.times`).
    """
    times = settle_times(parse_times(frame["timestamp"]), per_second)
    if step := float_step(frame["timestamp"]):
        text = f"timestamp as a float that tells numbers {step:,} apart at best; row order decides between equal ones"
        problems.note(text, len(frame))
    if times.unit:
        problems.note(f"timestamp in {times.unit}, brought to seconds", len(frame))
    columns = {name: frame[name] for name in _IDS} | {"timestamp": times.timestamp}
    if "rating" in frame.columns:
        ratings = read_ratings(frame["rating"])
        columns["rating"] = ratings.values
        for text, count in ratings.notes.items():
            problems.note(text, count)
    if "part" in frame.columns:
        columns["part"] = frame["part"]
    if times.ticks is not None:
        columns["ticks"] = times.ticks
    odd = times.timestamp.is_null() | (times.timestamp < 0)
    for name in _IDS:
        odd |= frame[name].is_null() | (frame[name] == "")
    if header:
        odd |= (frame["user_id"] == header["user_id"]) & (frame["item_id"] == header["item_id"])
    unreadable = ratings.unreadable if "rating" in frame.columns else []
    bad = dict.fromkeys([*unreadable, *odd.fill_null(value=True).arg_true()], "") | times.bad
    checked = pl.DataFrame(columns)
    if not bad:
        return checked
    for row in sorted(bad):
        problems.add(int(lines[row]), _reason(frame.row(row, named=True), times.timestamp[row], bad[row], header))
    mask = np.ones(len(frame), dtype=bool)
    mask[list(bad)] = False
    return checked.filter(mask)


def csv_records(
    path: Path, required: Sequence[str], problems: Problems, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a small table as dicts of text, with the line each begins at; wrong numbers of fields are bad rows.

    Raises:
        UserError: if the file is empty, damaged, in another form, or lacks or repeats a column.
    """
    content = read_whole(path, encoding)
    header = _checked_header(path, content, {name: name for name in required})
    id_place = header.index(required[0]) if required else None
    for record in _rows(content, path, header, range(len(header)), None, problems, id_place):
        if record.fields == header:
            problems.add(record.line, "the header again")
        else:
            yield record.line, dict(zip(header, record.fields or (), strict=True))


def _checked_header(path: Path, content: bytes, columns: Mapping[str, str]) -> list[str]:
    header = read_header(path, content)
    needed = [theirs for ours, theirs in columns.items() if ours not in _OPTIONAL]
    check_form(path, content, needed)
    present = [theirs for theirs in columns.values() if theirs in header]
    check_columns(path, header, list(dict.fromkeys([*needed, *present])))
    return header


def _reason(row: Mapping[str, object], time: float | None, reason: str, header: Mapping[str, str] | None) -> str:
    """Why a row is a bad one; the first reason of several."""
    if header and all(row[name] == header[name] for name in _IDS):
        return "the header again"
    for name in _IDS:
        if row[name] in (None, ""):
            return f"{name} is empty"
    shown = "(empty)" if row["timestamp"] in (None, "") else str(row["timestamp"])[:40]
    if time is None:
        return f"timestamp {shown} is not a number or date"
    if time < 0:
        return f"timestamp {shown} is negative"
    return f"timestamp {shown} {reason}" if reason else f"rating {str(row['rating'])[:40]!r} is not a number"


def _whole(
    content: bytes, path: Path, header: Sequence[str], columns: Mapping[str, str], problems: Problems
) -> tuple[pl.DataFrame, Sequence[int] | np.ndarray] | None:
    """All rows at once as text, with their lines, or None if only a closer look tells what is a row."""
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n") + b"\n"
    separator = separator_of(path)
    layout = layout_of(content, separator, len(header))
    if layout is None:
        return None
    places = {header.index(theirs): ours for ours, theirs in columns.items()}
    frame = _parsed(content, separator, sorted({*places, len(header) - 1}))
    everything = len(places.keys() | {len(header) - 1}) == len(header)
    if frame is not None and not everything and frame[:, -1].null_count():
        frame, everything = _parsed(content, separator, range(len(header))), True
    if frame is None or len(frame) != layout.rows - 1:
        return None
    # A short row leaves its last field null. A long one is refused by polars if all columns are read; if not, it shows
    # in the number of separators, unless a short one makes up for it.
    if (frame[:, -1].null_count() or not everything) and (layout.separators() != layout.rows * (len(header) - 1)):
        return None
    frame = frame.select(pl.col(str(header.index(theirs))).alias(ours) for ours, theirs in columns.items())
    if frame["user_id"].null_count() and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
        return None  # perhaps an empty line
    problems.in_file += layout.rows - 1
    problems.total += len(frame)
    return frame, range(2, len(frame) + 2) if layout.lines is None else layout.lines[1:]


def _parsed(content: bytes, separator: str, places: Sequence[int]) -> pl.DataFrame | None:
    """Some columns as text, named by their places."""
    try:
        frame = pl.read_csv(io.BytesIO(content), infer_schema=False, columns=list(places), separator=separator)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError):
        return None
    frame.columns = [str(place) for place in places]
    return frame


def _row_by_row(
    content: bytes, path: Path, header: Sequence[str], columns: Mapping[str, str], problems: Problems
) -> tuple[pl.DataFrame, list[int]]:
    places = {ours: list(header).index(theirs) for ours, theirs in columns.items()}
    rows, lines = [], []

    def has_time(fields: list[str]) -> bool:
        times = parse_times(pl.Series([fields[places["timestamp"]]]))
        return not times.number.null_count() or (times.second is not None and not times.second.null_count())

    for record in _rows(content, path, header, list(places.values()), has_time, problems):
        values = [(record.fields or ())[place] for place in places.values()]
        broken = next((name for name, value in zip(places, values, strict=True) if not_utf8(value)), None)
        if broken:
            problems.add(record.line, f"{broken} is not UTF-8; data.encoding names another encoding")
        elif any("\0" in value for value in values):
            problems.add(record.line, "holds a null byte")
        else:
            rows.append(values)
            lines.append(record.line)
    return pl.DataFrame(rows, schema=dict.fromkeys(places, pl.String), orient="row"), lines


def _rows(
    content: bytes,
    path: Path,
    header: Sequence[str],
    needed: Sequence[int],
    is_row: Callable[[list[str]], bool] | None,
    problems: Problems,
    id_place: int | None = None,
) -> Iterator[Record]:
    """Rows with the right number of fields; counts all lines, and adds what is a bad row."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")
    parsed = records(text, separator_of(path), len(header), needed, is_row, id_place)
    others = next(parsed).lines  # lines that begin no row: of the header, empty, or inside a quoted field
    literal = 0
    for record in parsed:
        if record.fields == []:
            others += record.lines
            continue
        others += record.lines - 1
        problems.total += 1
        literal += record.literal
        if record.fields is None:
            problems.add(record.line, record.reason)
        else:
            yield record
    if literal:
        problems.note("row with a quote mark that closes nothing, read as a character", literal)
    problems.in_file += physical_lines(content) - others


# Interactions in files without a header and without quotation marks: a row per line, fields between a separator.


def read_plain(
    path: Path, separator: str, columns: Sequence[str], problems: Problems, encoding: str = "utf-8", per_second: int = 1
) -> pl.DataFrame:
    """Reads user_id, item_id, timestamp and rating; every line that is not empty is a row or a bad row.

    Args:
        path: plain or compressed.
        separator: between the fields.
        columns: what the fields are, in their order.
        problems: takes bad rows, and counts.
        encoding: of the file.
        per_second: units of a timestamp in a second.

    Raises:
        UserError: if the file is empty or damaged.
    """
    content = read_whole(path, encoding)
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    lines = pl.read_csv(
        io.BytesIO(content),
        has_header=False,
        separator="\n",
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
        encoding="utf8-lossy",
    )["line"].str.strip_suffix("\r")
    text = lines.fill_null("").str.strip_chars() != ""
    numbers = text.arg_true() + 1
    rows = lines.filter(text)
    if separator == ",":
        rows = rows.str.replace_all('"', "", literal=True)
    fields = rows.str.split(separator)
    whole = fields.list.len() == len(columns)
    problems.total += len(fields)
    problems.in_file += count_records(content)
    for row in (~whole).arg_true():
        problems.add(numbers[row], f"{len(fields[row])} fields instead of {len(columns)}")
    frame = pl.DataFrame({name: fields.filter(whole).list.get(place) for place, name in enumerate(columns)})
    numbers = numbers.filter(whole)
    for name in ("user_id", "item_id"):
        broken = frame[name].str.contains("\ufffd", literal=True)
        for row in broken.arg_true():
            problems.add(numbers[row], f"{name} is not UTF-8")
        frame, numbers = frame.filter(~broken), numbers.filter(~broken)
    frame = check_values(frame, numbers.to_list(), problems, per_second=per_second)
    problems.delivered = len(frame)
    return frame


def first_fields(path: Path, separator: str, rows: int = 1000) -> list[list[str]]:
    """The fields of the first lines, for telling what a file holds."""
    start = next(pieces(path), b"")
    lines = (line.strip() for line in start.decode("utf-8", "replace").split("\n"))
    return [line.split(separator) for line in islice(filter(None, lines), rows)]
