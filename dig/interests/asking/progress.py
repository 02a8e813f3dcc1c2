"""What is seen of a run that asks: a bar a model with items, cost, rate and time left, or a line now and then."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dig.engine.console import console, progress_enabled, say
from dig.interests.asking.outcome import Outcome

__all__ = ["Board", "board"]

_SECONDS_A_LINE = 60.0


class Board:
    """Shows how far each model is.

    Args:
        progress: the bars.
        outcomes: what is counted, one a model.
    """

    def __init__(self, progress: Progress, outcomes: Sequence[Outcome]) -> None:
        self._progress = progress
        self._started = self._told = time.monotonic()
        self._tasks: dict[str, TaskID] = {
            outcome.name: progress.add_task(escape(outcome.name), total=outcome.total, cost="", rate="")
            for outcome in outcomes
        }

    def show(self, outcome: Outcome) -> None:
        """One of the counts has changed."""
        now = time.monotonic()
        seconds = max(now - self._started, 1e-9)
        if not self._progress.disable:
            fresh = outcome.answered + outcome.failed.total()
            self._progress.update(
                self._tasks[outcome.name],
                completed=outcome.done,
                cost=f"${outcome.cost:.2f}",
                rate=f"{fresh / seconds:.1f}/s",
            )
        elif now - self._told > _SECONDS_A_LINE:
            self._told = now
            say(
                f"asking: {outcome.name}: {outcome.done:,} of {outcome.total:,} items, ${outcome.cost:.2f}, "
                f"{outcome.requests / seconds:.1f} requests a second"
            )


@contextmanager
def board(outcomes: Sequence[Outcome]) -> Generator[Board]:
    """The board while a run lasts."""
    columns = (
        TextColumn("ask {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cost]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not progress_enabled()) as progress:
        yield Board(progress, outcomes)
