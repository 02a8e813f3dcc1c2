"""Numbers and sentences of a comparison as people read them, the same in every format."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dig.comparison.measure import Cell, Column, Comparison
from dig.comparison.request import PARTS

__all__ = ["Shown", "caption", "gain_heading", "gain_spread", "gain_text", "heading", "p_text", "shown", "title"]

_LEAST = 0.001
_CHOSEN = "Checkpoints are chosen on the validation, so that its values are a little high."


@dataclass(frozen=True)
class Shown:
    """A cell in text.

    Attributes:
        value: four decimals.
        half: half of the interval's width, four decimals.
        best: whether no row of the column shows a larger value.
        spread: standard deviation over seeds, four decimals; empty for one seed.
    """

    value: str
    half: str
    best: bool
    spread: str


def shown(comparison: Comparison) -> list[list[Shown]]:
    """Cells by row and column; all rows of a tie are the best."""
    texts = [[f"{cell.value.mean:.4f}" for cell in cells] for cells in comparison.cells]
    best = [max(column, key=float) for column in zip(*texts, strict=True)]
    return [
        [
            Shown(text, f"{(cell.value.high - cell.value.low) / 2:.4f}", text == top, _spread(cell.spread))
            for text, cell, top in zip(row, cells, best, strict=True)
        ]
        for row, cells in zip(texts, comparison.cells, strict=True)
    ]


def _spread(found: float | None) -> str:
    return "" if found is None else f"{found:.4f}"


def heading(column: Column) -> list[str]:
    """Lines above a column: the metric; in a slice also its name and the number of users."""
    metric = column.metric.upper()
    return [metric] if column.slice is None else [metric, column.slice, f"{column.users:,} users"]


def gain_heading(column: Column) -> list[str]:
    """Lines above a column's differences."""
    metric = f"Δ {column.metric.upper()}"
    return [metric] if column.slice is None else [metric, column.slice]


def gain_text(comparison: Comparison, row: int, column: int) -> str:
    """A difference with its sign; beside others also as a share of the reference. "reference" for the row itself."""
    gain = comparison.cells[row][column].gain
    if gain is None:
        return "reference"
    base = comparison.cells[comparison.reference][column].value.mean
    share = f" ({gain.difference / base:+.1%})" if len(comparison.gains) > 1 and base else ""
    return f"{gain.difference:+.4f}{share}"


def gain_spread(cell: Cell) -> str:
    """Standard deviation of a difference over seeds, four decimals; empty below two seeds."""
    return _spread(cell.gain_spread)


def p_text(cell: Cell) -> str:
    """The corrected p-value, three decimals."""
    if cell.p_holm is None:
        return ""
    return f"<{_LEAST}" if cell.p_holm < _LEAST else f"{cell.p_holm:.3f}"


def title(comparison: Comparison) -> str:
    """What was tested: the part, the split, the users, whether the history was masked."""
    contest, everybody = comparison.contest, comparison.columns[0]
    examples = f" with {everybody.examples:,} examples" if everybody.examples != everybody.users else ""
    history = "items of the history left out of the rankings" if contest.masked else "history not masked"
    users = f"{everybody.users:,} users{examples}"
    return " · ".join([PARTS[contest.part], *([contest.split] if contest.split else []), users, history])


def caption(comparison: Comparison) -> list[str]:
    """Sentences below the table."""
    rows = len(comparison.contest.rows)
    metric = comparison.columns[comparison.main].metric.upper()
    against = comparison.contest.rows[comparison.reference].label
    why = f", the best in {metric}" if comparison.contest.against is None else ""
    corrected = f", Holm-corrected for {rows - 1} rows" if rows > 2 else ""
    share = ", in brackets as a share of what it has" if len(comparison.gains) > 1 else ""
    return [
        f"±: half a 95 % bootstrap interval; {comparison.draws:,} resamplings of users, seed {comparison.seed}.",
        f"Δ {metric}: against {against}{why}, with its 95 % interval{share}; p: paired permutation test{corrected}.",
        *_about_seeds(comparison, metric),
        *([_CHOSEN] if comparison.contest.part == "valid" else []),
        *(f"{note}." for note in comparison.notes),
    ]


def _about_seeds(comparison: Comparison, metric: str) -> list[str]:
    """Which seeds a row is the mean of, and the difference of each: what intervals over users do not say."""
    rows = comparison.contest.rows
    if all(len(row.runs) == 1 for row in rows):
        return []
    seeds = defaultdict(list)
    for row in rows:
        if row.seeds == (None,):  # rankings of another program
            continue
        seeds[", ".join(map(str, row.seeds))].append(row.label)
    if len(seeds) == 1:
        told = next(iter(seeds))
    else:
        told = "; ".join(f"{', '.join(labels)}: {numbers}" for numbers, labels in seeds.items())
    gains = [cells[comparison.main].gain_by_seed for cells in comparison.cells]
    each = [
        " ".join([row.label, *(f"{gain:+.4f} ({seed})" for seed, gain in found.items())])
        for row, found in zip(rows, gains, strict=True)
        if found
    ]
    return [
        f"Means over training seeds ({told}); sd: standard deviation over them. Users are resampled, seeds are not.",
        *([f"Δ {metric} by seed: {'; '.join(each)}."] if each else []),
    ]
