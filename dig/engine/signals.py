"""SIGUSR1, SIGTERM and Ctrl-C: save what training has, end; the first two also go back into SLURM's queue.

A signal handler of Python waits for the interpreter, and a rank in a collective call or in long native code does not
come back to it. So a thread watches, too: it is told of a signal through a pipe that the C handler writes to, and ends
the process when nothing was saved in time. What is on disk then, finished artifacts and the last checkpoint, is what
the next start resumes from, as after a kill. The same thread says at once what a Ctrl-C leads to: a step of a language
model can take many seconds.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dig.config.errors import UserError
from dig.engine.console import say
from dig.slurm.job import SlurmJob, current_job, requeue

__all__ = ["PREEMPTED", "Preempted", "SIGNALS", "Watch", "current_watch", "signals_call", "watched"]

PREEMPTED = 75
"""Exit code of a process that was told to end: what it made is kept, and the same command resumes (EX_TEMPFAIL)."""
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
_LEAVING = 20.0
"""Seconds in which a process that has saved closes its logs and ends, before it is ended."""
_BEHIND = 40.0
"""Seconds that other ranks give rank 0 to requeue the job, and then do it themselves."""
_BEHIND_SLURM = 5.0
"""The same after SIGTERM within a job, where SLURM ends all ranks in any case and leaves rank 0 half a minute."""

_SOON = 0.5
"""Seconds after a Ctrl-C in which a process may end without a word; where it does not, it is said what it waits for."""
_AT_ONCE = 3.0
"""Seconds in which a process tidies up after a second Ctrl-C, before it is ended."""
_INTERRUPTED = 130
_SHUTDOWN_GRACE = 2.0
"""Seconds that rank 0 has left once everybody is ended."""


class Preempted(BaseException):
    """Leaves everything, as Ctrl-C does.

    Args:
        told: what was saved, in words.
    """

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told


class Watch:
    """What this process knows of a signal to end.

    Args:
        grace: seconds in which a batch must end to be saved.
        may_requeue: whether a job is put back into the queue.
        job: the job that this process is a task of.
        spawned: whether Lightning started this process as one of several on this machine.
    """

    def __init__(self, grace: float, may_requeue: bool, job: SlurmJob | None, spawned: bool) -> None:
        self.grace = grace
        self.may_requeue = may_requeue
        self.job = job
        self.spawned = spawned
        self.rank = job.rank if job else int(spawned)
        self.name: str | None = None
        """The signal that this process was sent."""
        self.interrupted = False
        """Whether a Ctrl-C came while training held signals, so that it ends where it can be saved."""
        self.ends_after: str | None = None
        """What training is at and ends after when it is interrupted, such as `this step`."""
        self._pressed = 0  # as the thread counts Ctrl-C
        self._say_at: float | None = None
        self._end_at: float | None = None
        self._pid, self._parent = os.getpid(), os.getppid()
        self._holding = self._saving = self._saved = self._again = False
        self._deadline: float | None = None
        self._ending = threading.Lock()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGINT)}
        self._thread = threading.Thread(target=self._look, name="signals", daemon=True)

    def start(self) -> None:
        """Installs the handlers."""
        self.take_over()
        self._thread.start()

    def stop(self) -> None:
        """Gives the handlers back; a process that ends because of a signal is not ended by the next one."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            if handler is not None:  # None: not installed from Python
                ended = self.name is not None and number in SIGNALS
                signal.signal(number, signal.SIG_IGN if ended else handler)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def take_over(self) -> None:
        """Installs the handlers again, after somebody else has.

        Lightning's own would broadcast from within the handler, which hangs ranks that were not signalled, and an event
        loop of asyncio leaves none.
        """
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            for number in SIGNALS:
                signal.signal(number, self._handle)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._interrupt)

    def note(self, number: int) -> None:
        """Takes notice of a signal that somebody else handles."""
        self.name = self.name or signal.Signals(number).name
        os.write(self._writer, bytes([number]))

    @property
    def told(self) -> str | None:
        """What told this process to end, in words; None where nothing did."""
        return self.name or ("Ctrl-C" if self.interrupted else None)

    def hold(self) -> None:
        """A signal does not raise from here on; who holds it looks at ``told`` and saves first."""
        self._holding = True

    def release(self, raising: bool = True) -> None:
        """A signal raises again, and so does, on demand, one that came meanwhile.

        Raises:
            Preempted: it came; KeyboardInterrupt for Ctrl-C.
        """
        held, self._holding = self._holding, False
        if raising and held and self.name is not None:
            raise Preempted(f"the last checkpoint stays ({self.name})")
        if raising and held and self.interrupted:
            raise KeyboardInterrupt

    def save(self, action: Callable[[], bool]) -> bool:
        """Saves without being cut off, and then gives the process some time to end.

        Args:
            action: saves, and tells whether it did.
        """
        self._saving = True
        try:
            self._saved = action()
            if self._saved and self.name is not None:
                self._deadline = time.monotonic() + _LEAVING
            return self._saved
        finally:
            self._saving = False

    def end(self, told: str) -> None:
        """Requeues the job where there is one, and says what was saved and what becomes of it."""
        with self._ending:
            if self.rank:
                self._wait_for_the_first()
            if self.job is None:
                then = "the same command resumes from here"
            elif self.may_requeue:
                then = requeue(self.job, ended=not self._saved and self.name == "SIGTERM")
            else:
                then = "the same command resumes from here (slurm.requeue=false)"
            if not self.rank:
                say(f"{told}; {then}")
                sys.stdout.flush()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a worker process that was forked off; it is ended by its parent
            return
        first, self.name = self.name is None, self.name or signal.Signals(number).name
        self._again = not first
        if first and not self._holding:
            raise Preempted(f"stopped by {self.name}")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """The first Ctrl-C within training waits for its step; any other raises."""
        if os.getpid() != self._pid:  # a worker process that was forked off; its parent ends it
            return
        if self._holding and not self.interrupted:
            self.interrupted = True
            return
        raise KeyboardInterrupt

    def _look(self) -> None:
        """Ends the process when the handler, or what it asks for, does not come through in time."""
        while True:
            ready, _, _ = select.select([self._reader], [], [], 0.1 if self._say_at is not None else 0.5)
            if ready:
                numbers = os.read(self._reader, 64)
                if not numbers:  # closed by stop
                    return
                if self._deadline is None and any(number in SIGNALS for number in numbers):
                    self._deadline = time.monotonic() + self.grace
                self._count(numbers.count(signal.SIGINT))
            if self._say_at is not None and time.monotonic() > self._say_at:
                self._say_at = None
                self._say("what is being computed comes to its end")
            if self._end_at is not None and time.monotonic() > self._end_at:
                _end_at_once()
            if self.spawned and os.getppid() != self._parent:
                os._exit(PREEMPTED if self.name else 1)  # whom Lightning starts does not outlive who started it
            if self._deadline is not None and not self._saving and time.monotonic() > self._deadline:
                self._give_up()

    def _count(self, pressed: int) -> None:
        """Says what a first Ctrl-C leads to, and sees to it that a second one ends the process."""
        before, self._pressed = self._pressed, self._pressed + pressed
        if before == 0 and self._pressed:
            if self._holding:
                after = self.ends_after or "this step"
                self._say(f"training stops after {after} and saves first")
            else:
                self._say_at = time.monotonic() + _SOON
        if before < 2 <= self._pressed:
            self._say_at, self._end_at = None, time.monotonic() + _AT_ONCE

    def _say(self, what: str) -> None:
        if not self.rank:
            say(f"interrupted: {what}; Ctrl-C again stops at once")

    def _give_up(self) -> None:
        if self._ending.locked():  # the main thread is at it; give it the time that other ranks get
            self._deadline = time.monotonic() + _BEHIND + _LEAVING
            if not self._ending.acquire(timeout=_BEHIND + _LEAVING):
                os._exit(PREEMPTED)
            self._ending.release()
            self._deadline = time.monotonic() + _LEAVING
            return
        self.end(f"nothing could be saved within {self.grace:.0f} s of a signal; the last checkpoint stays")
        os._exit(PREEMPTED)

    def _wait_for_the_first(self) -> None:
        """Leaves rank 0 the time to requeue the job and to end: who starts the ranks ends all when one ends early.

        A second signal tells that it has come to this.
        """
        soon = self.job is not None and self.name == "SIGTERM"
        deadline = time.monotonic() + (_BEHIND_SLURM if soon else _BEHIND)
        while time.monotonic() < deadline and os.getppid() == self._parent:
            if self._again:
                deadline = min(deadline, time.monotonic() + _SHUTDOWN_GRACE)
            time.sleep(0.1)


