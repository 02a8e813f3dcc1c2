"""Recommendations for many customers as one table: batch by batch into a file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import polars as pl

from dig.config import UserError
from dig.engine.artifacts import atomic_path, disk_full
from dig.engine.console import track
from dig.recommender.recommender import Answers, Question, Recommender

__all__ = ["COLUMNS", "check_out", "export", "starts_formula"]

COLUMNS = {"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "score": pl.Float32, "title": pl.String}
"""Columns of the table, one row for each recommendation."""
_BATCH = 1_024  # customers
_PART = 1_000_000  # rows of a part of a Parquet file that is under way


def check_out(out: Path) -> Path:
    """The file that recommendations can be written to.

    Raises:
        UserError: its name ends in neither ``.csv`` nor ``.parquet``, or it is a folder.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"out={out} must end in .csv or .parquet", exit_code=2)
    if out.is_dir():
        raise UserError(f"out={out} is a folder; name a file in it", exit_code=2)
    return out


def export(
    recommender: Recommender, users: pl.DataFrame, titles: pl.Series, out: Path, question: Question
) -> tuple[int, int]:
    """Writes the recommendations of each customer, best first.

    A title in a CSV that a spreadsheet would take for a formula gets an apostrophe before it; ids stay as they are.

    Args:
        recommender: answers.
        users: ``user`` and ``items``, the history, oldest first and never empty.
        titles: of the catalogue's items, in its order.
        out: the file, :func:`check_out`; one of that name is replaced when the new one is complete.
        question: what is asked for each, :meth:`Recommender.question`.

    Returns:
        Rows written, and customers that got fewer than they were to get.

    Raises:
        UserError: the file cannot be written, or as :meth:`Recommender.recommend`.
    """
    rows = short = 0
    with _writing(out), _writer(out) as writer:
        batches = range(0, len(users), _BATCH)
        for start in track(batches, "recommending", len(batches)):
            batch = users[start : start + _BATCH]
            answers = recommender.answer(recommender.known_rows(batch["items"]), question)
            frame = _table(recommender.item_ids, titles, batch["user"], answers)
            writer.write(_guarded(frame) if out.suffix == ".csv" else frame)
            rows += len(frame)
            short += int((answers.counts < question.k).sum())
    return rows, short


def starts_formula(column: pl.Expr) -> pl.Expr:
    """Whether a spreadsheet would take a cell for a formula."""
    return column.str.contains(r"^[=+\-@\t\r\n]")


def _table(item_ids: Sequence[str], titles: pl.Series, users: pl.Series, answers: Answers) -> pl.DataFrame:
    place, rank = np.nonzero(answers.items.numpy() >= 0)
    row = answers.items.numpy()[place, rank]
    columns = {
        "user_id": users.gather(place),
        "rank": rank + 1,
        "item_id": [item_ids[each] for each in row],
        "score": answers.scores.numpy()[place, rank],
        "title": titles.gather(row),
    }
    return pl.DataFrame(columns, schema_overrides=COLUMNS)


def _guarded(frame: pl.DataFrame) -> pl.DataFrame:
    title = pl.col("title")
    return frame.with_columns(pl.when(starts_formula(title)).then(pl.format("'{}", title)).otherwise(title))


class _Writer(Protocol):
    def write(self, frame: pl.DataFrame) -> None: ...


class _CsvWriter:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        pl.DataFrame(schema=COLUMNS).write_csv(self._stream)

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_csv(self._stream, include_header=False)

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    """Parts in a folder, which become one file at the end: Parquet has its table of contents behind the rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[Path] = []
        self._held: list[pl.DataFrame] = []

    def write(self, frame: pl.DataFrame) -> None:
        self._held.append(frame)
        if sum(map(len, self._held)) >= _PART:
            self._flush()

    def finish(self, path: Path) -> None:
        self._flush()
        pl.scan_parquet(self._parts, glob=False).sink_parquet(path, maintain_order=True)

    def _flush(self) -> None:
        part = self._folder / f"{len(self._parts):06d}.parquet"
        pl.concat([pl.DataFrame(schema=COLUMNS), *self._held]).write_parquet(part)
        self._parts.append(part)
        self._held = []


@contextmanager
def _writer(out: Path) -> Generator[_Writer]:
    with atomic_path(out) as temporary:
        if out.suffix == ".csv":
            csv = _CsvWriter(temporary)
            try:
                yield csv
            finally:
                csv.close()
        else:
            with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
                parquet = _ParquetWriter(Path(folder))
                yield parquet
                parquet.finish(temporary)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What the operating system refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise
        raise UserError(f"out={out} cannot be written: {error.strerror or error}") from None
