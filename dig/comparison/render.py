"""A comparison as people and programs read it: on the screen, in Markdown, LaTeX and CSV.

Numbers and sentences are made once; a format only says how a value, a difference and a p-value are written.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dig.comparison.contest import Contest
from dig.comparison.measure import Cell, Comparison, measure
from dig.comparison.request import PARTS, ComparisonRequest
from dig.config import UserError
from dig.engine.artifacts import atomic_path, disk_full
from dig.engine.console import console as terminal
from dig.engine.console import say, spreadsheet_cell

__all__ = [
    "Gain",
    "Value",
    "caption",
    "csv_text",
    "json_text",
    "latex",
    "markdown",
    "print_text",
    "records",
    "text",
    "title",
    "values",
    "write_comparisons",
]

_LEAST = 0.001
_CHOSEN = "Checkpoints are chosen on the validation, so that its values are a little high."
_STARRED = "*: the best of its column."
_WIDE = 10_000
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~#])")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "{}$&#%_"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "·": r"$\cdot$",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Value:
    """A metric in text.

    Attributes:
        text: four decimals.
        half: half of the interval's width, four decimals.
        spread: standard deviation over seeds, four decimals; empty for one seed.
        best: whether no row of the column shows a larger value.
    """

    text: str
    half: str
    spread: str
    best: bool


@dataclass(frozen=True)
class Gain:
    """A difference to the reference in text.

    Attributes:
        text: with its sign; "reference" for the row itself.
        share: of what the reference has, in percent; empty where that is not shown.
        low, high: its interval, empty for the reference.
        spread: standard deviation over seeds, four decimals; empty below two seeds.
        p: the corrected p-value, three decimals; empty for the reference.
    """

    text: str
    share: str = ""
    low: str = ""
    high: str = ""
    spread: str = ""
    p: str = ""


def write_comparisons(contests: Sequence[Contest], request: ComparisonRequest, form: str, out: Path | None) -> None:
    """Measures contests, and prints or writes their tables.

    Args:
        contests: one per protocol.
        request: resamplings and seed.
        form: a key of ``FORMATS``.
        out: the file, which is there as a whole or not at all; None prints.

    Raises:
        UserError: the file cannot be written.
    """
    comparisons = [measure(contest, request.draws, request.seed, request.gains == "slices") for contest in contests]
    if out is None and form == "text":
        print_text(comparisons, terminal)
        return
    content = {"text": text, "markdown": markdown, "latex": latex, "csv": csv_text, "json": json_text}[form](
        comparisons
    )
    if out is None:
        print(content, end="")
        return
    try:
        with atomic_path(out) as temporary:
            temporary.write_text(content, encoding="utf-8")
    except OSError as error:
        if disk_full(error):
            raise
        raise UserError(f"{out} cannot be written: {error.strerror}") from None
    say(f"written to {out}")


def print_text(comparisons: Sequence[Comparison], console: Console) -> None:
    """Prints tables, none wider than a terminal; what is not a terminal takes any width.

    An interval stands under each value; columns that do not fit go into a table below.
    """
    width, plain = console.width if console.is_terminal else _WIDE, not console.is_terminal
    for number, comparison in enumerate(comparisons):
        if number:
            console.print()
        console.print(Text(title(comparison), style="bold"), soft_wrap=plain)
        for table in _tables(comparison, width, plain):
            console.print(table)
        for sentence in [*([_STARRED] if plain else []), *caption(comparison)]:
            console.print(Text(sentence), soft_wrap=plain)


def text(comparisons: Sequence[Comparison]) -> str:
    """The same for a file, as wide as it needs to be."""
    buffer = StringIO()
    print_text(comparisons, Console(file=buffer, width=_WIDE, color_system=None, legacy_windows=False))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Tables with their titles and captions; the best value of a column is bold."""

    def value(cell: Value) -> str:
        return f"{f'**{cell.text}**' if cell.best else cell.text} ± {cell.half}{_sd(cell.spread)}"

    def gain(cell: Gain) -> tuple[str, str]:
        interval = f" ({cell.low} to {cell.high}{_sd(cell.spread)})" if cell.low else ""
        return f"{cell.text}{cell.share}{interval}", _for_markdown(cell.p)

    tables = []
    for comparison in comparisons:
        headings = ["", *(_for_markdown(" ".join(lines)) for lines in _headings(comparison))]
        rows = [[_for_markdown(label), *cells] for label, cells in _rows(comparison, value, gain)]
        tables += [
            f"**{_for_markdown(title(comparison))}**\n",
            f"| {' | '.join(headings)} |",
            "|---" + "|---:" * (len(headings) - 1) + "|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "\n" + " ".join(map(_for_markdown, caption(comparison))) + "\n",
        ]
    return "\n".join(tables)


