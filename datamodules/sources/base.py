"""What every source delivers, and how it answers for rows that it cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from dig.config import UserError
from dig.console import warn

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
INTERACTION_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
_SHOWN_PROBLEMS = 5


@dataclass
class Tables:
    """What a source delivers.

    Attributes:
        interactions: ``INTERACTION_SCHEMA``, timestamps in seconds, rows in file order; perhaps ``rating`` (Float64),
            and where the publisher fixed a split ``part`` (UInt8): 0 train, 1 valid, 2 test.
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
    """Bad rows of one file, and oddities that cost no row.

    Attributes:
        path: the file.
        total: rows read, bad ones included.
        rows: line number and reason of each row that is left out.
        notes: what was mended or ignored without losing a row, by its description.
    """

    path: Path
    total: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def add(self, line: int, reason: str) -> None:
        """Records a row that is left out."""
        self.rows.append((line, reason))

    def note(self, description: str, count: int = 1) -> None:
        """Counts something that was mended or ignored."""
        self.notes[description] = self.notes.get(description, 0) + count

    def settle(self, max_fraction: float) -> None:
        """Says what was wrong.

        Raises:
            UserError: when more than ``max_fraction`` of the rows cannot be read.
        """
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
