"""Devices follow from slurm.*, and a job that is not the one meant is told in a line."""

from __future__ import annotations

import pytest

from dig.artifacts import fingerprint
from dig.config import Config, UserError, load_config
from dig.pipeline import _plan, _run_folder
from dig.slurm.job import current_job
from dig.slurm.placing import place, to_submit

STEP = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0",
        "SLURM_JOB_NAME": "dig", "SLURM_JOB_NODELIST": "node[1-2]"}  # fmt: skip


BATCH = {name: value for name, value in STEP.items() if name != "SLURM_STEP_ID"}


def placed(*settings: str, environment: dict[str, str] | None = None) -> Config:
    config = load_config("quickstart", settings)
    place(config, environment or {})
    return config


def test_devices_follow() -> None:
    config = placed("slurm.nodes=4", "slurm.gpus=8")
    assert (config.trainer.num_nodes, config.trainer.devices, config.trainer.accelerator) == (4, 8, "auto")
    config = placed("slurm.nodes=2", "slurm.tasks=3")
    assert (config.trainer.num_nodes, config.trainer.devices, config.trainer.accelerator) == (2, 3, "cpu")


def test_a_job_trains_and_everybody_else_submits() -> None:
    config = load_config("quickstart", ["slurm.nodes=2", "slurm.tasks=2"])
    assert to_submit(config, {}) and not to_submit(config, STEP)
    assert to_submit(config, {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "interactive"}), "in a shell of salloc"
    place(config, STEP)
    assert config.slurm.nodes is None, "what the run leaves does not submit when it is given again"
    assert not to_submit(load_config("quickstart"), {})


def test_nothing_of_it_changes_a_fingerprint_or_the_run() -> None:
    plain = placed("trainer.num_nodes=2", "trainer.devices=2", "trainer.accelerator=cpu", environment=STEP)
    slurm = placed("slurm.nodes=2", "slurm.tasks=2", "slurm.partition=gpu", "slurm.logs=elsewhere", environment=STEP)
    assert _run_folder(plain) == _run_folder(slurm)
    keys = [[fingerprint(step.origin) for step in _plan(config)] for config in (plain, slurm)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("settings", "environment", "said"),
    [
        (["slurm.nodes=2", "trainer.num_nodes=3"], {}, "trainer.num_nodes=3 contradicts slurm.nodes=2"),
        (["slurm.nodes=2", "slurm.gpus=4", "trainer.devices=2"], {}, "trainer.devices=2 contradicts slurm.gpus=4"),
        (["trainer.num_nodes=2"], {}, "slurm.nodes=2 submits a job"),
        (["slurm.nodes=2"], STEP, "give trainer.num_nodes=2 trainer.devices=2"),
        (["trainer.devices=4"], STEP, "SLURM started 4 tasks on 2 nodes"),
        ([], STEP, "make 1"),
        (["slurm.nodes=2", "slurm.tasks=2"], BATCH, "put srun before"),
        (["slurm.nodes=2", "slurm.tasks=2"], {**STEP, "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "4"},
         "srun --job-name=dig"),
    ],
)  # fmt: skip
def test_contradictions_are_one_line(settings: list[str], environment: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as raised:
        placed(*settings, environment=environment)
    assert raised.value.exit_code == 2 and said in str(raised.value) and "\n" not in str(raised.value)


def test_a_list_of_devices_is_counted() -> None:
    assert placed("trainer.num_nodes=2", "trainer.devices=[0,1]", environment=STEP).trainer.devices == [0, 1]
    assert placed("trainer.num_nodes=2", "trainer.devices=auto", environment=STEP).trainer.devices == "auto"


def test_jobs_of_an_array_are_called_by_their_place() -> None:
    job = current_job({**STEP, "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "1"})
    assert job is not None
    assert (job.id, job.number, job.rank, job.tasks, job.restarts) == ("5_2", 7, 3, 4, 1)
    assert current_job({}) is None and current_job({**STEP, "SLURM_JOB_NAME": "interactive"}) is None
