"""Tables and numbers in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MISSING", "heading", "markdown_table", "number", "seconds"]

MISSING = "–"


def number(value: float | None, signed: bool = False) -> str:
    """Four decimals below one, without the zero before the point; two above; whole numbers as they are.

    Args:
        value: None is a dash.
        signed: a difference, which has its sign and always its decimals.
    """
    if value is None:
        return MISSING
    size = abs(float(value))
    whole = size >= 100 or (size == int(size) and not signed)
    text = f"{size:,.0f}" if whole else f"{size:.2f}" if size >= 1 else f"{size:.4f}"
    sign = "" if not text.strip("0.") and not signed else "−" if value < 0 and text.strip("0.") else "+" * signed
    return sign + (text[1:] if text.startswith("0.") else text)


def seconds(value: float | None) -> str:
    """Seconds, one decimal below ten."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def heading(metric: str) -> str:
    """A metric's name as a column: HR@5, NDCG@10, coverage@10, popularity lift@10."""
    family, _, cutoff = metric.partition("@")
    shown = family.upper() if family in ("hr", "ndcg", "mrr") else family.replace("_", " ")
    return f"{shown}@{cutoff}" if cutoff else shown


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table without an end of line; the columns named by ``text`` hold words, the others are aligned to the right."""
    lines = ["| " + " | ".join(_cell(column) for column in columns) + " |"]
    lines.append("|" + "".join("---|" if at in text else "---:|" for at in range(len(columns))))
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
