"""A small shop that whole runs of the pipeline work on, each in a folder with its own cache."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from dig.engine.artifacts import lock
from support.preloaded import FORK_RANKS, Preloaded

__all__ = [
    "SMALL",
    "Workplace",
    "built_artifacts",
    "home_with_vectors",
    "home_without",
    "tokenized_home",
    "tokenized_workplace",
    "wait_for_checkpoint",
    "without_seconds",
]

SMALL = (
    "experiment=quickstart",
    "data.shop.items=80",
    "data.shop.users=150",
    "rqvae.codebook_size=8",
    "rqvae.epochs=15",
    "visual.adapt.epochs=2",
    "sft.epochs=4",
    "sft.batch_size=16",
    "grpo.epochs=1",
    "grpo.group_size=4",
    "grpo.prompts_per_step=32",
    "grpo.validate_every=4",
    "evaluation.num_beams=10",
    "evaluation.valid_beams=10",
    "items.representation=sid",  # Semantic IDs spelled by their codes; a test of its own has items' tokens
    "items.codes=null",
    "items.start=random",
    "backbone.config.hidden_size=32",
    "backbone.config.intermediate_size=64",
    "backbone.config.num_hidden_layers=2",
    "trainer.checkpoint_every=1",
    "trainer.checkpoint_share=1.0",
    "logging.progress=false",
)


class Workplace:
    """A folder with its own cache and runs, and the command that works in it.

    Args:
        folder: where runs lie and commands work.
        home: the cache; None makes one in the folder.
        settings: what every command is given.
        preloaded: fork commands from a process that has done the imports, instead of starting an interpreter each.
    """

    def __init__(
        self, folder: Path, home: Path | None = None, settings: tuple[str, ...] = SMALL, preloaded: bool = True
    ) -> None:
        self.folder = folder
        self.home = home or folder / "home"
        self.settings = settings
        self.process = Preloaded if preloaded else subprocess.Popen

    def start(
        self, *arguments: str, start_new_session: bool = False, fork_ranks: bool = False
    ) -> subprocess.Popen[str]:
        environment = {**os.environ, "DIG_HOME": str(self.home), "CUDA_VISIBLE_DEVICES": ""}
        if fork_ranks:
            environment[FORK_RANKS] = "yes"
        command = [sys.executable, "-m", "dig.train", *self.settings, f"runs_dir={self.folder / 'runs'}", *arguments]
        return self.process(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=environment,
            start_new_session=start_new_session,
        )

    def run(self, *arguments: str, timeout: float = 600) -> str:
        process = self.start(*arguments, fork_ranks=self.process is Preloaded)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, output
        return output

    @property
    def latest(self) -> Path:
        return self.folder / "runs" / "quickstart" / "latest"

    def metrics(self) -> dict:
        return without_seconds(json.loads((self.latest / "metrics.json").read_text()))


def tokenized_workplace(folder: Path) -> Workplace:
    """A workplace of the small shop in which all stages before the policies are done."""
    folder.mkdir(exist_ok=True)
    return Workplace(folder, tokenized_home(folder / "home"))


def tokenized_home(folder: Path) -> Path:
    """A cache of one's own in which all stages of the small shop before the policies are done."""
    return Path(shutil.copytree(_tokenized(), folder))


def home_with_vectors(folder: Path) -> Path:
    """A cache of one's own in which nothing is done, but the texts and pictures of the small shop are encoded."""
    shutil.copytree(_tokenized() / "vectors", folder / "vectors")
    return folder


def home_without(home: Path, stages: Collection[str], folder: Path) -> Path:
    """A copy of a cache in which these stages, and what trains on them, are still to be done."""
    left_out = {home / "artifacts" / stage for stage in stages}
    ignored = lambda place, names: [name for name in names if Path(place, name) in left_out]  # noqa: E731
    return Path(shutil.copytree(home, folder, ignore=ignored))


@functools.cache
def _tokenized() -> Path:
    """Computed once for all test processes, which share ``DIG_TESTS_SHARED`` (tests/conftest.py)."""
    folder = Path(os.environ["DIG_TESTS_SHARED"]) / "tokenized"
    with lock(folder.with_name("tokenized.lock"), "another test process makes the small shop's Semantic IDs"):
        if not folder.is_dir():
            work = Path(tempfile.mkdtemp(dir=folder.parent))
            Workplace(work).run("stages=[tokenize,popularity,item_knn]")
            (work / "home").rename(folder)
    return folder


def without_seconds(metrics: dict) -> dict:
    return {
        stage: {key: value for key, value in found.items() if not key.endswith("seconds")}
        for stage, found in metrics.items()
    }


def wait_for_checkpoint(workplace: Workplace, stage: str, process: subprocess.Popen, newer_than: int) -> bool:
    """Waits until a checkpoint has been written ``2 + newer_than`` times; False if the run ended before."""
    seen: set[int] = set()
    while process.poll() is None:
        for path in (workplace.folder / "home" / "artifacts" / stage).glob("*.work/scratch/resume.ckpt"):
            with contextlib.suppress(FileNotFoundError):  # the stage has just ended
                seen.add(path.stat().st_mtime_ns)
        if len(seen) >= 2 + newer_than:
            return True
        time.sleep(0.01)
    return False


def built_artifacts(workplace: Workplace) -> dict[str, int]:
    """Manifest → time of writing of everything that is finished."""
    manifests = (workplace.home / "artifacts").glob("*/*/manifest.json")
    return {str(path): path.stat().st_mtime_ns for path in manifests if ".work" not in str(path)}
