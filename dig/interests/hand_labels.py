"""Labels of interests that a person made: a CSV file, read as untrusted text."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dig.config.errors import UserError
from dig.engine.folding import fold
from dig.interests.interest import fold_column
from dig.interests.reading import BadLineError, ReadingLog

__all__ = ["COLUMNS", "HandLabels", "read_labels"]

COLUMNS = ("item_id", "interest", "label")
"""Columns of the file; it may have more."""


@dataclass
class HandLabels:
    """A file of labels: ``verdicts`` (interests,) int8 1, 0 or -1 (not labelled), and what reading it met."""

    verdicts: np.ndarray
    log: ReadingLog


def read_labels(path: Path, interests: pl.DataFrame, max_bad_fraction: float = 0.01) -> HandLabels:
    """Reads ``item_id,interest,label``, a row an interest of an item; the label is 1 or 0.

    An interest is found by its text or one of the wordings that were merged into it, folded; every miner's counts. A
    row with any fault, or against an earlier one, is left out, counted, and kept as an example with file, line and
    reason; rows about interests that are not there are counted in ``log.unknown``.

    Raises:
        UserError: if the file is missing, is no UTF-8 text or lacks a column, or more than ``max_bad_fraction`` of its
            rows are bad.
    """
    rows_of = _rows_of(interests)
    verdicts = np.full(interests.height, -1, dtype=np.int8)
    log = ReadingLog(path)
    for number, row in _rows(path):
        log.lines += 1
        try:
            item_id, phrase, label = _fields(row)
            places = rows_of.get((item_id, phrase))
            if places is None:
                log.unknown[f"{item_id}: {phrase}"] += 1
            elif (verdicts[places] == 1 - label).any():
                raise BadLineError(f"label {label} of {phrase!r} of {item_id!r} contradicts an earlier row")
            else:
                log.twins += int((verdicts[places] == label).all())
                verdicts[places] = label
        except BadLineError as error:
            log.bad(number, error)
    log.refuse_above(max_bad_fraction)
    return HandLabels(verdicts, log)


def _rows_of(interests: pl.DataFrame) -> dict[tuple[str, str], list[int]]:
    """Rows of the interests by item and folded text, also by folded wordings that are no interest's text."""
    own: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, key in enumerate(zip(interests["item_id"], fold_column(interests["text"]), strict=True)):
        own[key].append(place)
    merged: dict[tuple[str, str], list[int]] = defaultdict(list)
    wordings = interests.select("item_id", "wordings").with_row_index("place").explode("wordings").drop_nulls()
    for place, item_id, folded in zip(
        wordings["place"], wordings["item_id"], fold_column(wordings["wordings"]), strict=True
    ):
        if (item_id, folded) not in own:
            merged[item_id, folded].append(place)
    return dict(merged) | dict(own)


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Rows of the file with their line numbers, blank ones left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{path} lacks the column {min(missing)}; its header must name {', '.join(COLUMNS)}")
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _fields(row: dict[str, str | None]) -> tuple[str, str, int]:
    item_id, text, label = (row.get(name) for name in COLUMNS)
    if not item_id:
        raise BadLineError("item_id is blank")
    if not text or not fold(text):
        raise BadLineError("interest is blank")
    if label is None or label.strip() not in ("0", "1"):
        raise BadLineError(f"label must be 0 or 1, it is {str(label)[:50]!r}")
    return item_id, fold(text), int(label)