def latex(comparisons: Sequence[Comparison]) -> str:
    """``table`` environments for a document with ``booktabs``; the best value of a column is bold."""

    def value(cell: Value) -> str:
        number = rf"\textbf{{{cell.text}}}" if cell.best else cell.text
        return rf"{number} {{\scriptsize $\pm$ {cell.half}{_sd(cell.spread)}}}"

    def gain(cell: Gain) -> tuple[str, str]:
        if not cell.low:
            return cell.text, ""
        interval = rf"{{\scriptsize $[{cell.low}, {cell.high}]${_sd(cell.spread)}}}"
        return f"${cell.text}${_for_latex(cell.share)} {interval}", f"${cell.p}$"

    lines = ["% \\usepackage{booktabs}"]
    for comparison in comparisons:
        titles = [" ".join(heading) for heading in _headings(comparison)]
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_for_latex(title(comparison))}. {' '.join(map(_for_latex, caption(comparison)))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(titles)}}}",
            r"\toprule",
            " & ".join(["", *("$p$" if heading == "p" else _for_latex(heading) for heading in titles)]) + r" \\",
            r"\midrule",
            *(" & ".join([_for_latex(label), *cells]) + r" \\" for label, cells in _rows(comparison, value, gain)),
            "\\bottomrule\n\\end{tabular}\n\\end{table}\n",
        ]
    return "\n".join(lines)


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """Every number in full precision: a line per row, metric and slice.

    ``n`` is the number of users, ``sd`` the standard deviation over seeds where a row has several, ``p`` the p-value
    of the row alone, ``p_holm`` corrected for the rows of its metric; what belongs to differences is empty for the
    reference.
    """
    rows = [record for comparison in comparisons for record in records(comparison)]
    stream = StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: spreadsheet_cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def json_text(comparisons: Sequence[Comparison]) -> str:
    """One JSON object with what the CSV has: a record per recommender, metric and slice; None is not a number."""
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()}
        for comparison in comparisons
        for record in records(comparison)
    ]
    return json.dumps({"rows": rows}, indent=2, ensure_ascii=False) + "\n"


def records(comparison: Comparison) -> list[dict[str, object]]:
    """Every number of a table: a record per row, metric and slice, None for what a reference does not have."""
    contest = comparison.contest
    return [
        {
            "part": contest.part,
            "history": "masked" if contest.masked else "unmasked",
            "split": contest.split,
            "row": row.label,
            "experiment": row.runs[0].experiment,
            "run": " ".join(run.folder.name for run in row.runs),
            "training_seed": " ".join(str(seed) for seed in row.seeds if seed is not None),
            "stage": row.stage,
            "metric": column.metric,
            "slice": column.slice,
            "n": column.users,
            "examples": column.examples,
            "value": cell.value.mean,
            "low": cell.value.low,
            "high": cell.value.high,
            "sd": cell.spread,
            "against": contest.rows[comparison.reference].label,
            "difference": cell.gain and cell.gain.difference,
            "difference_low": cell.gain and cell.gain.low,
            "difference_high": cell.gain and cell.gain.high,
            "difference_sd": cell.gain and cell.gain_spread,
            "p": cell.gain and cell.gain.p_value,
            "p_holm": cell.p_holm,
            "draws": comparison.draws,
            "seed": comparison.seed,
        }
        for row, cells in zip(contest.rows, comparison.cells, strict=True)
        for column, cell in zip(comparison.columns, cells, strict=True)
    ]


def values(comparison: Comparison) -> list[list[Value]]:
    """Metrics by row and column; all rows of a tie are the best."""
    texts = [[f"{cell.value.mean:.4f}" for cell in cells] for cells in comparison.cells]
    best = [max(column, key=float) for column in zip(*texts, strict=True)]
    return [
        [
            Value(shown, f"{(cell.value.high - cell.value.low) / 2:.4f}", _decimals(cell.spread), shown == top)
            for shown, cell, top in zip(row, cells, best, strict=True)
        ]
        for row, cells in zip(texts, comparison.cells, strict=True)
    ]


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
    labels = defaultdict(list)
    for row in rows:
        if row.seeds != (None,):  # rankings of another program have none
            labels[", ".join(map(str, row.seeds))].append(row.label)
    seeds = "; ".join(f"{', '.join(names)}: {numbers}" for numbers, names in labels.items())
    gains = [cells[comparison.main].gain_by_seed for cells in comparison.cells]
    each = [
        " ".join([row.label, *(f"{gain:+.4f} ({seed})" for seed, gain in by_seed.items())])
        for row, by_seed in zip(rows, gains, strict=True)
        if by_seed
    ]
    return [
        f"Means over training seeds ({seeds if len(labels) > 1 else next(iter(labels))}); sd: standard deviation over "
        "them. Users are resampled, seeds are not.",
        *([f"Δ {metric} by seed: {'; '.join(each)}."] if each else []),
    ]


