"""The table for papers and notes: Markdown, LaTeX with booktabs, and CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from io import StringIO

from dig.comparison.measure import Comparison
from dig.comparison.wording import caption, gain_heading, gain_spread, gain_text, heading, p_text, shown, title
from dig.engine.console import spreadsheet_cell

__all__ = ["csv_text", "latex", "markdown", "records"]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~#])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
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
_FIELDS = (
    "part",
    "history",
    "split",
    "row",
    "experiment",
    "run",
    "training_seed",
    "stage",
    "metric",
    "slice",
    "n",
    "examples",
    "value",
    "low",
    "high",
    "sd",
    "against",
    "difference",
    "difference_low",
    "difference_high",
    "difference_sd",
    "p",
    "p_holm",
    "draws",
    "seed",
)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Tables with their titles and captions; the best value of a column is bold."""
    return "\n".join(_markdown(comparison) for comparison in comparisons)


def latex(comparisons: Sequence[Comparison]) -> str:
    """``table`` environments for a document with ``booktabs``; the best value of a column is bold."""
    return "\n".join(["% \\usepackage{booktabs}", *(_latex(comparison) for comparison in comparisons)])


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """Every number in full precision: a line a row, metric and slice.

    ``n`` is the number of users, ``sd`` the standard deviation over seeds where a row has several, ``p`` the p-value
    of the row alone, ``p_holm`` corrected for the rows of its metric; what belongs to differences is empty for the
    reference.
    """
    stream = StringIO()
    writer = csv.DictWriter(stream, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        writer.writerows({key: spreadsheet_cell(value) for key, value in row.items()} for row in records(comparison))
    return stream.getvalue()


def json_text(comparisons: Sequence[Comparison]) -> str:
    """One JSON object with what the CSV has: a record per recommender, metric and slice, None for what is no number."""
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()}
        for comparison in comparisons
        for record in records(comparison)
    ]
    return json.dumps({"rows": rows}, indent=2, ensure_ascii=False) + "\n"


def _markdown(comparison: Comparison) -> str:
    headings = ["", *(" ".join(heading(column)) for column in comparison.columns), *_gain_headings(comparison, "p")]
    lines = [
        f"**{_for_markdown(title(comparison))}**",
        "",
        f"| {' | '.join(map(_for_markdown, headings))} |",
        "|---" + "|---:" * (len(headings) - 1) + "|",
    ]
    for number, (row, texts, cells) in enumerate(
        zip(comparison.contest.rows, shown(comparison), comparison.cells, strict=True)
    ):
        values = [
            f"{f'**{text.value}**' if text.best else text.value} ± {text.half}{_sd(text.spread)}" for text in texts
        ]
        for column in comparison.gains:
            gain, told = cells[column].gain, gain_text(comparison, number, column)
            spread = _sd(gain_spread(cells[column]))
            between = "" if gain is None else f" ({gain.low:+.4f} to {gain.high:+.4f}{spread})"
            values += [told + between, _for_markdown(p_text(cells[column]))]
        lines.append(f"| {' | '.join([_for_markdown(row.label), *values])} |")
    return "\n".join([*lines, "", " ".join(map(_for_markdown, caption(comparison)))]) + "\n"


def _latex(comparison: Comparison) -> str:
    headings = ["", *(" ".join(heading(column)) for column in comparison.columns), *_gain_headings(comparison, "$p$")]
    titles = [text if text == "$p$" else _for_latex(text) for text in headings]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_for_latex(title(comparison))}. {' '.join(map(_for_latex, caption(comparison)))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
        r"\toprule",
        f"{' & '.join(titles)} \\\\",
        r"\midrule",
    ]
    for number, (row, texts, cells) in enumerate(
        zip(comparison.contest.rows, shown(comparison), comparison.cells, strict=True)
    ):
        values = [
            (rf"\textbf{{{text.value}}}" if text.best else text.value)
            + rf" {{\scriptsize $\pm$ {text.half}{_sd(text.spread)}}}"
            for text in texts
        ]
        for column in comparison.gains:
            gain, p = cells[column].gain, p_text(cells[column])
            size, _, share = gain_text(comparison, number, column).partition(" ")
            told = (
                size
                if gain is None
                else (
                    rf"${size}${f' {_for_latex(share)}' if share else ''} "
                    rf"{{\scriptsize $[{gain.low:+.4f}, {gain.high:+.4f}]${_sd(gain_spread(cells[column]))}}}"
                )
            )
            values += [told, f"${p}$" if p else ""]
        lines.append(f"{' & '.join([_for_latex(row.label), *values])} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _gain_headings(comparison: Comparison, p: str) -> list[str]:
    return [text for column in comparison.gains for text in (" ".join(gain_heading(comparison.columns[column])), p)]


def records(comparison: Comparison) -> list[dict[str, object]]:
    """Every number of a table: a record per row, metric and slice."""
    contest = comparison.contest
    found: list[dict[str, object]] = []
    for row, cells in zip(contest.rows, comparison.cells, strict=True):
        for column, cell in zip(comparison.columns, cells, strict=True):
            record: dict[str, object] = {
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
                "draws": comparison.draws,
                "seed": comparison.seed,
            }
            if cell.gain is not None:
                record |= {
                    "difference": cell.gain.difference,
                    "difference_low": cell.gain.low,
                    "difference_high": cell.gain.high,
                    "difference_sd": cell.gain_spread,
                    "p": cell.gain.p_value,
                    "p_holm": cell.p_holm,
                }
            found.append(record)
    return found


def _sd(spread: str) -> str:
    return f", sd {spread}" if spread else ""


def _for_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)
