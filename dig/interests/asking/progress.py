"""What became of a run of questions, model by model, and what is seen of it while it lasts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dig.engine.console import console, progress_enabled, say

__all__ = ["JobProgress", "JobResult", "in_words", "job_progress"]


_REASONS = 5
"""Reasons for questions that are left which a line names; messages of providers may differ in every one."""


@dataclass
class JobResult:
    """What became of the questions to one model.

    Attributes:
        name: the model's name in ``mining.models``.
        total: questions there are.
        known: answered or failed in an earlier run.
        answered: usable answers that came now.
        failed: unusable answers, also after the model was asked again, by reason.
        left: not answered, for reasons that are not the answer's; the next run asks them.
        stopped: why the model was not asked any more, None where it was asked to the end.
        cost: US dollars of this run, unknown ends at their most.
        requests: requests of this run.
        estimated: answers of this run whose tokens the endpoint did not count, so that an estimate did.
    """

    name: str
    total: int
    known: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None
    cost: float = 0.0
    requests: int = 0
    estimated: int = 0

    @property
    def fresh(self) -> int:
        """Questions that this run has got an answer to, usable or not."""
        return self.answered + self.failed.total()

    @property
    def done(self) -> int:
        """Questions that need no asking any more."""
        return self.known + self.answered + self.failed.total()

    def summary(self) -> str:
        """One line for the screen."""
        parts = [f"{self.name}: {self.total:,} items"]
        if self.known:
            parts.append(f"{self.known:,} known")
        parts.append(f"{self.answered:,} answered")
        parts += [f"{count:,} unusable ({reason})" for reason, count in self.failed.most_common()]
        parts += [f"{count:,} left ({reason})" for reason, count in self.left.most_common(_REASONS)]
        if others := sum(count for _, count in self.left.most_common()[_REASONS:]):
            parts.append(f"{others:,} left (other reasons)")
        unseen = self.total - self.done - self.left.total()
        if unseen > 0:
            parts.append(f"{unseen:,} not asked")
        line = ", ".join(parts) + f"; {self.requests:,} requests, ${self.cost:.4f}"
        if self.estimated:
            line += f" (tokens of {self.estimated:,} answers by an estimate)"
        return f"{line}; stopped: {self.stopped}" if self.stopped else line


# What is seen of a run that asks: a bar a model with items, cost, rate and time left, or a line now and then.


_FIRST_LINE, _SECONDS_A_LINE = 10.0, 60.0
"""Seconds until the first line where there is no bar, and between two later ones."""


class JobProgress:
    """Shows how far each model is.

    Args:
        progress: the bars.
        results: what is counted, one per model.
    """

    def __init__(self, progress: Progress, results: Sequence[JobResult]) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._next = dict.fromkeys((result.name for result in results), self._started + _FIRST_LINE)
        self._tasks: dict[str, TaskID] = {
            result.name: progress.add_task(escape(result.name), total=result.total, cost="", rate="")
            for result in results
        }

    def show(self, result: JobResult, under_way: Sequence[float] = ()) -> None:
        """One of the counts has changed, or some time has passed.

        Args:
            result: of one model.
            under_way: for how many seconds each of its requests has been under way, the longest first.
        """
        now = time.monotonic()
        if not self._progress.disable:
            self._progress.update(
                self._tasks[result.name],
                completed=result.done,
                cost=f"${result.cost:.2f}",
                rate=f"{result.fresh / max(now - self._started, 1e-9):.2g}/s",
            )
        elif now >= self._next[result.name]:
            self._next[result.name] = now + _SECONDS_A_LINE
            say(self.line(result, now - self._started, under_way))

    @staticmethod
    def line(result: JobResult, seconds: float, under_way: Sequence[float] = ()) -> str:
        """How far a model is after so many seconds of asking: rate, time left, and what is waited for."""
        parts = [f"asking {result.name}: {result.done:,} of {result.total:,} items, ${result.cost:.2f}"]
        left = result.total - result.done - result.left.total()
        if result.fresh:
            parts.append(f"{60 * result.fresh / seconds:.3g} per minute")
            parts.append(f"about {in_words(left * seconds / result.fresh)} left")
        if under_way:
            parts.append(f"{len(under_way):,} under way, the longest for {in_words(under_way[0])}")
        return ", ".join(parts)


def in_words(seconds: float) -> str:
    """A time in the unit that people read."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def job_progress(results: Sequence[JobResult]) -> Generator[JobProgress]:
    """Bars while a run lasts."""
    columns = (
        TextColumn("ask {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cost]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not progress_enabled()) as progress:
        yield JobProgress(progress, results)
