"""Devices follow from slurm.*, and a job that is not the one meant is told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.config import Config, UserError, load_config
from dig.engine.artifacts import fingerprint
from dig.engine.pipeline import _plan, _run_folder
from dig.engine.ranks import launched
from dig.slurm.job import current_job, foreign_job
from dig.slurm.placing import check_submission, place, to_submit

STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "dig",
    "SLURM_JOB_NODELIST": "node[1-2]",
}


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
        (["slurm.nodes=2", "slurm.tasks=2"], {**BATCH, "DIG_JOB": "7"}, "put srun before"),
        (
            ["slurm.nodes=2", "slurm.tasks=2"],
            {**STEP, "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "4"},
            "srun --job-name=dig",
        ),
    ],
)
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


NOTEBOOK = {
    "SLURM_JOB_ID": "77",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_JOB_NAME": "sys/dashboard/jupyter",
    "SLURM_NODELIST": "n1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NUM_NODES": "1",
}
OTHERS = {
    "a notebook": NOTEBOOK,
    "a notebook that asked for cores as tasks": {**NOTEBOOK, "SLURM_NTASKS": "4"},
    "a notebook that srun started": {**NOTEBOOK, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    "a tunnel of an editor": {**NOTEBOOK, "SLURM_JOB_NAME": "code", "SLURM_STEP_ID": "0"},
    "a job within a job of dig's": {**NOTEBOOK, "DIG_JOB": "76"},
    "a shell of salloc": {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "1"},
    "a login shell with an old job's variables": {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "dig", "DIG_JOB": "77"},
}


@pytest.mark.parametrize("environment", OTHERS.values(), ids=OTHERS)
def test_a_job_that_is_there_for_something_else_is_none_of_ours(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entry 18: inside of it `slurm.nodes=1` submits, and without it one process trains as on any machine."""
    assert current_job(environment) is None and foreign_job(environment).endswith("77")
    config = load_config("quickstart", ["slurm.nodes=1"])
    assert to_submit(config, environment)
    place(config, environment)
    assert config.slurm.nodes == 1, "it goes into the script"
    assert placed("trainer.devices=2", environment=environment).trainer.devices == 2, "ranks are started here"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not launched()


@pytest.mark.parametrize(
    "environment",
    [
        {**NOTEBOOK, "DIG_JOB": "77"},
        {**NOTEBOOK, "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2", "SLURM_STEP_ID": "0"},
        {**NOTEBOOK, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"},
    ],
    ids=["its script says so", "srun started several tasks", "a step of several tasks"],
)
def test_a_job_is_ours_if_its_script_says_so_or_srun_started_several_tasks(environment: dict[str, str]) -> None:
    """Entry 18: scripts of people's own with `srun` and several tasks work as ever."""
    job = current_job(environment)
    assert job is not None and job.id == "77" and foreign_job(environment) == ""
    assert not to_submit(load_config("quickstart", ["slurm.nodes=1"]), environment)


def test_a_script_with_the_tasks_that_are_asked_for_has_forgotten_srun() -> None:
    """It submitted a second job of the same size and ended."""
    asked = ("slurm.nodes=2", "slurm.tasks=2")
    with pytest.raises(UserError, match=r"has the 4 tasks on 2 nodes .* put srun before python") as raised:
        placed(*asked, environment=BATCH)
    assert raised.value.exit_code == 2
    for other in ({**BATCH, "RANK": "0"}, {**BATCH, "SLURM_NTASKS": "3"}, NOTEBOOK):
        assert placed(*asked, environment=other).slurm.nodes == 2, "another job of its own"


def test_tasks_that_stay_idle_in_a_script_of_ones_own_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    placed(environment=BATCH)
    told = " ".join(capsys.readouterr().out.split())
    assert "this job has 4 tasks, and one process trains here" in told and "put srun before python" in told
    placed(environment={**BATCH, "RANK": "0"})
    placed(environment=NOTEBOOK)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["slurm.gpus=4"],
            "slurm.gpus=4 says what a job asks for, and without slurm.nodes none is submitted; add slurm.nodes=1",
        ),
        (["slurm.partition=gpu"], "slurm.partition=gpu says"),
        (["slurm={time: '10:00:00'}"], "slurm.time=10:00:00 says"),
    ],
)
def test_asking_something_of_a_job_that_is_not_submitted_is_one_line(settings: list[str], said: str) -> None:
    """newcomers 2: `slurm.gpus=4` without `slurm.nodes` trained here and said nothing."""
    with pytest.raises(UserError) as raised:
        check_submission(load_config("quickstart", settings), settings, {})
    assert said in str(raised.value) and raised.value.exit_code == 2 and "\n" not in str(raised.value)
    for more in ("slurm.nodes=1", "slurm.nodes=null"):
        check_submission(load_config("quickstart", [*settings, more]), [*settings, more], {})
    check_submission(load_config("quickstart", settings), settings, STEP)


def test_a_site_file_without_nodes_trains_here_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("extends: quickstart\nslurm: {partition: gpu, gpus: 4}\n")
    check_submission(load_config(path), [f"experiment={path}"], {})
    told = " ".join(capsys.readouterr().out.split())
    assert "slurm.gpus, slurm.partition: without slurm.nodes no job is submitted, this trains on this machine" in told
    check_submission(load_config("quickstart", ["slurm.grace=60"]), ["slurm.grace=60"], {})
    assert capsys.readouterr().out == "", "what the process reads itself has a say here"
