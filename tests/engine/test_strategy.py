"""Which strategy a configuration means, and what a rank says when another one is gone."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.utils.data import DataLoader, TensorDataset

from dig.config import UserError, load_config
from dig.config.schema import TrainerConfig
from dig.engine.strategy import check_trainer, devices_here, interruptible, meeting, strategy_for, trainer_place
from dig.stages import encoding, evaluation


@pytest.mark.parametrize(("devices", "expected"), [(1, 1), (3, 3), ("2", 2), ([0, 1, 2], 3), ("auto", 1), (-1, 1)])
def test_devices_of_this_machine(devices: object, expected: int):
    assert devices_here(TrainerConfig(accelerator="cpu", devices=devices)) == expected


@pytest.mark.parametrize("name", ["auto", "ddp", "fsdp"])
def test_one_rank_shares_with_nobody(name: str):
    assert strategy_for(TrainerConfig(accelerator="cpu", strategy=name), shards=True) == "auto"


@pytest.mark.parametrize(
    ("name", "shards", "kind"),
    [
        ("auto", True, DDPStrategy),
        ("ddp", True, DDPStrategy),
        ("fsdp", True, ModelParallelStrategy),
        ("fsdp", False, DDPStrategy),
    ],
)
def test_two_ranks_wait_as_long_as_they_are_told(name: str, shards: bool, kind: type):
    found = strategy_for(TrainerConfig(accelerator="cpu", devices=2, strategy=name, timeout=90.0), shards)
    assert type(found) is kind
    assert found._timeout == timedelta(seconds=90)


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'ddp'") as caught:
        strategy_for(TrainerConfig(accelerator="cpu", devices=2, strategy="dpp"))
    assert caught.value.exit_code == 2


LOST = "[pair.cc:534] Connection closed by peer [127.0.0.1]:4711\nException raised from there"


def test_a_lost_rank_is_a_line_where_there_are_others(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RuntimeError, match="Connection closed"), meeting("sft"):
        raise RuntimeError(LOST)  # one process has nobody to lose
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = r"^sft: rank 1 has lost another rank.*Connection closed by peer"
    with pytest.raises(UserError, match=told) as caught, meeting("sft"):
        raise RuntimeError(LOST)
    assert "there" not in str(caught.value)
    with pytest.raises(UserError, match="lost another rank"), meeting("sft"):
        raise torch.distributed.DistNetworkError("1/2 clients joined")
    with pytest.raises(RuntimeError, match="shapes"), meeting("sft"):
        raise RuntimeError("shapes do not fit")


def test_lightning_takes_no_notebooks_job_for_its_own(monkeypatch: pytest.MonkeyPatch):
    """Entry 18, a sibling: Lightning finds SLURM's variables by itself and would take its tasks for ranks."""
    for name, value in {
        "SLURM_JOB_ID": "77",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_NAME": "sys/dashboard/jupyter",
        "SLURM_NODEID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    config = TrainerConfig(accelerator="cpu")
    (environment,) = trainer_place(config)["plugins"]
    assert type(environment) is LightningEnvironment
    check_trainer(config)
    monkeypatch.setenv("DIG_JOB", "77")
    assert "plugins" not in trainer_place(config), "in a job of dig's Lightning reads SLURM's variables"


class Stopped(lightning.LightningModule):
    """Ends in its first batch as it is told to."""

    def __init__(self, end: type[BaseException]) -> None:
        super().__init__()
        self.end = end

    def predict_step(self, batch: list[torch.Tensor]) -> None:
        raise self.end(3)

    test_step = predict_step


class OneBatch(lightning.LightningDataModule):
    batches = (0,)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.zeros(1)))

    test_dataloader = predict_dataloader


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_leaves_an_encoding_and_a_measurement_as_ctrl_c(tmp_path: Path, end: type[BaseException]) -> None:
    """Lightning makes exit(1) of it, which says nothing and is no 130; another exit stays what it is."""
    config = load_config("quickstart", ["trainer.accelerator=cpu", "logging.progress=false"])
    context = cast(Any, SimpleNamespace(config=config, run=tmp_path))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(end):
        encoding.encode(context, tmp_path, Stopped(end), cast(Any, OneBatch()), cast(Any, None))
    with pytest.raises(end):
        evaluation._test(context, cast(Any, Stopped(end)), cast(Any, OneBatch()), "examples")
    # Who continues can be stopped again.
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    with pytest.raises(SystemExit, match="4"), interruptible():
        raise SystemExit(4)
