"""How fast an endpoint may be asked, when it wants to be left alone, and when it has failed too often."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

__all__ = ["Breaker", "EndpointStoppedError", "Pace", "pause_before"]

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, unless the endpoint names more."""
PROBES = 3
"""So many probes after a pause each may fail before an endpoint is given up for the run."""


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


class Pace:
    """Leaky buckets of requests and tokens a minute, and pauses that the endpoint asks for.

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
        """Seconds until a request of so many tokens may be sent; 0 takes its turn."""
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
        failures: so many in a row open it.
        rest: seconds before a probe, doubled after each that fails.
        clock: seconds.
    """

    def __init__(self, failures: int, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._rest, self._clock = failures, rest, clock
        self._in_a_row = self._probes = 0
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

    def succeeded(self) -> None:
        """The endpoint works."""
        self._in_a_row = self._probes = 0
        self._open_until, self._probing = None, False

    def failed(self, why: str) -> None:
        """One more failure."""
        self._in_a_row += 1
        if self._probing:
            self._probing = False
            self._probes += 1
            if self._probes >= PROBES:
                self.stop(f"{self._in_a_row} failures in a row, the last: {why}")
                return
        elif self._open_until is not None or self._in_a_row < self._limit:
            return  # what was under way when it opened says nothing new
        self._open_until = self._clock() + self._rest * 2.0**self._probes

    def untold(self) -> None:
        """A probe ended in a way that says nothing of the endpoint's health; another may follow."""
        self._probing = False
