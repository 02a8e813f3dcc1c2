"""Job scripts: what sbatch and the shell read in them, and that the one written by hand has the same shape."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from dig.config import UserError, load_config
from dig.slurm.placing import place
from dig.slurm.submit import job_script

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
        ("slurm.time=abc:00", "is not a time"),
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
