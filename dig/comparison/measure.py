"""The numbers of a table: means with intervals, and differences to one row with intervals and p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

import numpy as np

from dig.comparison.contest import Contest, Row
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
        value: the metric; where the row has several seeds, of their mean for each user.
        gain: how far it is above the reference; None for the reference itself.
        p_holm: its p-value, corrected for the rows of the column.
        by_seed: the metric of each run of the row.
        gain_by_seed: how far it is above the reference of the same seed, by seeds that both have.
    """

    value: Interval
    gain: PairedDifference | None
    p_holm: float | None
    by_seed: tuple[float, ...] = ()
    gain_by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for one."""
        return stdev(self.by_seed) if len(self.by_seed) > 1 else None

    @property
    def gain_spread(self) -> float | None:
        """Standard deviation of the difference over seeds; None below two that both have."""
        return stdev(self.gain_by_seed.values()) if len(self.gain_by_seed) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """A table before it is drawn.

    Attributes:
        contest: whose numbers these are.
        columns: metrics over all users, then the main one in each slice.
        cells: a list per row of the contest, a cell per column.
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
        gains = [metric_gains(metric, row.ranks[:, mask]) for row in contest.rows]
        made.append(_column(contest.rows, gains, reference, draws, seed, users if several else None))
    cells = tuple(zip(*made, strict=True))
    return Comparison(
        contest,
        tuple(columns),
        cells,
        reference,
        main,
        gains_of,
        draws,
        seed,
        (*contest.notes, *_notes(contest, cells, reference, main)),
    )


def _column(
    rows: Sequence[Row], gains: Sequence[np.ndarray], reference: int, draws: int, seed: int, users: np.ndarray | None
) -> list[Cell]:
    """Users are resampled with what they gain on the mean over seeds, seeds are not: two or three tell no interval."""
    means = [one.mean(axis=0) for one in gains]
    values = [bootstrap_interval(one, draws, seed=seed, users=users) for one in means]
    differences = {
        row: paired_difference(means[reference], one, draws, seed=seed, users=users)
        for row, one in enumerate(means)
        if row != reference
    }
    corrected = dict(zip(differences, holm([gain.p_value for gain in differences.values()]), strict=True))
    runs = [tuple(one.mean(axis=1).tolist()) for one in gains]
    base = dict(zip(rows[reference].seeds, runs[reference], strict=True))
    paired = [
        {
            seed: own - base[seed]
            for seed, own in zip(row.seeds, runs[number], strict=True)
            if seed is not None and seed in base and number != reference
        }
        for number, row in enumerate(rows)
    ]
    return [
        Cell(value, differences.get(row), corrected.get(row), runs[row], paired[row])
        for row, value in enumerate(values)
    ]


def _notes(contest: Contest, cells: Sequence[Sequence[Cell]], reference: int, main: int) -> list[str]:
    """Rows that place every target where the reference does: their p-value is 1 by definition."""
    earned = [metric_gains(contest.metrics[main], row.ranks).mean(axis=0) for row in contest.rows]
    return [
        f"{row.label} and {contest.rows[reference].label} earn the same for every user, so p = 1"
        for number, row in enumerate(contest.rows)
        if number != reference and np.array_equal(earned[number], earned[reference])
    ]
