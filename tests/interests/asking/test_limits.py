import asyncio

import pytest

from dig.interests.asking.limits import (
    LONGEST_PAUSE,
    PROBES,
    Breaker,
    Concurrency,
    EndpointStoppedError,
    RateLimiter,
    Slot,
    Usability,
    pause_before,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_double_with_jitter_up_to_a_minute():
    assert [pause_before(attempt, 1.0, lambda: 1.0) for attempt in (1, 2, 3, 10)] == [1.0, 2.0, 4.0, LONGEST_PAUSE]
    assert [pause_before(attempt, 1.0, lambda: 0.0) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]
    drawn = {pause_before(3, 1.0) for _ in range(50)}
    assert len(drawn) > 40 and 2.0 <= min(drawn) <= max(drawn) <= 4.0


def test_requests_and_tokens_a_minute_are_kept():
    clock = Clock()
    rate_limiter = RateLimiter(requests_per_minute=60.0, tokens_per_minute=6000.0, clock=clock)
    assert rate_limiter.wait(50) == 0.0
    assert rate_limiter.wait(50) == pytest.approx(1.0)  # a request a second
    clock.now += 1.0
    assert rate_limiter.wait(300) == 0.0
    clock.now += 1.0
    assert rate_limiter.wait(10) == pytest.approx(2.0)  # 300 tokens take three seconds
    assert RateLimiter(None, None, clock).wait(1e9) == 0.0


def test_sent_in_a_minute_is_never_more_than_allowed():
    clock = Clock()
    rate_limiter = RateLimiter(requests_per_minute=30.0, tokens_per_minute=None, clock=clock)
    sent = 0
    while clock.now < 160.0:
        wait = rate_limiter.wait(1)
        sent += wait == 0.0
        clock.now += wait
    assert sent == 30


def test_the_endpoint_is_left_alone_as_long_as_it_asks():
    clock = Clock()
    rate_limiter = RateLimiter(None, None, clock)
    rate_limiter.pause(5.0)
    rate_limiter.pause(2.0)  # the longest counts
    assert rate_limiter.wait(1) == pytest.approx(5.0)
    clock.now += 5.0
    assert rate_limiter.wait(1) == 0.0


def admitted(breaker: Breaker) -> bool:
    async def ask() -> bool:
        try:
            await asyncio.wait_for(breaker.admit(), 0.05)
        except TimeoutError:
            return False
        return True

    return asyncio.run(ask())


def test_a_row_of_failures_opens_the_breaker_and_a_probe_closes_it():
    clock = Clock()
    breaker = Breaker(failures=3, rest=10.0, clock=clock)
    for _ in range(2):
        breaker.failed("HTTP 500")
    breaker.succeeded()  # a success between them: no row
    for _ in range(2):
        breaker.failed("HTTP 500")
    assert admitted(breaker)
    breaker.failed("HTTP 500")
    assert not admitted(breaker)
    clock.now += 10.0
    assert admitted(breaker)
    assert not admitted(breaker), "one probe at a time"
    breaker.succeeded()
    assert admitted(breaker) and admitted(breaker) and breaker.stopped is None


def test_probes_that_fail_stop_the_endpoint_after_longer_and_longer_rests():
    clock = Clock()
    breaker = Breaker(failures=2, rest=10.0, clock=clock)
    breaker.failed("a")
    breaker.failed("b")
    for probe in range(PROBES):
        clock.now += 10.0 * 2**probe - 0.5
        assert not admitted(breaker)
        clock.now += 0.5
        assert admitted(breaker)
        breaker.failed("the last")
    assert breaker.stopped == f"{2 + PROBES} failures in a row, the last: the last"
    with pytest.raises(EndpointStoppedError, match="in a row"):
        asyncio.run(breaker.admit())


def test_an_untold_probe_makes_room_for_another():
    clock = Clock()
    breaker = Breaker(failures=1, rest=1.0, clock=clock)
    breaker.failed("a")
    clock.now += 1.0
    assert admitted(breaker) and not admitted(breaker)
    breaker.untold()
    assert admitted(breaker)
    breaker.stop("the key is not accepted")
    with pytest.raises(EndpointStoppedError, match="the key"):
        asyncio.run(breaker.admit())


def told(usability: Usability, answers: str) -> str | None:
    """What comes of usable (+) and unusable (-) answers."""
    for answer in answers:
        if answer == "+":
            usability.usable()
        else:
            usability.unusable("no JSON", "I think\nthat")
    return usability.stopped


def test_a_model_is_stopped_where_none_or_hardly_one_of_its_answers_is_usable():
    """Entry 16: eight of the first eight, or nine tenths of the last forty; one in fifty does not save it."""
    assert told(Usability(8), "-" * 7) is None
    stopped = told(Usability(8, lambda reason: f"mend {reason}"), "-" * 8)
    assert stopped == ("8 of the first 8 answers cannot be used (8 no JSON), such as 'I think that'; mend no JSON")
    assert told(Usability(8), "+" + "-" * 35) is None, "the window is not full"
    assert told(Usability(8), "+" + "-" * 39).startswith("39 of the last 40 answers cannot be used")
    assert told(Usability(8), ("+" + "-" * 49) * 2).startswith("39 of the last 40")
    assert told(Usability(8), ("+" + "-" * 4) * 100) is None
    assert told(Usability(8), "+" * 1000 + "-" * 35) is None and told(Usability(8), "+" * 1000 + "-" * 36) is not None
    assert told(Usability(None), "-" * 1000) is None


def test_no_more_questions_are_begun_than_may_fail_until_one_answer_is_usable():
    async def begun(answers: list[bool]) -> int:
        """Questions begun by twenty workers, each of which ends with its answer; the others never end."""
        usability, count = Usability(8), 0

        async def work() -> None:
            nonlocal count
            while True:
                await usability.admit()
                if usability.stopped:
                    return usability.ended()
                count += 1
                mine = count
                if mine > len(answers):
                    await asyncio.sleep(60)
                await asyncio.sleep(0)
                usability.usable() if answers[mine - 1] else usability.unusable("r", "")
                usability.ended()

        workers = [asyncio.ensure_future(work()) for _ in range(20)]
        await asyncio.sleep(0.05)
        for worker in workers:
            worker.cancel()
        return count

    assert asyncio.run(begun([])) == 8
    assert asyncio.run(begun([False] * 3)) == 8
    assert asyncio.run(begun([False] * 8)) == 8
    assert asyncio.run(begun([True])) >= 20


class Served:
    """A server of so many places, in simulated time: each answer takes a second of one of them."""

    def __init__(self, places: int, timeout: float, ceiling: int = 16) -> None:
        self.clock = Clock()
        self.concurrency = Concurrency(ceiling, timeout, self.clock)
        self.places = [self.clock.now] * places
        self.under_way: list[tuple[float, Slot]] = []
        self.unknown = 0

    def run(self, count: int) -> list[int]:
        """The sizes after each of so many answers."""

        async def work() -> list[int]:
            sizes = []
            while len(sizes) < count:
                while self.concurrency._is_free():
                    slot = await self.concurrency.admit()
                    self.concurrency.begin(slot)
                    place = min(range(len(self.places)), key=self.places.__getitem__)
                    self.places[place] = max(self.places[place], self.clock.now) + 1.0
                    self.under_way.append((self.places[place], slot))
                end, slot = min(self.under_way, key=lambda each: min(each[0], each[1].begun + each[1].timeout))
                self.under_way.remove((end, slot))
                self.clock.now = max(self.clock.now, min(end, slot.begun + slot.timeout))
                if end > slot.begun + slot.timeout:
                    self.unknown += 1
                    self.concurrency.overloaded(slot, given_up=True)
                else:
                    self.concurrency.answered(slot, 100)
                    sizes.append(self.concurrency.size)
            return sizes

        return asyncio.run(work())


def test_a_server_that_works_in_order_is_asked_for_one_or_two_at_once():
    """Entry 5, also where an answer takes most of the limit of time: then a trial may take longer."""
    for timeout in (120.0, 4.0, 1.5):
        server = Served(places=1, timeout=timeout)
        sizes = server.run(300)
        assert max(sizes) <= 2 and server.unknown == 0 and sizes.count(1) > 200, timeout


def test_a_server_that_works_side_by_side_is_asked_for_all_soon():
    server = Served(places=64, timeout=30.0, ceiling=64)
    sizes = server.run(1000)
    assert sizes.index(64) < 100 and sizes[-1] == 64 and server.unknown == 0
    assert server.clock.now - 100.0 < 1000 / 64 + 6.0, "seconds, near the ideal"


def test_a_server_of_some_places_is_asked_for_about_as_many():
    sizes = Served(places=4, timeout=30.0).run(500)
    assert 4 <= sizes[-1] <= 8 and max(sizes) <= 16


def test_overload_halves_and_an_accident_takes_an_eighth():
    async def scene() -> list[int]:
        clock, sizes = Clock(), []
        concurrency = Concurrency(16, 10.0, clock)
        concurrency.size = 16
        slots = [await concurrency.admit() for _ in range(16)]
        for slot in slots:
            concurrency.begin(slot)
        clock.now += 1.0
        concurrency.overloaded(slots[0])
        sizes.append(concurrency.size)
        concurrency.overloaded(slots[1])  # it was sent before the number was halved
        sizes.append(concurrency.size)
        concurrency._good = 1000
        for slot in slots[2:]:
            concurrency.leave(slot)
        late = await concurrency.admit()
        concurrency.begin(late)
        concurrency.overloaded(late)
        sizes.append(concurrency.size)
        return sizes

    assert asyncio.run(scene()) == [8, 8, 7]


def test_a_request_that_was_given_up_keeps_its_place_until_a_later_one_is_answered():
    async def scene() -> list[bool]:
        clock, free = Clock(), []
        concurrency = Concurrency(2, 10.0, clock)
        first = await concurrency.admit()
        concurrency.begin(first)
        clock.now += 10.0
        concurrency.overloaded(first, given_up=True)
        free.append(concurrency._is_free())
        clock.now += 9.9
        free.append(concurrency._is_free())
        clock.now += 0.2
        free.append(concurrency._is_free())  # as long again
        return free

    assert asyncio.run(scene()) == [False, False, True]


def test_one_request_that_never_ends_does_not_hold_up_all_others():
    async def scene() -> list[bool]:
        clock, free = Clock(), []
        concurrency = Concurrency(16, 100.0, clock)
        first = await concurrency.admit()
        concurrency.begin(first)
        clock.now += 1.0
        concurrency.answered(first, 10)
        for _ in range(2):  # the second of them is one more than the size
            concurrency.begin(await concurrency.admit())
            free.append(concurrency._is_free())
            clock.now += 5.5
            free.append(concurrency._is_free())
        return free

    assert asyncio.run(scene()) == [False, True, False, False]


def test_a_server_that_listens_and_still_loads_is_waited_for() -> None:
    """503 while a model is loaded is not silence: what nobody has reached is given up after seconds."""
    now = 0.0
    loading, silent = (Breaker(20, 1.0, clock=lambda: now) for _ in range(2))
    for now in (0.0, 60.0):  # noqa: B007 - the clocks read it
        loading.unreachable("HTTP 503", listens=True)
        silent.unreachable("connection refused")
    assert loading.stopped is None and silent.stopped is not None
    assert "60 s" in silent.stopped
