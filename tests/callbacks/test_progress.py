"""Lines that tell of a Trainer's progress where there is no terminal."""

from __future__ import annotations

import re
import time
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import progress_bar
from callbacks.monitoring import Bar, ProgressLines, Throughput
from dig.engine import console as console_module
from dig.engine.console import enable_progress


class Slow(L.LightningModule):
    """A step takes a twentieth of a second, a validation a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        self.log("train/loss", 0.5 * self.weight.detach().sum())
        return 0.0 * (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        time.sleep(0.25)

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks: L.Callback, **settings: Any) -> L.Trainer:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **quiet, **settings)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if ": " in line]


BATCHES = DataLoader(torch.ones(20, 1), batch_size=2)


def test_a_training_tells_of_its_first_step_and_then_at_intervals(capsys: pytest.CaptureFixture[str]):
    """Entry 8: 565 seconds without a line."""
    speed = Throughput()
    fit = trainer(speed, ProgressLines("sft", speed, every=0.2), max_epochs=2, num_sanity_val_steps=0)
    fit.fit(Slow(), BATCHES, DataLoader(torch.ones(2, 1)))
    told = lines(capsys)
    assert told[0] == "sft: step 1 of 20, loss 0.5"
    assert len(told) >= 5
    rated = [line for line in told if "samples/s" in line]
    assert rated and all(
        re.fullmatch(r"sft: step \d+ of 20, loss 0.5, \d+ samples/s, \d+ s left(, validation is under way)?", line)
        for line in rated
    )
    assert any(line.endswith("validation is under way") for line in told)


def test_a_step_that_lasts_is_told_of_while_it_lasts(capsys: pytest.CaptureFixture[str]):
    class Slower(Slow):
        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            time.sleep(0.3 * self.global_step)
            return super().training_step(batch)

    trainer(ProgressLines("grpo", every=0.1), max_steps=3).fit(Slower(), BATCHES)
    told = [line for line in lines(capsys) if line.startswith("grpo: step 2 of 3")]
    assert len(told) >= 3  # the third step takes 0.6 s


def test_a_test_tells_how_many_batches_are_left(capsys: pytest.CaptureFixture[str]):
    watch = ProgressLines("sft: 20 examples of test", every=0.2)
    trainer(watch).test(Slow(), BATCHES, verbose=False)
    told = lines(capsys)
    assert len(told) >= 5
    assert all(re.match(r"sft: 20 examples of test: batch \d+ of 10", line) for line in told)
    time.sleep(0.4)
    assert not lines(capsys)  # it is over


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]):
    class Broken(Slow):
        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        trainer(ProgressLines("sft", every=0.1), max_steps=3).fit(Broken(), BATCHES)
    capsys.readouterr()
    time.sleep(0.4)
    assert not lines(capsys)


@pytest.mark.parametrize(
    ("terminal", "wanted", "kind"), [(True, True, Bar), (False, True, ProgressLines), (False, False, None)]
)
def test_a_bar_on_a_terminal_lines_elsewhere_and_nothing_if_not_wanted(
    terminal: bool, wanted: bool, kind: type | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(console_module.console), "is_terminal", terminal)
    enable_progress(wanted)
    try:
        assert [type(callback) for callback in progress_bar("sft")] == ([] if kind is None else [kind])
    finally:
        enable_progress(True)
