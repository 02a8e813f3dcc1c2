"""The numbers of a table: means with intervals, and differences to one row with intervals and p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dig.comparison.contest import Contest
from dig.config import UserError
from dig.evaluation.paired import Interval, PairedDifference, bootstrap_interval, holm, metric_gains, paired_difference

__all__ = ["Cell", "Column", "Comparison", "measure"]


@dataclass(frozen=True)
class Column:
    """What a column counts.

    Attributes:
        metric: such as ``ndcg@10``.
        slice: name of a part of the users, None for all of them.
        users: how many.
        examples: how many; more than users where users have several.
    """

    metric: str
    slice: str | None
    users: int
    examples: int


@dataclass(frozen=True)
class Cell:
    """A recommender's number in a column.

    Attributes:
        value: the metric.
        gain: how far it is above the reference; None for the reference itself.
        p_holm: its p-value, corrected for the rows of the column.
    """

    value: Interval
    gain: PairedDifference | None
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """A table before it is drawn.

    Attributes:
        contest: whose numbers these are.
        columns: metrics over all users, then the main one in each slice.
        cells: a list a row of the contest, a cell a column.
        reference: the row that the others are compared with.
        main: the column that the reference is chosen by.
        gains: columns whose differences are shown; more than one shows them also as a share of the reference.
        draws: resamplings.
        seed: of the resamplings.
        notes: of the contest, and what the numbers call for.
    """

    contest: Contest
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    reference: int
    main: int
    gains: tuple[int, ...]
    draws: int
    seed: int
    notes: tuple[str, ...]


def measure(contest: Contest, draws: int, seed: int, every_slice: bool = False) -> Comparison:
    """All numbers of a contest.

    The reference is the contest's, else the best row in the last NDCG (in the last metric if there is no NDCG).

    Args:
        contest: rows on the same examples.
        draws: resamplings.
        seed: of each resampling.
        every_slice: show the differences of each slice besides those of all users.

    Raises:
        UserError: there are no slices to show differences of.
    """
    discounted = [number for number, name in enumerate(contest.metrics) if name.startswith("ndcg@")]
    main = discounted[-1] if discounted else len(contest.metrics) - 1
    everybody = np.ones(len(contest.users), dtype=bool)
    parts: list[tuple[str, str | None, np.ndarray]] = [(name, None, everybody) for name in contest.metrics]
    parts += [(contest.metrics[main], name, mask) for name, mask in contest.slices.items()]
    several = len(np.unique(contest.users)) < len(contest.users)
    if every_slice and not contest.slices:
        raise UserError("--gains slices: there are no slices; name some by --slices, of runs that tell them")
    gains_of = (main, *range(len(contest.metrics), len(parts))) if every_slice else (main,)
    reference, columns, made = contest.against, [], []
    if reference is None:
        reference = int(np.argmax([metric_gains(contest.metrics[main], row.ranks).mean() for row in contest.rows]))
    for metric, slice_, mask in parts:
        users = contest.users[mask]
        columns.append(Column(metric, slice_, len(np.unique(users)), len(users)))
        gains = [metric_gains(metric, row.ranks[mask]) for row in contest.rows]
        made.append(_column(gains, reference, draws, seed, users if several else None))
    cells = tuple(zip(*made, strict=True))
    return Comparison(contest, tuple(columns), cells, reference, main, gains_of, draws, seed,
                      (*contest.notes, *_notes(contest, cells, reference, main)))  # fmt: skip


def _column(
    gains: Sequence[np.ndarray], reference: int, draws: int, seed: int, users: np.ndarray | None
) -> list[Cell]:  # fmt: skip
    values = [bootstrap_interval(one, draws, seed=seed, users=users) for one in gains]
    found = {row: paired_difference(gains[reference], one, draws, seed=seed, users=users)
             for row, one in enumerate(gains) if row != reference}  # fmt: skip
    corrected = dict(zip(found, holm([gain.p_value for gain in found.values()]), strict=True))
    return [Cell(value, found.get(row), corrected.get(row)) for row, value in enumerate(values)]


def _notes(contest: Contest, cells: Sequence[Sequence[Cell]], reference: int, main: int) -> list[str]:
    """Rows that place every target where the reference does: their p-value is 1 by definition."""
    metric = contest.metrics[main]
    theirs = metric_gains(metric, contest.rows[reference].ranks)
    return [f"{row.label} and {contest.rows[reference].label} earn the same for every user, so p = 1"
            for number, row in enumerate(contest.rows)
            if number != reference and np.array_equal(metric_gains(metric, row.ranks), theirs)]  # fmt: skip
