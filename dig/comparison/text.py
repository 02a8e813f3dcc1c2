"""The table on the screen: an interval under each value, and columns that do not fit in a table below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dig.comparison.measure import Comparison
from dig.comparison.wording import caption, gain_heading, gain_spread, gain_text, heading, p_text, shown, title

__all__ = ["print_text", "text"]

_WIDE = 10_000
_STARRED = "*: the best of its column."


@dataclass(frozen=True)
class _Column:
    """Lines of the heading, and of each row's cell."""

    heading: list[str]
    cells: list[Text]


def print_text(comparisons: Sequence[Comparison], console: Console) -> None:
    """Prints tables, none wider than a terminal; what is no terminal takes any width."""
    width, plain = console.width if console.is_terminal else _WIDE, not console.is_terminal
    for number, comparison in enumerate(comparisons):
        if number:
            console.print()
        console.print(Text(title(comparison), style="bold"), soft_wrap=not console.is_terminal)
        for table in _tables(comparison, width, plain):
            console.print(table)
        for sentence in [*([_STARRED] if plain else []), *caption(comparison)]:
            console.print(Text(sentence), soft_wrap=not console.is_terminal)


def text(comparisons: Sequence[Comparison]) -> str:
    """The same for a file, as wide as it needs to be."""
    buffer = StringIO()
    print_text(comparisons, Console(file=buffer, width=_WIDE, color_system=None, legacy_windows=False))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _tables(comparison: Comparison, width: int, plain: bool) -> list[Table]:
    """Columns in order, as many a table as fit beside the labels, one at least."""
    labels = [row.label for row in comparison.contest.rows]
    groups: list[list[_Column]] = [[]]
    for column in _columns(comparison, plain):
        if groups[-1] and _width(_table(labels, [*groups[-1], column])) > width:
            groups.append([])
        groups[-1].append(column)
    return [_table(labels, group) for group in groups]


def _columns(comparison: Comparison, plain: bool) -> list[_Column]:
    """Columns with their values; the best are bold, or starred where text is plain."""
    grid = shown(comparison)
    star = "*" if plain else ""
    found = [
        _Column(
            heading(column),
            [
                _value(
                    row[number].value + star * row[number].best,
                    f"±{row[number].half}",
                    row[number].spread,
                    row[number].best,
                )
                for row in grid
            ],
        )
        for number, column in enumerate(comparison.columns)
    ]
    for column in comparison.gains:
        cells = [row[column] for row in comparison.cells]
        told = [gain_text(comparison, row, column) for row in range(len(cells))]
        gains = [
            Text(text)
            if cell.gain is None
            else _value(text, f"[{cell.gain.low:+.4f}, {cell.gain.high:+.4f}]", gain_spread(cell), False)
            for text, cell in zip(told, cells, strict=True)
        ]
        found += [
            _Column(gain_heading(comparison.columns[column]), gains),
            _Column(["p"], [Text(p_text(cell)) for cell in cells]),
        ]
    return found


def _value(value: str, below: str, spread: str, best: bool) -> Text:
    third = f"\nsd {spread}" if spread else ""
    return Text.assemble((value, "bold" if best else ""), "\n", (below + third, "dim"))


def _table(labels: Sequence[str], columns: Sequence[_Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True, min_width=max(map(cell_len, labels)))
    for column in columns:
        lines = [*column.heading, *(line for cell in column.cells for line in cell.plain.splitlines())]
        table.add_column(
            Text("\n".join(column.heading)), justify="right", no_wrap=True, min_width=max(map(cell_len, lines))
        )
    for number, label in enumerate(labels):
        table.add_row(Text(label), *(column.cells[number] for column in columns))
    table.width = _width(table)  # whole numbers, even where the terminal is narrower than one column
    return table


def _width(table: Table) -> int:
    console = Console(width=_WIDE)
    return Measurement.get(console, console.options, table).maximum
