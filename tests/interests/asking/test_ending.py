"""Endpoints that refuse, trickle, lie or start again, and how soon a run that waits for them ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from dig.engine.signals import Preempted, watched
from dig.interests.asking import limits
from dig.interests.asking.limits import Breaker
from dig.interests.asking.run import Limits, ask

NO_LIMITS = Limits()


def free_port() -> int:
    with closing(socket.socket()) as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


@contextmanager
def sockets(serve) -> Iterator[str]:
    """A server that treats every connection by ``serve(connection)`` in a thread of its own."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=served, args=(connection,), daemon=True).start()

        def served(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(1 << 16)
                    serve(connection)
                except OSError:
                    return  # the client had enough

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(600):
        connection.sendall(b" ")
        time.sleep(0.05)


def trickle_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(600):
        connection.sendall(f"X-{number}: y\r\n".encode())
        time.sleep(0.05)


def lie(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"choices": [')


def test_an_endpoint_that_nobody_listens_at_is_told_at_once_and_given_up_soon(store, make, monkeypatch, capsys):
    """Guard 5: the first refusal is told with the address and the limit; the run ends within the limit."""
    monkeypatch.setattr(limits, "NEVER_REACHED", 1.5)
    monkeypatch.setattr(limits, "AWAY_REST", 0.2)
    who = make["model"](f"http://127.0.0.1:{free_port()}/v1", breaker=4, backoff=0.3)
    begun = time.monotonic()
    (result,) = ask([make["job"](who, make["catalogue"](40))], store, "c", NO_LIMITS)
    took, text = time.monotonic() - begun, capsys.readouterr().out
    assert took < 8 and result.answered == 0 and "cannot be reached" in result.stopped
    assert text.count("warning: m: http://127.0.0.1:") == 1 and "given up after 2 s" in text
    assert store.spending("c").cost == store.spending("c").unknown_cost == 0


def test_a_server_that_starts_again_is_waited_for():
    """Guard 5: who has answered in this run may be away for longer than who never has, and as long as is told."""
    now = [0.0]
    breaker = Breaker(failures=2, rest=16.0, clock=lambda: now[0])
    breaker.reached()
    assert breaker.patience == limits.OUT_OF_REACH
    for now[0] in range(0, 290, 10):
        breaker.unreachable("it cannot be reached")
        breaker.failed("it cannot be reached")
        assert breaker.stopped is None
    breaker.reached()
    breaker.succeeded()
    now[0] = 1000.0
    breaker.unreachable("it cannot be reached")
    assert breaker.stopped is None
    now[0] += limits.OUT_OF_REACH
    breaker.unreachable("it cannot be reached")
    assert breaker.stopped == "it cannot be reached for 300 s"
    never = Breaker(failures=2, rest=16.0, clock=lambda: now[0])
    never.unreachable("nobody")
    now[0] += limits.NEVER_REACHED
    never.unreachable("nobody")
    assert never.stopped == "nobody for 10 s"


def test_a_server_that_comes_back_is_asked_on(server, store, make):
    """Guard 5: answers continue where a server was killed and started again at the same address."""
    port = free_port()
    who = make["model"](f"http://127.0.0.1:{port}/v1", concurrency=2, breaker=2, retries=30, backoff=0.2)
    answer = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "{}"}}], "usage": {}}

    def reply(connection: socket.socket) -> None:
        body = json.dumps(answer).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    def start() -> None:
        time.sleep(1.0)
        with closing(socket.create_server(("127.0.0.1", port))) as late:
            late.settimeout(10)
            while True:
                try:
                    connection, _ = late.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    reply(connection)

    threading.Thread(target=start, daemon=True).start()
    (result,) = ask([make["job"](who, make["catalogue"](4))], store, "c", NO_LIMITS)
    assert result.stopped is None and result.failed.total() == 4 and not result.left


