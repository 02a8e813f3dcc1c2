"""Whole runs that are told to end: they save, end with a code of their own, and continue to the same result."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import psutil
from support.workplace import tokenized_workplace, wait_for_checkpoint


def end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    return output


def test_a_run_told_to_end_in_each_training_goes_on_to_the_same_metrics(tmp_path: Path) -> None:
    undisturbed, told = tokenized_workplace(tmp_path / "one"), tokenized_workplace(tmp_path / "two")
    undisturbed.run("trainer.checkpoint_every=1000")
    for stage, number in (("sft", signal.SIGTERM), ("grpo", signal.SIGUSR1)):
        process = told.start()
        assert wait_for_checkpoint(told, stage, process, newer_than=0)
        process.send_signal(number)
        output = end(process).strip().splitlines()
        wanted = rf"{stage}: saved at step \d+ \({signal.Signals(number).name}\); the same command resumes from here"
        assert re.fullmatch(wanted, output[-1]), output
    output = told.run()
    assert "grpo: resumes from the checkpoint" in output
    assert told.metrics() == undisturbed.metrics()


def test_a_signal_that_reaches_one_of_two_ranks_saves_both(tmp_path: Path) -> None:
    asked = ("stages=[sft]", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
    undisturbed, told = tokenized_workplace(tmp_path / "one"), tokenized_workplace(tmp_path / "two")
    undisturbed.run(*asked, "trainer.checkpoint_every=1000")
    process = told.start(*asked)
    assert wait_for_checkpoint(told, "sft", process, newer_than=0)
    second = ranks_started_by(process)
    second.send_signal(signal.SIGTERM)
    assert "sft: saved at step" in end(process)
    second.wait(timeout=60)  # nobody is left behind
    output = told.run(*asked)
    assert "sft: resumes from the checkpoint" in output
    weights = [
        next(workplace.home.glob("artifacts/sft/*/model/model.safetensors")).read_bytes()
        for workplace in (undisturbed, told)
    ]
    assert weights[0] == weights[1]


def ranks_started_by(process: subprocess.Popen[str]) -> psutil.Process:
    """The process of rank 1."""
    (second,) = (
        child
        for child in psutil.Process(process.pid).children()
        if child.environ().get("LOCAL_RANK") == "1" and "dig.train" in child.cmdline()
    )
    return second
