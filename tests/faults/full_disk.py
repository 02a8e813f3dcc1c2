"""A disk that is full at each stage: one line and exit code 1, and with room the same command comes to the same end."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.verdicts import LOST, REFUSED, Ending, Figures, verdict
from faults.workshop import Shop, Workshop, copied, trained

__all__ = ["mounted", "run"]

_SIZE = 256 << 20


def run(workshop: Workshop) -> Figures:
    """Lets a run meet a full disk at each of its stages, with all before it finished, and goes on with room."""
    figures = Figures("disk", "a disk that is full at each stage")
    if os.geteuid() != 0:
        figures.skipped = "it mounts a small file system, which needs root"
        return figures
    shop = workshop.shop
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    undisturbed = Ending(shop.train, 0, "", "", 0.0, shop.metrics)
    stages = _stages(shop)
    for number, stage in enumerate(stages):
        if workshop.small and number % 3:
            continue
        place = workshop.place("disk")
        try:
            with mounted(place) as disk:
                _one_stage(figures, shop, undisturbed, disk, stage, stages[:number], rng)
        except OSError as error:
            figures.skipped = f"no small file system can be mounted here: {error}"
            return figures
    return figures


def _one_stage(
    figures: Figures, shop: Shop, undisturbed: Ending, disk: Path, stage: Path | None, before: list[Path | None],
    rng: random.Random,
) -> None:  # fmt: skip
    home = _home(shop, disk, before)
    size = sum(path.stat().st_size for path in stage.rglob("*")) if stage else 300_000
    spared = int(size * rng.uniform(0.0, 0.6))
    _fill(disk, spared)
    ending = trained(shop, disk, home)
    name = stage.parent.name if stage else "the run's folder"
    what = verdict(ending, undisturbed)
    figures.count(name, what, ending, f"{spared:,} bytes free")
    (disk / "filler").unlink()
    kept = set(home.glob("artifacts/*/*/manifest.json"))
    after = trained(shop, disk, home)
    figures.count("the same command with room", verdict(after, undisturbed), after, f"after {name}")
    if lost := [path for path in kept if not path.is_file()]:
        figures.count("what was finished", LOST, after, str(lost))
    if what == REFUSED and ending.code != 1:
        figures.bad.append(f"{name}: exit code {ending.code} instead of 1")


def _stages(shop: Shop) -> list[Path | None]:
    """The artifacts of a run in the order in which they were built, and None for its folder."""
    manifests = sorted((shop.home / "artifacts").glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return [*(path.parent for path in manifests), None]


def _home(shop: Shop, disk: Path, before: list[Path | None]) -> Path:
    """A home in which no stage is finished but those before."""
    home = disk / "home"
    store = str(shop.home / "artifacts")
    shutil.copytree(shop.home, home, ignore=lambda folder, names: names if folder == store else ())
    for artifact in before:
        if artifact is not None:
            copied(artifact, home / artifact.relative_to(shop.home))
    return home


def _fill(disk: Path, spared: int) -> None:
    """Fills a disk but for some bytes."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * (1 << 16))
        except OSError:
            pass
        filler.truncate(max(filler.tell() - spared, 0))


@contextmanager
def mounted(place: Path, options: str = f"size={_SIZE}") -> Iterator[Path]:
    """A small file system of its own at a folder, in memory.

    Raises:
        OSError: it cannot be mounted.
    """
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
