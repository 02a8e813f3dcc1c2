"""Rankings as a run left them: read, checked, and in an order that makes runs comparable row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dig.comparison.request import PARTS
from dig.comparison.runs import ComparedRun
from dig.config import UserError, nearest
from dig.engine.console import printable
from dig.engine.proof import RunProof
from dig.received.tables import IDS, read_parquet_table

__all__ = ["Ranking", "places", "read_examples", "read_rankings", "read_slices", "require_same_examples"]

_SCHEMA = {
    "user": pl.String(),
    "target": pl.String(),
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float64),
    "stage": pl.String(),
}
_SHOWN = 60  # characters of an id from the data


@dataclass(frozen=True)
class Ranking:
    """What one recommender of one run ranked for each example of the test, by user and target.

    Attributes:
        run: whose.
        stage: the recommender.
        users: (examples,) ids.
        targets: (examples,) ids of the held-out items.
        items: (examples,) lists of ids, best first.
        ranks: (examples,) place of the target from 0 on, -1 where it was not ranked.
        lengths: (examples,) items ranked.
        notes: what was decided when it was read, for the table's caption.
        absent: (examples,) which have no list at all; None where every example has one.
    """

    run: ComparedRun
    stage: str
    users: pl.Series
    targets: pl.Series
    items: pl.Series
    ranks: np.ndarray
    lengths: np.ndarray
    notes: tuple[str, ...] = ()
    absent: np.ndarray | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.run.given}:{self.stage}"


def read_rankings(run: ComparedRun, masked: bool) -> Iterator[Ranking]:
    """The recommenders of a run that are asked for, in the order of its file.

    Args:
        run: the run.
        masked: which of its rankings: those without items of the history, or those with them.

    Raises:
        UserError: the file is damaged or empty, a score is not a number, or a recommender is not there.
    """
    path = run.rankings[masked]
    frame = _read(path, run, _SCHEMA)
    if frame.is_empty():
        raise UserError(f"{path} holds no user: the {PARTS[run.part]} of {run.given} is empty")
    present = frame["stage"].unique(maintain_order=True).to_list()
    for stage in run.stages:
        if stage not in present:
            hint = nearest(stage, present)
            advice = f"did you mean {hint}?" if hint else f"there are {', '.join(present)}"
            raise UserError(f"{run.given} holds no rankings of {stage}; {advice}", exit_code=2)
    for stage in run.stages or present:
        rows = _ordered(frame.filter(pl.col("stage") == stage))
        _require_numbers(rows, run, stage)
        ranks, lengths = places(rows)
        yield Ranking(run, stage, rows["user"], rows["target"], rows["items"], ranks, lengths)


def read_slices(run: ComparedRun, column: str, like: Ranking) -> np.ndarray | None:
    """The slice of each example of a ranking, as the run's table of examples tells it; None if it does not.

    Raises:
        UserError: as :func:`read_examples`.
    """
    labels = read_examples(run, like, column)
    return None if labels is None else np.asarray(labels.cast(pl.String).fill_null("").to_list())


def read_examples(run: ComparedRun, like: Ranking, column: str) -> pl.Series | None:
    """A column of the run's table of examples, in the order of a ranking; None if it is not there.

    Raises:
        UserError: the file is damaged or speaks of other examples.
    """
    path = run.examples
    RunProof(run.folder).require_present(path.name)
    if not path.is_file():
        return None
    others = {column: IDS if column == "history" else pl.String()}
    frame = _read(path, run, {"user": pl.String(), "target": pl.String()}, others)
    if column not in frame.columns:
        return None
    frame = _ordered(frame)
    if not (frame["user"].equals(like.users) and frame["target"].equals(like.targets)):
        raise UserError(f"{path} and {like.name} are of different examples; {run.again}")
    return frame[column]


def require_same_examples(first: Ranking, other: Ranking) -> None:
    """Rankings are compared on the same users with the same targets only.

    Raises:
        UserError: they are not the same; says how many are not, and names one.
    """
    if first.users.equals(other.users) and first.targets.equals(other.targets):
        return
    ours, theirs = first.users.unique(), other.users.unique()
    mine, others = ours.filter(~ours.is_in(theirs.implode())), theirs.filter(~theirs.is_in(ours.implode()))
    if len(mine) or len(others):
        example = printable(str((mine if len(mine) else others).min()), _SHOWN)
        raise UserError(
            f"{first.name} and {other.name} were tested on different users: {len(mine):,} of {len(ours):,} are in the "
            f"first only, {len(others):,} of {len(theirs):,} in the second only, such as {example}; compare runs "
            f"with the same data, data.split and evaluation.{'max' if first.run.part == 'test' else 'valid'}_users"
        )
    targets = [
        pl.DataFrame({"user": one.users, "target": one.targets}).group_by("user").agg(pl.col("target").sort())
        for one in (first, other)
    ]
    both = targets[0].join(targets[1], on="user", suffix="_other")
    odd = both.filter(pl.col("target").list.join("\n") != pl.col("target_other").list.join("\n")).sort("user")
    user, one, two = (printable(value if isinstance(value, str) else ", ".join(value), _SHOWN) for value in odd.row(0))
    raise UserError(
        f"{first.name} and {other.name} were tested on different targets: those of {len(odd):,} of {len(ours):,} users "
        f"differ, such as user {user} with {one} and {two}; compare runs with the same data and data.split"
    )


def _read(
    path: Path, run: ComparedRun, schema: Mapping[str, pl.DataType], others: Mapping[str, pl.DataType] | None = None
) -> pl.DataFrame:
    """A table with at least these columns, and of the others those that it has."""
    RunProof(run.folder).require(path.name)
    others = {"example": pl.Int64(), **(others or {})}
    return read_parquet_table(path, schema, optional=others, nulls=tuple(others), advice=run.again)


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """By user and target; of a user's examples with one target, by number, else as they come."""
    return frame.sort("user", "target", *(["example"] if "example" in frame.columns else []), maintain_order=True)


def _require_numbers(rows: pl.DataFrame, run: ComparedRun, stage: str) -> None:
    number = pl.element()
    odd = rows.filter(pl.col("scores").list.eval(number.is_nan() | number.is_null()).list.any())
    if len(odd):
        user = printable(odd["user"][0], _SHOWN)
        others = f" (and for {len(odd) - 1:,} more)" if len(odd) > 1 else ""
        raise UserError(
            f"{run.given}:{stage} scores an item with no number for user {user}{others}: its model is broken; train it "
            "again, or name the other stages as RUN:STAGE"
        )


def places(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Place of the target (-1 if it is not there) and number of items, a row each."""
    lengths = rows["items"].list.len().to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = rows["items"].filter(pl.Series(lengths > 0)).explode()
    hit = (items == rows["target"].gather(row)).fill_null(False).to_numpy()
    ranks = np.full(len(rows), -1)
    ranks[row[hit][::-1]] = place[hit][::-1]  # the first place stays
    return ranks, lengths
