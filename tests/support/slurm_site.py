"""A user's folder on the cluster of the tests: the project's scripts, a small quickstart, a cache of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.slurm_cluster import Cluster
from support.workplace import SMALL, without_seconds

PROJECT = Path(__file__).resolve().parents[2]
STAGES_BEFORE_TRAINING = ("prepare", "mine", "label", "embed", "popularity", "item_knn", "tokens", "relations")


class Site:
    """Commands run in ``folder`` with the cache ``home``."""

    def __init__(self, cluster: Cluster, folder: Path, home: str = "home") -> None:
        self.cluster, self.folder, self.home = cluster, folder, folder / home
        (folder / "experiments").mkdir(parents=True, exist_ok=True)
        for name, target in (("scripts", PROJECT / "scripts"), (".venv", Path(sys.prefix))):
            if not (folder / name).exists():
                (folder / name).symlink_to(target)
        (folder / "experiments" / "quickstart.yaml").write_text(_small_quickstart())
        path = f"{Path(sys.executable).parent}:{cluster.environment.get('PATH', '')}"
        self.environment = {
            **cluster.environment,
            "DIG_HOME": str(self.home),
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def shell(self, command: str, fails: bool = False) -> str:
        """Runs a line of shell and returns what it prints."""
        done = subprocess.run(  # noqa: S602
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert bool(done.returncode) == fails, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def submit(self, command: str) -> str:
        """Submits, and returns the job's number."""
        told = self.shell(command)
        found = re.search(r"(?:job|Submitted batch job) (\d+)", told)
        assert found, told
        return found[1]

    def log(self, job: str) -> str:
        """Everything that a job has logged so far."""
        files = sorted([*self.folder.glob(f"runs/slurm/*-{job}*.log"), *self.folder.glob(f"*-{job}.log")])
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')}" for path in files)

    def until(self, ready: Callable[[], object], what: str, job: str, seconds: float = 300) -> None:
        """Waits for something in a job that runs."""
        deadline = time.monotonic() + seconds
        while not ready():
            state = self.cluster.state(job)
            assert state in ("PENDING", "CONFIGURING", "RUNNING"), f"job {job} is {state}\n{self.log(job)}"
            assert time.monotonic() < deadline, f"{what}: not in {seconds} s\n{self.log(job)}"
            time.sleep(0.05)

    def until_checkpoint(self, stage: str, job: str) -> None:
        """Waits until a job that trains has written a checkpoint that was not there before."""

        def newest():
            return max(
                (path.stat().st_mtime_ns for path in self.home.glob(f"artifacts/{stage}/*.work/scratch/resume.ckpt")),
                default=0,
            )

        before = newest()
        self.until(lambda: newest() > before, f"checkpoint of {stage}", job)

    def finish(self, job: str) -> str:
        """Waits until a job is done, and returns its log."""
        state = self.cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", seconds=400)
        assert state == "COMPLETED", f"{state}\n{self.log(job)}"
        return self.log(job)

    def metrics(self) -> dict:
        return without_seconds(json.loads((self.folder / "runs/quickstart/latest/metrics.json").read_text()))

    def take_over(self, other: Site) -> None:
        """Copies what another site has built before training starts; the same for any number of ranks."""
        for stage in STAGES_BEFORE_TRAINING:
            found = other.home / "artifacts" / stage
            if found.is_dir():
                shutil.copytree(found, self.home / "artifacts" / stage, ignore=shutil.ignore_patterns("*.lock"))

    def rank_process(self, job: str, rank: int) -> int:
        """Process of a rank of a job."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            wanted = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={rank}", f"SLURM_TASK_PID={folder.name}"}
            if wanted <= set(variables) and any(name.startswith("SLURM_STEP_ID=") for name in variables):
                return int(folder.name)
        raise AssertionError(f"job {job} has no rank {rank}")


def _small_quickstart() -> str:
    """The quickstart with the settings of the other tests of whole runs, as a file of its own."""
    lines = [f"extends: {PROJECT / 'experiments' / 'quickstart.yaml'}"]
    dotted = [setting.partition("=")[::2] for setting in SMALL if not setting.startswith("experiment=")]
    from omegaconf import OmegaConf

    content = OmegaConf.from_dotlist([f"{key}={value}" for key, value in dotted])
    content.visual = {"model": None}
    content.mining = {"miners": ["lexical"]}
    content.sft.epochs = 8
    return "\n".join([*lines, OmegaConf.to_yaml(content)])
