"""What a signal does to a process that is not training, and what becomes of its job; in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.slurm_tools import stand_in

JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "dig",
    "DIG_JOB": "7",
}
FACTS = "if [ $1 = show ]; then echo 'JobId=7 JobState={state} Reason={reason} Restarts={restarts}'; exit; fi"
PROGRAM = """
import sys, time
from dig.engine.entry import exit_code
from dig.engine.signals import watched

def run(arguments):
    with watched(float(arguments[0]), True) as watch:
        {before}
        print("ready", flush=True)
        {body}
    return 0

sys.exit(exit_code(run, sys.argv[1:], "", "interrupted"))
"""
SLEEP = "time.sleep(60)"
HOLD = "watch.hold()"
NATIVE = "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2_000_000_000)"
BUSY = """
        import hashlib, threading
        def report():  # half a second of computing: the native code is running
            begun = time.process_time()
            while time.process_time() < begun + 0.5: time.sleep(0.05)
            print("busy", flush=True)
        threading.Thread(target=report, daemon=True).start()"""


class Process:
    def __init__(self, body: str, before: str = "pass", grace: float = 60, **variables: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        command = [sys.executable, "-c", PROGRAM.format(body=body, before=before), str(grace)]
        self.process = subprocess.Popen(
            command, env={**environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self, *numbers: int) -> tuple[int, str]:
        for number in numbers:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output.strip()


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", os.environ["PATH"])

    def make(state: str = "RUNNING", reason: str = "None", restarts: int = 0, then: str = "exit 0") -> Path:
        facts = FACTS.format(state=state, reason=reason, restarts=restarts)
        return stand_in(tmp_path / "bin", "scontrol", f"{facts}\n{then}")

    return make


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_without_slurm_it_ends_with_a_code_of_its_own(number: int) -> None:
    code, output = Process(SLEEP).end(number)
    assert (code, output) == (75, f"stopped by {signal.Signals(number).name}; the same command resumes from here")


def test_ctrl_c_stays_ctrl_c() -> None:
    assert Process(SLEEP).end(signal.SIGINT) == (130, "interrupted")


def test_ctrl_c_says_at_once_what_follows_and_a_second_one_ends_at_once() -> None:
    """Entry 8: the main thread is in native code for minutes and can say nothing."""
    process = Process(NATIVE, before=HOLD + BUSY).process
    assert process.stdout is not None and process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    line = "interrupted: training stops after this step and saves first; Ctrl-C again stops at once\n"
    assert process.stdout.readline() == line and time.monotonic() - begun < 5
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (130, "interrupted at once; what was finished is kept\n")


def test_ctrl_c_outside_of_training_says_what_it_waits_for() -> None:
    process = Process(NATIVE, before=BUSY).process
    assert process.stdout is not None and process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    line = "interrupted: what is being computed comes to its end; Ctrl-C again stops at once\n"
    assert process.stdout.readline() == line
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    process.communicate()


ASKING = """
import asyncio, sys, time
from dig.engine.console import lines_to_console
from dig.engine.signals import signals_call

async def main():
    with signals_call(lambda: None):  # an answer is under way, in a thread that nobody can end
        print("ready", flush=True)
        await asyncio.to_thread(time.sleep, 60)

with lines_to_console():
    asyncio.run(main())
