"""Metadata files, a record a line, parsed on all cores with bounded memory."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.catalogue import Row, catalogue_frame
from datamodules.sources.lines import not_utf8
from datamodules.sources.streams import Block, blocks, count_records

__all__ = ["parse_json", "parse_literal", "read_metadata"]

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
        path: one record a line, plain or compressed.
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