def _end_at_once() -> None:
    """Ends the process without tidying up; whatever is kept was kept before."""
    os.write(2, b"interrupted at once; what was finished is kept\n")
    os._exit(_INTERRUPTED)


_current: list[Watch] = []


def _in_child() -> None:
    """A forked process shares the watch's pipe, and what it is sent is not for the watch to hear."""
    if _current:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_in_child)


def current_watch() -> Watch | None:
    """The watch of this process; None where nobody watches."""
    return _current[-1] if _current else None


@contextmanager
def signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Within a running event loop: an interrupt calls a function in the loop, where an exception could be lost.

    Args:
        stop: called for Ctrl-C and each signal to end; who calls this raises when the loop's work has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, watch = asyncio.get_running_loop(), current_watch()
    pressed, later = 0, []

    def handle(number: int) -> None:
        nonlocal pressed
        if watch is not None and number in SIGNALS:
            watch.note(number)
        stop()
        if number == signal.SIGINT:
            pressed += 1
            if pressed == 1:
                line = "interrupted: what is under way comes to its end; Ctrl-C again stops at once"
                later.append(loop.call_later(_SOON, say, line))
            elif pressed == 2:
                loop.call_later(_AT_ONCE, _end_at_once)

    numbers = {signal.SIGINT, signal.SIGTERM, *(SIGNALS if watch is not None else ())}
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for each in later:
            each.cancel()
        for number in numbers:
            loop.remove_signal_handler(number)
        if watch is not None:
            watch.take_over()


@contextmanager
def watched(grace: float, may_requeue: bool) -> Iterator[Watch]:
    """Watches for signals while the block runs.

    Raises:
        Preempted: for a signal, when all is said and done.
    """
    job = current_job()
    watch = Watch(grace, may_requeue, job, spawned=job is None and os.environ.get("LOCAL_RANK", "0") != "0")
    _current.append(watch)
    watch.start()
    try:
        yield watch
    except Preempted as stopped:
        watch.end(stopped.told)
        raise
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        if watch.name is None:
            raise
        # Others were told to end, too: a collective call fails once they are gone, and so do worker processes.
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        reason = f"stopped by {watch.name} ({what})"
        watch.end(reason)
        raise Preempted(reason) from None
    finally:
        _current.pop()
        watch.stop()
