"""Item records of any source to rows of the catalogue."""

from __future__ import annotations

import ast
import html
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import CATALOGUE_SCHEMA, Problems
from datamodules.sources.cells import flat, id_text, price_of, quoted_list
from datamodules.sources.lines import not_utf8
from datamodules.sources.streams import Block, blocks, count_records

__all__ = [
    "Row",
    "catalogue_frame",
    "category_names",
    "item_row",
    "known_id",
    "plain_text",
    "price_of",
    "text_of",
    "parse_json",
    "parse_literal",
    "read_metadata",
]


Row = tuple[str, str | None, str | None, list[str] | None, str | None, float | None, str | None]
"""A row of ``CATALOGUE_SCHEMA``: item_id, title, brand, categories, description, price, image."""

_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?(-->|$)", re.DOTALL)
_SCRAPED = re.compile(r"var aPageStart|function\s*\(|getTime\(\)|\.a-box-inner|\{\s*background")
_UNIT = "\x1f"
_SURROGATE = re.compile("[\ud800-\udfff]")


def item_row(
    item_id: Any,
    title: Any = None,
    brand: Any = None,
    categories: Any = None,
    description: Any = None,
    price: Any = None,
    image: Any = None,
) -> Row:
    """A catalogue row of loosely typed values.

    Raises:
        ValueError: without an id.
    """
    return (
        known_id(item_id),
        text_of(title),
        text_of(brand),
        category_names(categories),
        text_of(description),
        price_of(price),
        text_of(image),
    )


def known_id(value: Any) -> str:
    """An item's id as text.

    Raises:
        ValueError: without an id.
    """
    try:
        return id_text(value)
    except ValueError as error:
        raise ValueError("no item id" if "is empty" in str(error) else f"item id {error}") from None


def catalogue_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table of ``CATALOGUE_SCHEMA``."""
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(CATALOGUE_SCHEMA)
    content = dict(zip(CATALOGUE_SCHEMA, columns, strict=True))
    # Lists are handed over as joined text, which is many times faster than a Python list per row.
    joined = [None if names is None else _UNIT.join(names) for names in content.pop("categories")]
    plain = {name: pl.Series(name, values, CATALOGUE_SCHEMA[name], strict=False) for name, values in content.items()}
    frame = pl.DataFrame({**plain, "categories": pl.Series(joined, dtype=pl.String)})
    return frame.with_columns(pl.col("categories").str.split(_UNIT)).select(list(CATALOGUE_SCHEMA))


def text_of(value: Any) -> str | None:
    """A text, or texts joined by spaces; None where there is nothing. Bytes that were not UTF-8 become U+FFFD."""
    if value is None:
        return None
    if isinstance(value, str):  # nearly always
        value = value.strip()
        return (value if value.isascii() else _SURROGATE.sub("\ufffd", value)) or None
    if isinstance(value, (list, tuple)):
        value = " ".join(text for part in value if part and (text := text_of(part)))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            return None
        value = int(value) if value == int(value) else value  # a column of whole numbers with gaps is one of floats
    return None if isinstance(value, bool) else text_of(str(value))


def category_names(value: Any) -> list[str] | None:
    """Category names of a text, a list (also one that a text spells), or a list of paths, each once and in order."""
    if value is None:
        return None
    texts = (text.replace(_UNIT, " ") for name in flat(quoted_list(value)) if name and (text := text_of(name)))
    return list(dict.fromkeys(texts)) or None


def plain_text(value: Any) -> str | None:
    """Scraped text without markup: entities resolved (some are escaped twice), scripts and tags gone, one line.

    Returns:
        None where nothing is left, or where it is the code of a page and not a text.
    """
    value = quoted_list(value)
    if isinstance(value, list):
        return " ".join(text for part in value if part and (text := plain_text(part))) or None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    text = str(value)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _TAG.sub(" ", _SCRIPT.sub(" ", text))
    text = " ".join(text.split())
    return None if not text or _SCRAPED.search(text) else text


# Metadata files, a record per line, parsed on all cores with bounded memory.


_POOLED = 8 << 20  # bytes; a smaller file is done before worker processes have started
Parsed = tuple[pl.DataFrame, list[tuple[int, str]], int, int]
"""A block's good rows, its bad ones by line, its number of rows, and how many have bytes that are not UTF-8."""


def parse_json(line: str) -> Any:
    """A JSON value.

    Raises:
        ValueError: if it is none.
    """
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None


def parse_literal(line: str) -> Any:
    """A Python literal; code is refused, never run.

    Raises:
        ValueError: if it is none.
    """
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("not a Python literal") from None


def read_metadata(
    path: Path,
    parse: Callable[[str], Any],
    convert: Callable[[dict[str, Any]], Row],
    problems: Problems,
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """Reads a catalogue. Of several records of one item the first stays, which is noted: publishers repeat items.

    Args:
        path: one record per line, plain or compressed.
        parse: a line to a dict; module-level, since it travels to other processes.
        convert: a record to a catalogue row, raising ValueError for a bad one; module-level, too.
        problems: takes what is wrong, and counts.
        encoding: of the file.

    Raises:
        UserError: if the file is damaged or cut off.
    """
    frames = [catalogue_frame([])]
    for frame, bad, total, broken in _parsed(_counted(path, encoding, problems), path, parse, convert):
        problems.total += total
        for _ in range(broken):
            problems.note_broken_text()
        for line, reason in bad:
            problems.add(line, reason)
        frames.append(frame)
    everything = pl.concat(frames)
    once = everything.unique("item_id", keep="first", maintain_order=True)
    if len(once) < len(everything):
        problems.left_out = len(everything) - len(once)
        problems.note("an item repeated, the first record is kept", problems.left_out)
    problems.delivered = len(once)
    return once


def _counted(path: Path, encoding: str, problems: Problems) -> Iterator[Block]:
    """The file's blocks; counts their records before they are parsed."""
    for block in blocks(path, encoding):
        problems.in_file += count_records(block.data)
        yield block


def _parsed(
    counted: Iterator[Block], path: Path, parse: Callable[[str], Any], convert: Callable[[dict[str, Any]], Row]
) -> Iterator[Parsed]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2 or path.stat().st_size < _POOLED:
        yield from (_parse_block(block, parse, convert) for block in counted)
        return
    from joblib import Parallel, delayed

    # Its processes start without importing the caller's script, so no `if __name__ == "__main__"` is needed.
    pool = Parallel(n_jobs=cores, return_as="generator", pre_dispatch="2*n_jobs", max_nbytes=None)
    yield from pool(delayed(_parse_block)(block, parse, convert) for block in counted)


def _parse_block(block: Block, parse: Callable[[str], Any], convert: Callable[[dict[str, Any]], Row]) -> Parsed:
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    total, broken = 0, 0
    for number, line in enumerate(block.data.split(b"\n") if block.data.strip() else (), start=block.first_line):
        if not line.strip():
            continue
        total += 1
        try:
            text = line.decode("utf-8", "surrogateescape").strip()
            broken += not_utf8(text)
            record = parse(text)
            if not isinstance(record, dict):
                raise ValueError(f"holds a {type(record).__name__}, not an item")
            rows.append(convert(record))
        except (ValueError, RecursionError) as error:
            bad.append((number, str(error)))
    return catalogue_frame(rows), bad, total, broken