"""


def test_ctrl_c_while_answers_are_under_way_says_so_and_a_second_one_ends_at_once() -> None:
    """Entry 8 for mining: the loop is free, and what it waits for is not."""
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    line = "interrupted: what is under way comes to its end; Ctrl-C again stops at once\n"
    assert process.stdout.readline() == line
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (130, "interrupted at once; what was finished is kept\n")


def test_a_held_ctrl_c_raises_when_it_is_released() -> None:
    body = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2); assert watch.told == 'Ctrl-C'; watch.release()"
    code, output = Process(body, before="import os, signal; watch.hold()").end()
    assert code == 130 and output.splitlines()[-1] == "interrupted" and "training stops after this step" in output


@pytest.mark.parametrize(("number", "tasks"), [(signal.SIGTERM, "1"), (signal.SIGUSR1, "1"), (signal.SIGUSR1, "2")])
def test_rank_0_requeues_the_job_once(scontrol, number: int, tasks: str) -> None:
    calls = scontrol()
    code, output = Process(SLEEP, **{**JOB, "SLURM_NTASKS": tasks}).end(number, number, number)
    assert code == 75
    assert output.endswith("; job 7 goes back into the queue and resumes from there") and "\n" not in output
    assert calls.read_text().splitlines() == ["show job --oneliner 7", "requeue 7"]


def test_jobs_of_an_array_are_requeued_one_by_one(scontrol) -> None:
    calls = scontrol()
    Process(SLEEP, **JOB, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3").end(signal.SIGUSR1)
    assert calls.read_text().splitlines()[-1] == "requeue 5_3"


@pytest.mark.parametrize(
    ("facts", "asks", "said"),
    [
        ({"state": "COMPLETING"}, False, "SLURM ends job 7; it resumes from there when it starts again"),
        ({"state": "COMPLETING", "restarts": 1}, False, "goes back into the queue"),
        ({"state": "COMPLETING", "reason": "TimeLimit"}, True, "goes back into the queue"),
        ({}, False, "job 7 ends, as a rank was lost or somebody ended it; the same command resumes from there"),
        ({"reason": "None PreemptTime=2026-01-01T00:00:00"}, True, "goes back into the queue"),  # a grace time
        ({"reason": "None PreemptTime=None"}, False, "job 7 ends"),
        (
            {
                "reason": "TimeLimit",
                "state": "COMPLETING",
                "then": "echo 'Requested operation is presently disabled' >&2; exit 1",
            },
            True,
            "could not be requeued (Requested operation is presently disabled); the same command resumes",
        ),
    ],
)
def test_a_job_that_slurm_ends_itself_is_left_alone(scontrol, facts: dict, asks: bool, said: str) -> None:
    calls = scontrol(**facts)
    code, output = Process(SLEEP, **JOB).end(signal.SIGTERM)
    assert code == 75 and said in output
    assert ("requeue 7" in calls.read_text()) == asks


@pytest.mark.parametrize(("body", "before"), [(SLEEP, HOLD), (NATIVE, BUSY)], ids=["held", "native"])
def test_what_does_not_come_back_in_time_is_ended(scontrol, body: str, before: str) -> None:
    """In training no batch ends; and in native code Python's handler does not run."""
    calls = scontrol()
    process = Process(body, before, grace=1, **JOB)
    if before == BUSY:
        assert process.process.stdout.readline() == "busy\n"
    started = time.monotonic()
    code, output = process.end(signal.SIGUSR1)
    assert code == 75 and "nothing could be saved within 1 s of a signal; the last checkpoint stays; job 7" in output
    assert calls.read_text().count("requeue 7") == 1
    assert time.monotonic() - started < 25


def test_another_rank_leaves_the_requeue_to_rank_0_and_ends_when_all_end(scontrol) -> None:
    calls = scontrol(restarts=1)
    process = Process(SLEEP, **{**JOB, "SLURM_PROCID": "1"})
    process.process.send_signal(signal.SIGUSR1)
    time.sleep(2)
    assert process.process.poll() is None, "it waits for rank 0"
    assert process.end(signal.SIGTERM) == (75, "")
    assert "requeue 7" not in calls.read_text().splitlines()


def test_an_error_that_others_cause_by_ending_is_no_error() -> None:
    body = "while watch.name is None: time.sleep(0.05)\n        raise RuntimeError('Connection closed by peer')"
    code, output = Process(body, HOLD).end(signal.SIGTERM)
    assert code == 75 and output.startswith("stopped by SIGTERM (RuntimeError: Connection closed by peer)")


def test_handlers_are_given_back() -> None:
    from dig.engine.signals import SIGNALS, current_watch, watched

    before = [signal.getsignal(number) for number in SIGNALS]
    with watched(1, may_requeue=True) as watch:
        assert current_watch() is watch
    assert [signal.getsignal(number) for number in SIGNALS] == before and current_watch() is None
