"""What every source delivers, and how it answers for rows that it cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from dig.config import UserError
from dig.engine.console import warn

__all__ = ["CATALOGUE_SCHEMA", "INTERACTION_SCHEMA", "Problems", "Tables"]

CATALOGUE_SCHEMA = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
    "price": pl.Float64,
    "image": pl.String,
}
# Beside these, interactions may have ``ticks`` (Int64): the same times as whole numbers, where seconds do not tell all
# apart (see :mod:`datamodules.sources.times`).
INTERACTION_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
_SHOWN_PROBLEMS = 5
_FEW_BROKEN, _BROKEN_SHARE = 4, 0.1  # records with bytes of another encoding above which it is the file's


@dataclass
class Tables:
    """What a source delivers.

    Attributes:
        interactions: ``INTERACTION_SCHEMA``, timestamps in seconds, rows in file order; perhaps ``rating`` (Float64),
            ``ticks`` (Int64) where seconds do not tell all times apart, and where the publisher fixed a split ``part``
            (UInt8): 0 train, 1 valid, 2 test.
        catalogue: one row an item, columns of ``CATALOGUE_SCHEMA``, in file order.
        problems: what could not be read, a record a file.
    """

    interactions: pl.DataFrame
    catalogue: pl.DataFrame
    problems: list[Problems] = field(default_factory=list)

    @property
    def bad_rows(self) -> int:
        """Rows that were left out because they could not be read."""
        return sum(len(found.rows) for found in self.problems)


@dataclass
class Problems:
    """What became of every row of one file: bad rows, and oddities that cost no row.

    Attributes:
        path: the file.
        total: rows that the reader met, bad ones included.
        rows: line number and reason of each row that is left out.
        notes: what was mended or ignored without losing a row, by its description.
        in_file: rows in the file, counted without the reader.
        delivered: rows that the reader handed on; None until it has.
        left_out: rows that are good and repeat another.
        broken_texts: records with bytes that are not UTF-8.
    """

    path: Path
    total: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    in_file: int = 0
    delivered: int | None = None
    left_out: int = 0
    broken_texts: int = 0

    def add(self, line: int, reason: str) -> None:
        """Records a row that is left out."""
        self.rows.append((line, reason))

    def note(self, description: str, count: int = 1) -> None:
        """Counts something that was mended or ignored."""
        self.notes[description] = self.notes.get(description, 0) + count

    def note_broken_text(self) -> None:
        """Counts a record whose text has bytes that are not UTF-8."""
        self.broken_texts += 1
        self.note("item with bytes that are not UTF-8; they are replaced by U+FFFD (see data.encoding)")

    def settle(self, max_fraction: float) -> None:
        """Says what was wrong, once every row is accounted for.

        Raises:
            UserError: when rows are missing, when more than ``max_fraction`` of them cannot be read, or when the file
                is in another encoding.
        """
        self._account()
        if self.broken_texts > _FEW_BROKEN and self.broken_texts > _BROKEN_SHARE * self.total:
            raise UserError(
                f"{self.path}: {self.broken_texts:,} of {self.total:,} rows have bytes that are not UTF-8; "
                "name the file's encoding, such as data.encoding=cp1252 (Windows) or latin-1"
            )
        for description, count in self.notes.items():
            warn(f"{self.path.name}: {count:,} × {description}")
        if not self.rows:
            return
        self.rows.sort()
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

    def _account(self) -> None:
        if self.delivered is None:
            raise RuntimeError(f"{self.path}: its reader has not said how many rows it delivers")
        if self.in_file != self.delivered + len(self.rows) + self.left_out:
            raise UserError(
                f"{self.path}: {self.in_file:,} rows are in the file, but {self.delivered:,} were read, "
                f"{len(self.rows):,} are bad and {self.left_out:,} left out; nothing is used of a file whose rows are "
                "not all accounted for: please report this, it is a defect of the reader"
            )
