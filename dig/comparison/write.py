"""Where a comparison goes: the screen, or one file that is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dig.comparison.contest import Contest
from dig.comparison.markup import csv_text, json_text, latex, markdown
from dig.comparison.measure import measure
from dig.comparison.request import Request
from dig.comparison.text import print_text, text
from dig.config import UserError
from dig.engine.artifacts import atomic_path, disk_full
from dig.engine.console import console, say

__all__ = ["write_comparisons"]

_WRITERS = {"text": text, "markdown": markdown, "latex": latex, "csv": csv_text, "json": json_text}


def write_comparisons(contests: Sequence[Contest], request: Request, form: str, out: Path | None) -> None:
    """Measures contests, and prints or writes their tables.

    Args:
        contests: one a protocol.
        request: resamplings and seed.
        form: a key of ``FORMATS``.
        out: the file; None prints.

    Raises:
        UserError: the file cannot be written.
    """
    comparisons = [measure(contest, request.draws, request.seed, request.gains == "slices") for contest in contests]
    if out is None and form == "text":
        print_text(comparisons, console)
        return
    content = _WRITERS[form](comparisons)
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