def _headings(comparison: Comparison) -> list[list[str]]:
    """Lines above each column: of values, then of each difference and its p."""
    above = [
        [column.metric.upper(), *([] if column.slice is None else [column.slice, f"{column.users:,} users"])]
        for column in comparison.columns
    ]
    differences = [[f"Δ {above[column][0]}", *above[column][1:2]] for column in comparison.gains]
    return [*above, *(lines for heading in differences for lines in (heading, ["p"]))]


def _rows(
    comparison: Comparison, value: Callable[[Value], _T], gain: Callable[[Gain], tuple[_T, _T]]
) -> list[tuple[str, list[_T]]]:
    """Each row's label and cells, as a format writes a value and, in two cells, a difference and its p."""
    return [
        (
            row.label,
            [
                *(value(cell) for cell in shown),
                *(each for column in comparison.gains for each in gain(_gain(comparison, cells[column], column))),
            ],
        )
        for row, shown, cells in zip(comparison.contest.rows, values(comparison), comparison.cells, strict=True)
    ]


def _gain(comparison: Comparison, cell: Cell, column: int) -> Gain:
    gain, p = cell.gain, cell.p_holm
    if gain is None or p is None:
        return Gain("reference")
    base = comparison.cells[comparison.reference][column].value.mean
    share = f" ({gain.difference / base:+.1%})" if len(comparison.gains) > 1 and base else ""
    corrected = f"<{_LEAST}" if p < _LEAST else f"{p:.3f}"
    ends = f"{gain.low:+.4f}", f"{gain.high:+.4f}"
    return Gain(f"{gain.difference:+.4f}", share, *ends, _decimals(cell.gain_spread), corrected)


def _tables(comparison: Comparison, width: int, plain: bool) -> list[Table]:
    """Columns in order, as many in a table as fit beside the labels, one at least."""

    def value(cell: Value) -> Text:
        """The best is bold, or starred where text is plain."""
        star = "*" if plain and cell.best else ""
        return _stacked(cell.text + star, f"±{cell.half}", cell.spread, cell.best)

    def gain(cell: Gain) -> tuple[Text, Text]:
        if not cell.low:
            return Text(cell.text), Text(cell.p)
        return _stacked(cell.text + cell.share, f"[{cell.low}, {cell.high}]", cell.spread, False), Text(cell.p)

    rows = _rows(comparison, value, gain)
    labels = [label for label, _ in rows]
    columns = list(zip(_headings(comparison), zip(*(cells for _, cells in rows), strict=True), strict=True))
    groups = [columns[:1]]
    for column in columns[1:]:
        if _width(_table(labels, [*groups[-1], column])) > width:
            groups.append([])
        groups[-1].append(column)
    return [_table(labels, group) for group in groups]


def _stacked(value: str, below: str, spread: str, best: bool) -> Text:
    third = f"\nsd {spread}" if spread else ""
    return Text.assemble((value, "bold" if best else ""), "\n", (below + third, "dim"))


def _table(labels: Sequence[str], columns: Sequence[tuple[list[str], Sequence[Text]]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True, min_width=max(map(cell_len, labels)))
    for heading, cells in columns:
        widest = max(
            cell_len(line) for line in [*heading, *(line for cell in cells for line in cell.plain.splitlines())]
        )
        table.add_column(Text("\n".join(heading)), justify="right", no_wrap=True, min_width=widest)
    for number, label in enumerate(labels):
        table.add_row(Text(label), *(cells[number] for _, cells in columns))
    table.width = _width(table)  # whole numbers, even where the terminal is narrower than one column
    return table


def _width(table: Table) -> int:
    console = Console(width=_WIDE)
    return Measurement.get(console, console.options, table).maximum


def _decimals(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"


def _sd(spread: str) -> str:
    return f", sd {spread}" if spread else ""


def _for_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)
