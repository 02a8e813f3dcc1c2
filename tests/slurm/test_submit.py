"""Job scripts: what sbatch and the shell read in them, and that the one written by hand has the same shape."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.slurm_tools import stand_in

from dig.config import UserError, load_config
from dig.slurm.placing import place
from dig.slurm.submit import job_script
from dig.train import main

PROJECT = Path(__file__).resolve().parents[2]


def script(*settings: str, folder: Path = Path("/shared/project")) -> str:
    config = load_config("quickstart", settings)
    place(config, {})
    return job_script(config, ["experiment=quickstart", *settings], folder)


def directives(text: str) -> dict[str, str]:
    """sbatch's options, read as sbatch does: a comment ends a line."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            name, _, value = shlex.split(line.removeprefix("#SBATCH "), comments=True)[0].partition("=")
            found[name] = value
    return found


def steps(text: str) -> list[str]:
    """The words of the line that starts the tasks, continued lines joined."""
    joined = text.replace("\\\n", " ")
    return shlex.split(next(line for line in joined.splitlines() if line.startswith("srun ")))


def test_gpus_have_a_task_each() -> None:
    asked = directives(
        script(
            "slurm.nodes=4",
            "slurm.gpus=8",
            "slurm.gpu_type=a100",
            "slurm.time=10:00:00",
            "slurm.partition=big",
            "slurm.signal=90",
        )
    )
    assert asked["--nodes"] == "4" and asked["--ntasks-per-node"] == "8" and asked["--gpus-per-node"] == "a100:8"
    assert asked["--time"] == "10:00:00" and asked["--partition"] == "big" and asked["--signal"] == "USR1@90"
    assert {"--requeue", "--open-mode", "--chdir", "--export"} <= set(asked) and "--account" not in asked


def test_a_site_that_wants_gres() -> None:
    asked = directives(script("slurm.nodes=1", "slurm.gpus=2", "slurm.gpu_option=gres", "slurm.requeue=false"))
    assert asked["--gres"] == "gpu:2" and "--gpus-per-node" not in asked and "--no-requeue" in asked


def test_arguments_reach_python_as_they_were_given(tmp_path: Path) -> None:
    """The script is run by bash with stand-ins for srun and module, in a folder with a space."""
    awkward = ["data.path=/a b/$HOME/'x'", "sft.tasks={next_item: {share: 1}}", 'run_id="; touch gone']
    folder = tmp_path / "a folder"
    folder.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > srun.txt\nenv > env.txt\n')
    (tools / "module").write_text('#!/bin/bash\necho "$@" >> modules.txt\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    config = load_config(
        "quickstart",
        [
            "slurm.nodes=2",
            "slurm.modules=[cuda/12.4, gcc]",
            "slurm.logs=my logs",
            "slurm.setup=['export WORD=\"two words\"']",
        ],
    )
    text = job_script(config, awkward, folder)
    subprocess.run(["bash", "-c", text], cwd=folder, check=True, env={"PATH": f"{tools}:/usr/bin:/bin"})
    words = (folder / "srun.txt").read_text().splitlines()
    assert words[-3:] == awkward and words[-5:-3] == ["-m", "dig.train"]
    assert "--output=my logs/dig-quickstart-%j-%t.log" in words
    assert "WORD=two words" in (folder / "env.txt").read_text()
    assert (folder / "modules.txt").read_text() == "load cuda/12.4\nload gcc\n"
    assert (folder / "my logs").is_dir() and not (folder / "gone").exists()
    assert directives(text)["--chdir"] == str(folder)


def test_the_script_written_by_hand_has_the_same_shape() -> None:
    ours, theirs = script("slurm.nodes=2", "slurm.gpus=4", "slurm.time=24:00:00"), by_hand()
    mine, other = directives(ours), directives(theirs)
    assert set(mine) - set(other) == {"--chdir"}  # who writes by hand submits where he stands
    assert set(other) <= set(mine)
    for name in (
        "--nodes",
        "--ntasks-per-node",
        "--gpus-per-node",
        "--cpus-per-task",
        "--time",
        "--signal",
        "--open-mode",
        "--export",
        "--requeue",
    ):
        assert mine[name] == other[name], name
    options = lambda text: [word for word in steps(text) if word.startswith("--") and "output" not in word]  # noqa: E731
    assert options(ours) == options(theirs)

    def kept(text: str):
        return [line.split("  #")[0].strip() for line in text.splitlines() if re.match(r"set |export |mkdir ", line)]

    assert kept(ours) == kept(theirs)


