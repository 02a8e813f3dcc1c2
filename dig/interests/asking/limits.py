"""How fast an endpoint may be asked, when it wants to be left alone, and when it has failed or babbled too often."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_low
from typing import NamedTuple

from dig.engine.console import printable

__all__ = ["Breaker", "Concurrency", "EndpointStoppedError", "RateLimiter", "Slot", "Usability", "pause_before"]

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


_SLOWER = 1.5
"""An answer that takes this many times as long, where twice as many are asked for, waited for another one: a server
that works side by side takes as long as before, one that works one after another takes twice as long."""
_QUICK = 1.3
"""Below this many times nobody waited for anybody, and there is no need to look at more answers."""
_SAFE = 0.8
"""Of the limit of time, what an answer may take before fewer are asked for at once."""
_INSTANT = 0.03
"""Seconds; a queue that costs no more is none."""
_STUCK = 5
"""This many times as long as usual, and a request may have been lost on the way."""
_RARE = 4
"""A refusal or a time-out after this many good answers for each request under way is an accident, not overload."""
_HOLD, _LONGEST_HOLD = 4, 64
"""Looks at an endpoint after one that found it busy, before more is tried again; doubled each time."""
_ALONE = 16
"""Answers that were asked for alone, the last of which tell how long one takes that waits for no other."""
_PATIENT = 2.5
"""A request that tries whether more can be under way may take this many times the limit of time at most."""
_POLL = 0.5


@dataclass(eq=False)
class Slot:
    """One request that may be under way.

    Attributes:
        size: how many might be under way when it was admitted.
        epoch: how often that had changed.
        timeout: seconds that the request may take.
        begun: when it was sent, None before.
    """

    size: int
    epoch: int
    timeout: float
    begun: float | None = None


class _Pace(NamedTuple):
    """How long answers take: of the middle one seconds, and seconds per written token."""

    seconds: float
    per_token: float

    def times(self, other: _Pace) -> float:
        """How many times slower than another, by that measure of the two by which it is less so."""
        return min(self.seconds / max(other.seconds, 1e-9), self.per_token / max(other.per_token, 1e-9))


def _slower(times: float) -> float:
    """How many times longer answers take where so many times as many wait for one another."""
    return float(_SLOWER ** math.log2(times))


class Concurrency:
    """How many requests are under way at once: one at first, twice as many as long as answers take no longer for it.

    Every so many answers it looks at how long they took. Where twice as many make each take half as long again, they
    wait for one another, so the number from before is kept, and more is tried again after some while. Such a trial must
    not end unanswered, so its requests may take longer than others. What an overloaded endpoint says, and an answer
    that does not come in time, halve the number, or take an eighth of it where that is rare; it then grows by a quarter
    at a time. A request that was given up is worked on by many servers all the same, so it keeps its place until an
    answer that was asked for later has come, or for as long again. Beside one that takes far longer than usual, which
    may have been lost on the way, one more may be under way.

    Args:
        ceiling: requests under way at once at most.
        timeout: seconds that a request may take.
        clock: seconds.
    """

    def __init__(self, ceiling: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.ceiling, self.timeout, self._clock = ceiling, timeout, clock
        self.size = 1
        """Requests that may be under way now."""
        self._epoch = self._busiest = 0
        self._careful = self._trial = False
        self._before: tuple[int, _Pace] | None = None
        """The number that a larger one is held against, and how long answers took then."""
        self._window: list[tuple[float, float]] = []
        self._alone: deque[tuple[float, float]] = deque(maxlen=_ALONE)
        self._left = self._hold = self._good = 0
        self._worst = 0.0
        self._slots: set[Slot] = set()
        self._given_up: list[tuple[float, float]] = []
        self._waiting: deque[asyncio.Future[Slot]] = deque()

    @property
    def under_way(self) -> list[float]:
        """For how many seconds each request has been under way, the longest first."""
        now = self._clock()
        return sorted((now - slot.begun for slot in self._slots if slot.begun is not None), reverse=True)

    async def admit(self, stopped: Callable[[], bool] = lambda: False) -> Slot | None:
        """A place for one more request, in the order of asking; None where it is ``stopped`` meanwhile."""
        if not self._waiting and self._is_free():
            return self._taken()
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            while not turn.done() and not stopped():
                await asyncio.wait([turn], timeout=_POLL)
                self._wake()
        except BaseException:
            if turn.done():
                self.leave(turn.result())
            raise
        finally:
            if not turn.done():
                turn.cancel()
        return None if turn.cancelled() else turn.result()

    def begin(self, slot: Slot) -> None:
        """The request is sent now."""
        slot.begun = self._clock()
        self._busiest = max(self._busiest, sum(each.begun is not None for each in self._slots) + len(self._given_up))

    def leave(self, slot: Slot) -> None:
        """The place is free again, and nothing is learnt from it."""
        self._slots.discard(slot)
        self._wake()

    def answered(self, slot: Slot, written: int) -> None:
        """An answer of so many tokens has come."""
        self._slots.discard(slot)
        if slot.begun is not None:
            began, seconds = slot.begun, self._clock() - slot.begun
            self._given_up = [each for each in self._given_up if each[0] > began]
            self._good += 1
            if slot.epoch == self._epoch:
                self._window.append((seconds, seconds / max(written, 1)))
                self._look()
        self._wake()

    def overloaded(self, slot: Slot, given_up: bool = False) -> None:
        """The endpoint has too much to do; ``given_up`` where the answer did not come in time."""
        self._slots.discard(slot)
        if given_up and slot.begun is not None:
            self._given_up.append((slot.begun, self._clock() + self.timeout))
        if slot.epoch == self._epoch:  # one that was sent before says nothing of what is done since
            alone = self._good >= _RARE * self.size
            self._careful, self._before, self._trial, self._good = True, None, False, 0
            self._left = 1 if alone else _HOLD
            self._resize(max(1, self.size - max(1, self.size // 8) if alone else self.size // 2))
        self._wake()

    def _look(self) -> None:
        """Decides after enough answers whether as many, fewer or more are asked for at once."""
        slowest = _Pace(*(max(each) for each in zip(*self._window, strict=True)))
        middle = _Pace(*(median_low(each) for each in zip(*self._window, strict=True)))
        if self.size == 1:
            self._alone.append(self._window[-1])
        alone = _Pace(*(median_low(each) for each in zip(*self._alone, strict=True))) if self._alone else middle
        enough, quick = len(self._window) >= max(2, 2 * self.size - 1), False  # a first one may load the model
        if self._before is not None:
            size, earlier = self._before
            quick = len(self._window) > self.size // 2 and slowest.times(earlier) <= _QUICK
            waits = middle.times(earlier) > _slower(self.size / size) or middle.times(alone) > _slower(self.size)
            if not quick and enough and waits and middle.seconds > _INSTANT:
                self._hold = min(max(2 * self._hold, _HOLD), _LONGEST_HOLD)
                self._left, self._before, self._trial = self._hold, None, False
                self._resize(size)
                return
        if not (enough or quick):
            return
        self._trial, self._hold = False, self._hold if self._before is None else 0
        self._worst, saturated = slowest.seconds, self._busiest >= self.size
        self._busiest = 0
        self._window.clear()
        if self.size > 1 and self._worst > _SAFE * self.timeout and middle.times(alone) > _SLOWER:
            self._before = None
            self._resize(self.size - max(1, self.size // 4))
            return
        self._left -= 1
        if self._left <= 0 and saturated and self.size < self.ceiling:
            leap = 4 if quick and 4 * self._worst <= _SAFE * self.timeout else 2
            more = max(1, self.size // 4) if self._careful else (leap - 1) * self.size
            self._before, self._trial = (self.size, middle), True
            self._resize(min(self.size + more, self.ceiling))

    def _resize(self, size: int) -> None:
        self.size = size
        self._epoch += 1
        self._busiest = 0
        self._window.clear()

    def _is_free(self) -> bool:
        if self._given_up:
            now = self._clock()
            self._given_up = [each for each in self._given_up if each[1] > now]
        taken = len(self._slots) + len(self._given_up)
        return taken < self.size or (taken == self.size and not self._given_up and self._is_stuck())

    def _is_stuck(self) -> bool:
        """Whether a request takes so much longer than others that one more may be under way beside it."""
        usual = median_low(seconds for seconds, _ in self._alone) if self._alone else self.timeout
        waits = self.under_way
        return bool(waits) and waits[0] > max(_STUCK * usual, _POLL)

    def _taken(self) -> Slot:
        timeout = self.timeout
        if self._trial and self._before is not None:
            timeout = min(max(timeout, self.size / self._before[0] * self._worst / _SAFE), _PATIENT * timeout)
        slot = Slot(self.size, self._epoch, timeout)
        self._slots.add(slot)
        return slot

    def _wake(self) -> None:
        while self._waiting and (self._waiting[0].done() or self._is_free()):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._taken())


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

    def unreachable(self, why: str, listens: bool = False) -> None:
        """No connection stood, or a server ``listens`` and is only starting; stops it where that lasts too long."""
        now = self._clock()
        self._reached = self._reached or listens
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self.patience:
            self.stop(f"{why} for {now - self._away_since:.0f} s")

    def reached(self) -> float:
        """A connection stood, whatever came of it; for how many seconds none had."""
        away = 0.0 if self._away_since is None else self._clock() - self._away_since
        self._reached, self._away_since = True, None
        return away

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