@pytest.mark.parametrize("serve", [trickle, trickle_head, lie])
def test_a_request_has_a_whole_limit(serve, store, make, capsys):
    """Guard 5: bytes that come one by one, in the head or in the body, and a body cut short, end with the limit."""
    with sockets(serve) as url:
        who = make["model"](url, retries=0, timeout=0.7, max_unusable=None)
        begun = time.monotonic()
        (result,) = ask([make["job"](who, make["catalogue"](2))], store, "c", NO_LIMITS)
    assert time.monotonic() - begun < 6 and result.answered == 0 and result.left.total() == 2
    reason = next(iter(result.left))
    assert reason.startswith("connection lost" if serve is lie else "no answer in 0.7 s")
    assert f"warning: m: {reason}" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_who_waits_for_a_refusing_endpoint(number, store, make, monkeypatch):
    """Guard 5: between two attempts a signal ends the run at once."""
    monkeypatch.setattr(limits, "NEVER_REACHED", 60.0)
    who = make["model"](f"http://127.0.0.1:{free_port()}/v1", breaker=2, retries=20, backoff=20.0)
    assert ended_after(number, [make["job"](who, make["catalogue"](30))], store) < 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_came_and_waits_a_bounded_time(number, server, store, make, monkeypatch):
    """Guard 5: requests under way have a few seconds to come home; answers that came are kept."""
    monkeypatch.setattr("dig.interests.asking.run.HOMEWARD", 1.0)
    process = server(faults=["hang"], fault_share=0.1, lasting=True)
    who = make["model"](process.url, timeout=60.0, concurrency=30)
    assert ended_after(number, [make["job"](who, make["catalogue"](30))], store, after=2.0) < 6
    (result,) = ask(
        [make["job"](make["model"](process.url, retries=0, timeout=0.2), make["catalogue"](30))], store, "c", NO_LIMITS
    )
    assert result.known >= 5


def ended_after(number: int, jobs, store, after: float = 1.0) -> float:
    """Seconds from a signal to the end of asking, in a process that watches for signals."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    timer = threading.Timer(after, send)
    with pytest.raises((Preempted, KeyboardInterrupt)), watched(grace=30.0, may_requeue=False):
        timer.start()
        ask(jobs, store, "c", NO_LIMITS)
    return time.monotonic() - sent[0]


def test_the_first_interrupt_says_at_once_what_it_waits_for(server, store, make, capsys):
    """Entry 8: how many requests, for how long, and what a second one does."""
    process = server(latency=1.5)
    job = make["job"](make["model"](process.url, timeout=30.0, concurrency=4), make["catalogue"](30))
    said: list[str] = []

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        said.append(capsys.readouterr().out)

    timer = threading.Timer(0.8, interrupt)
    with pytest.raises(KeyboardInterrupt), watched(grace=30.0, may_requeue=False):
        timer.start()
        ask([job], store, "c", NO_LIMITS)
    timer.join()
    (line,) = [line for line in said[0].splitlines() if line.startswith("interrupted: ")]
    assert "waiting up to 6 s for 1 request under way (the longest for 1 s)" in line and "a second Ctrl-C" in line
    assert store.spending("c").unknown == 0, "it came home"


def test_who_waits_without_a_terminal_is_told_what_for(server, store, make, capsys, monkeypatch):
    """Entry 8: a line with rate and time left, also while nothing comes."""
    monkeypatch.setattr("dig.interests.asking.progress._SECONDS_A_LINE", 0.4)
    monkeypatch.setattr("dig.interests.asking.run._BEAT", 0.1)
    process = server(latency=1.2)
    job = make["job"](make["model"](process.url, timeout=30.0, concurrency=4), make["catalogue"](6))
    ask([job], store, "c", NO_LIMITS)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("asking: m: ")]
    assert "0 of 6 items" in lines[0] and "1 under way, the longest for " in lines[0]
    assert any("s an item" in line and " left; " in line for line in lines[1:])
