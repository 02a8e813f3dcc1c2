"""How fast an endpoint may be asked, when it wants to be left alone, and when it has failed or babbled too often."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable

from dig.engine.console import printable

__all__ = ["Breaker", "EndpointStoppedError", "RateLimiter", "Usability", "pause_before"]

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, unless the endpoint names more."""
LONGEST_ASKED = 900.0
"""Seconds that an endpoint may ask to be left alone; for more than that nobody waits, a later run asks again."""
PROBES = 3
"""This many probes after a pause each may fail before an endpoint is given up for the run."""


NEVER_REACHED = 10.0
"""Seconds after which an endpoint that no connection of this run has reached is given up: nothing listens there."""
AWAY_REST = 2.0
"""Seconds at most between two probes of an endpoint that is out of reach."""
OUT_OF_REACH = 300.0
"""Seconds after which one that was reached before, and may be starting again, is given up."""


_WINDOW = 5
"""This many times the limit of unusable answers is the window in which a model is looked at later."""
_SHARE = 0.9
"""Of the window, from which share of unusable answers on a model is stopped."""
_EXCERPT = 80


class EndpointStoppedError(Exception):
    """The endpoint is not asked any more in this run; says why."""


def pause_before(attempt: int, first: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds before another attempt: doubled each time, with full jitter, at least half of it.

    Args:
        attempt: 1 before the second attempt.
        first: seconds of the first pause.
        draw: a random number in [0, 1).
    """
    pause = min(first * 2.0 ** (attempt - 1), LONGEST_PAUSE)
    return pause * (0.5 + 0.5 * draw())


class RateLimiter:
    """Leaky buckets of requests and tokens per minute, and pauses that the endpoint asks for.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit.
        clock: seconds.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self._clock = clock
        self._next_request = self._next_tokens = self._resume = float("-inf")

    def pause(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._resume = max(self._resume, self._clock() + seconds)

    def wait(self, tokens: float) -> float:
        """Seconds until a request of this many tokens may be sent; 0 takes its turn."""
        now = self._clock()
        first = max(self._next_request, self._next_tokens, self._resume)
        if first > now:
            return first - now
        if self.requests_per_minute is not None:
            self._next_request = now + 60.0 / self.requests_per_minute
        if self.tokens_per_minute is not None:
            self._next_tokens = now + 60.0 * tokens / self.tokens_per_minute
        return 0.0


class Breaker:
    """Stops an endpoint that keeps failing: after a row of failures it rests, then one probe decides.

    Args:
        failures: this many in a row open it.
        rest: seconds before a probe, doubled after each that fails.
        clock: seconds.
    """

    def __init__(self, failures: int, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._rest, self._clock = failures, rest, clock
        self._in_a_row = self._probes = 0
        self._reached = False
        self._away_since: float | None = None
        self._open_until: float | None = None
        self._probing = False
        self._stopped: str | None = None

    def stop(self, why: str) -> None:
        """For the rest of the run."""
        self._stopped = self._stopped or why

    @property
    def stopped(self) -> str | None:
        """Why it is not asked any more, None while it is."""
        return self._stopped

    async def admit(self) -> None:
        """Returns when a request may be sent.

        Raises:
            EndpointStoppedError: none may be, in this run.
        """
        while self._open_until is not None and self._stopped is None:
            left = self._open_until - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return
            await asyncio.sleep(max(min(left, 0.5), 0.01))
        if self._stopped is not None:
            raise EndpointStoppedError(self._stopped)

    @property
    def patience(self) -> float:
        """Seconds that an endpoint may be out of reach."""
        return OUT_OF_REACH if self._reached else NEVER_REACHED

    def unreachable(self, why: str) -> None:
        """No connection stood; stops the endpoint where that has lasted too long."""
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self.patience:
            self.stop(f"{why} for {now - self._away_since:.0f} s")

    def reached(self) -> None:
        """A connection stood, whatever came of it."""
        self._reached, self._away_since = True, None

    def succeeded(self) -> None:
        """The endpoint works."""
        self._in_a_row = self._probes = 0
        self._open_until, self._probing = None, False

    def failed(self, why: str) -> None:
        """One more failure."""
        self._in_a_row += 1
        away = self._away_since is not None
        if self._probing:
            self._probing = False
            self._probes += not away
            if self._probes >= PROBES:
                self.stop(f"{self._in_a_row} failures in a row, the last: {why}")
                return
        elif self._open_until is not None or self._in_a_row < self._limit:
            return  # what was under way when it opened says nothing new
        rest = self._rest * 2.0**self._probes
        self._open_until = self._clock() + (min(rest, AWAY_REST) if away else rest)

    def untold(self) -> None:
        """A probe ended in a way that says nothing of the endpoint's health; another may follow."""
        self._probing = False


class Usability:
    """Stops a model of whose answers hardly one can be used, before it has cost a catalogue.

    What counts is a question whose second chance failed, too, and a response that cannot be read. A model is stopped
    where the first ``limit`` are such, or later where nine tenths of the last ``5 * limit`` are. Until the first usable
    answer no more than ``limit`` questions are begun.

    Args:
        limit: unusable answers from the start; None stops nothing.
        advice: what may help, by the reason why most answers are unusable.
    """

    def __init__(self, limit: int | None, advice: Callable[[str], str] = lambda reason: "") -> None:
        self.limit, self._advice = limit, advice
        self.proven = limit is None
        """Whether an answer could be used."""
        self.stopped: str | None = None
        """Why the model is not asked any more, None while it is."""
        self._window: deque[str | None] = deque(maxlen=None if limit is None else _WINDOW * limit)
        self._answers = self._under_way = 0
        self._changed = asyncio.Event()

    @property
    def at_once(self) -> int | None:
        """Questions that may be under way now, at least one; None knows no limit."""
        return None if self.proven or self.limit is None else max(1, self.limit - self._answers)

    async def admit(self) -> None:
        """Returns when one more question may be begun, or none any more; :meth:`ended` is to follow."""
        while self.stopped is None and (most := self.at_once) is not None and self._under_way >= most:
            self._changed.clear()
            await self._changed.wait()
        self._under_way += 1

    def ended(self) -> None:
        """A question has ended, whatever came of it."""
        self._under_way -= 1
        self._changed.set()

    def usable(self) -> None:
        """One more answer could be used."""
        self.proven = True
        self._note(None)

    def unusable(self, reason: str, excerpt: str) -> None:
        """One more answer could not; stops the model where there were too many.

        Args:
            reason: a few words.
            excerpt: what came instead.
        """
        self._note(reason)
        if self.limit is None or self.stopped is not None:
            return
        bad = Counter(each for each in self._window if each is not None)
        first = self._answers == bad.total() >= self.limit
        if first or (len(self._window) == self._window.maxlen and bad.total() >= _SHARE * len(self._window)):
            which = "first" if first else "last"
            counts = ", ".join(f"{count:,} {each}" for each, count in bad.most_common(3))
            shown = f", such as {printable(excerpt, _EXCERPT)!r}" if excerpt.strip() else ""
            advice = self._advice(bad.most_common(1)[0][0])
            self.stopped = (
                f"{bad.total():,} of the {which} {len(self._window):,} answers cannot be used ({counts})"
                f"{shown}{f'; {advice}' if advice else ''}"
            )
            self._changed.set()

    def _note(self, reason: str | None) -> None:
        self._answers += 1
        self._window.append(reason)
        self._changed.set()