def by_hand() -> str:
    return (PROJECT / "scripts" / "slurm.sbatch").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "settings", [(), ("slurm.modules=[a]", "slurm.setup=[true]", "slurm.options=[--mail-type=END]")]
)
def test_bash_reads_every_script(settings: tuple[str, ...]) -> None:
    for text in (by_hand(), script("slurm.nodes=2", *settings)):
        subprocess.run(["bash", "-n", "-c", text], check=True)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("slurm.time=120", "bare number"),
        ("slurm.time=abc:00", "is no time"),
        ("slurm.time=00:01:00", "slurm.signal=120"),
        ("slurm.mem=lots", "64G"),
        ("slurm.job_name=bash", "another name"),
        ("slurm.nodes=0", "above 0"),
        ("slurm.options=[mail-type=END]", "--name=value"),
        ("slurm.setup=['export WANDB_API_KEY=abc']", "by name"),
        ('slurm.partition="a\\nb"', "one line"),
        ("slurm.gpu_option=gpus", "gres"),
        ("slurm.partion=x", "slurm.partition"),
    ],
)
def test_wrong_values_are_one_line(setting: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        load_config("quickstart", [setting])
    assert raised.value.exit_code == 2 and said in str(raised.value) and "\n" not in str(raised.value)
    assert "abc" not in str(raised.value) or "API" not in setting, "a secret is not repeated"


ARGUMENTS = ["experiment=quickstart", "slurm.nodes=2", "slurm.tasks=1"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    return tmp_path


def test_it_says_job_logs_and_how_to_cancel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = stand_in(folder / "bin", "sbatch", "echo '4711;cluster'")
    assert main(ARGUMENTS) == 0
    told = capsys.readouterr().out
    assert "job 4711: 2 × 1 tasks" in told and "scancel 4711" in told
    assert "runs/slurm/dig-quickstart-4711.log" in told and "runs/slurm/dig-quickstart-4711-0.log" in told
    flag, script = calls.read_text().split()
    assert flag == "--parsable"
    text = (folder / script).read_text()
    assert "experiment=quickstart slurm.nodes=2 slurm.tasks=1" in text and "very-secret" not in text
    assert main(ARGUMENTS) == 0
    assert calls.read_text().split()[3] == script, "the same command writes the same script"


def test_dry_run_prints_the_script_and_submits_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = stand_in(folder / "bin", "sbatch", "echo 1")
    assert main([*ARGUMENTS, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n") and not calls.exists()
    assert not (folder / "runs").exists()


def test_no_sbatch_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: there is no sbatch here") and "\n" not in error and "--dry-run" in error


def test_a_refusal_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(folder / "bin", "sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    assert main(ARGUMENTS) == 1
    error = capsys.readouterr().err.strip()
    assert "sbatch refused" in error and error.endswith("invalid partition specified: x") and "\n" not in error


def test_an_outer_job_leaves_no_trace_in_the_new_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder / "bin", "sbatch", "env > seen.txt; echo 1")
    for name, value in (
        ("SLURM_JOB_ID", "7"),
        ("SLURM_JOB_NAME", "interactive"),
        ("SLURM_NTASKS", "9"),
        ("SLURM_CONF", "/etc/slurm.conf"),
        ("DIG_JOB", "7"),
        ("DIG_LAUNCH", "x"),
    ):
        monkeypatch.setenv(name, value)
    assert main(ARGUMENTS) == 0
    seen = (folder / "seen.txt").read_text()
    assert "DIG_JOB" not in seen and "DIG_LAUNCH" not in seen
    assert "SLURM_CONF=/etc/slurm.conf" in seen and "SLURM_NTASKS" not in seen and "WANDB_API_KEY=" in seen


def test_inside_of_a_notebooks_job_it_submits_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 18: it trained in the notebook's job, on whatever that had been given."""
    calls = stand_in(folder / "bin", "sbatch", "echo 4711")
    for name, value in (
        ("SLURM_JOB_ID", "77"),
        ("SLURM_PROCID", "0"),
        ("SLURM_NTASKS", "1"),
        ("SLURM_JOB_NAME", "sys/dashboard/jupyter"),
        ("SLURM_JOB_NUM_NODES", "1"),
    ):
        monkeypatch.setenv(name, value)
    assert main(ARGUMENTS) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "inside of the job sys/dashboard/jupyter 77" in told and "job 4711: 2 × 1 tasks" in told
    script = (folder / calls.read_text().split()[1]).read_text()
    assert 'export DIG_JOB="$SLURM_JOB_ID"' in script, "so that the job itself trains"
