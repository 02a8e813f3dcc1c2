"""What became of a run of questions, model by model, and what is seen of it while it lasts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dig.engine.console import console, printable, progress_enabled, say

if TYPE_CHECKING:
    from dig.interests.asking.question import Question, Usable

__all__ = ["JobProgress", "JobResult", "in_words", "job_progress"]


_REASONS = 5
"""Reasons for questions that are left which a line names; messages of providers may differ in every one."""
_EXAMPLES = 3
"""Usable answers that are shown as they come, so that rubbish is seen before a catalogue has been asked about."""
_TITLE, _SAID = 60, 200
"""Letters of an item's title, and of what is said of it, that are shown."""


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
        cut: usable answers that were cut short, of which the complete interests are kept.
        tokens: written in this run.
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
    cut: int = 0
    tokens: int = 0

    def usable(self, question: Question, usable: Usable) -> None:
        """Counts a usable answer; the first few are shown."""
        self.answered += 1
        self.cut += usable.cut
        if self.answered <= _EXAMPLES and usable.answer.said:
            title = json.loads(question.evidence.text).get("title") or question.evidence.item_id
            said = printable("; ".join(usable.answer.said), _SAID)
            say(f"{self.name}: {printable(str(title), _TITLE)} \u2192 {said}")

    @property
    def done(self) -> int:
        """Questions that need no asking any more."""
        return self.known + self.answered + self.failed.total()

    def summary(self) -> str:
        """One line for the screen."""
        parts = [f"{self.name}: {self.total:,} items"]
        if self.known:
            parts.append(f"{self.known:,} known")
        cut = f" ({self.cut:,} of them cut short: their complete interests are kept)" if self.cut else ""
        parts.append(f"{self.answered:,} answered{cut}")
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


_SECONDS_A_LINE = 30.0


class JobProgress:
    """Shows how far each model is: by bars, or where no terminal is by a line at the first answers and now and then.

    Args:
        progress: the bars.
        results: what is counted, one per model.
        clock: seconds.
    """

    def __init__(
        self, progress: Progress, results: Sequence[JobResult], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._results, self._clock = progress, results, clock
        now = clock()
        self._begun = {result.name: now for result in results}
        self._told = {result.name: float("-inf") for result in results}
        self.waits: dict[str, Callable[[], list[float]]] = {}
        """By model: for how many seconds each of its requests has been under way, the longest first."""
        self._tasks: dict[str, TaskID] = {
            result.name: progress.add_task(escape(result.name), total=result.total, cost="", rate="")
            for result in results
        }

    def begin(self, result: JobResult) -> None:
        """Its first question is asked now; what was needed to load it does not count."""
        self._begun[result.name] = self._clock()

    def show(self, result: JobResult) -> None:
        """One of the counts has changed."""
        if not self._progress.disable:
            self._progress.update(
                self._tasks[result.name],
                completed=result.done,
                cost=f"${result.cost:.2f}",
                rate=self._pace(result),
            )
        elif self._clock() - self._told[result.name] >= _SECONDS_A_LINE:
            self._told[result.name] = self._clock()
            cost = f", ${result.cost:.2f}" if result.cost else ""
            pace = self._pace(result, with_time=True)
            waits = self.waits[result.name]() if result.name in self.waits else []
            waiting = f"; {len(waits):,} under way, the longest for {in_words(waits[0])}" if waits else ""
            say(f"asking: {result.name}: {result.done:,} of {result.total:,} items{cost}, {pace}{waiting}")

    def beat(self) -> None:
        """Says where everything stands, also while no answer comes."""
        for result in self._results:
            waiting = result.requests and result.done + result.left.total() < result.total and result.stopped is None
            last = max(self._begun[result.name], self._told[result.name])
            if waiting and self._clock() - last >= _SECONDS_A_LINE:
                self.show(result)

    def _pace(self, result: JobResult, with_time: bool = False) -> str:
        """Answers and tokens per second, and about how long the rest will take."""
        seconds = max(self._clock() - self._begun[result.name], 1e-9)
        fresh = result.answered + result.failed.total()
        if not fresh:
            return f"no answer yet in {seconds:.0f} s" if with_time else ""
        each = f"{fresh / seconds:.1f} items/s" if fresh > seconds else f"{seconds / fresh:.1f} s an item"
        pace = f"{each}, {result.tokens / seconds:,.0f} tokens/s"
        left = (result.total - result.done) * seconds / fresh
        return f"{pace}, about {in_words(left)} left" if with_time else pace


def in_words(seconds: float) -> str:
    """A time to wait, roughly, in the unit that people read."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
