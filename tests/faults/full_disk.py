"""A disk that is full at each stage: one line and exit code 1, and with room the same command comes to the same end."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dig.config import STAGES
from faults.commands import run as run_command
from faults.verdicts import LOST, REFUSED, Ending, Figures, verdict
from faults.workshop import Shop, Workshop, copied, trained

__all__ = ["NotMountedError", "mounted", "run"]

_SIZE = 256 << 20


class NotMountedError(Exception):
    """No small file system can be mounted here."""


def run(workshop: Workshop) -> Figures:
    """Lets one run meet a full disk at each of its stages, each time with room for the stages before."""
    figures = Figures("disk", "a disk that is full at each stage")
    if os.geteuid() != 0:
        figures.skipped = "it mounts a small file system, which needs root"
        return figures
    shop = workshop.shop
    try:
        with mounted(workshop.place("disk")) as disk:
            _all_stages(figures, shop, disk, random.Random(workshop.seed), workshop.small)  # noqa: S311 - no secret
    except NotMountedError as error:
        figures.skipped = f"no small file system can be mounted here: {error}"
    return figures


def _all_stages(figures: Figures, shop: Shop, disk: Path, rng: random.Random, small: bool) -> None:
    home = disk / "home"
    undisturbed = Ending(shop.train, 0, "", "", 0.0, shop.metrics)
    for number, stage in enumerate(_stages(shop)):
        name = stage.parent.name if stage else "the run's folder"
        if not small or number % 4 == 1 or stage is None:
            _meet(figures, shop, disk, stage, undisturbed, rng)
        if name in STAGES:
            command = (*shop.train, f"runs_dir={disk / 'runs'}", f"stages=[{name}]")
            ending = run_command(command, disk, home, limit=300.0)
            figures.count("the stage again with room", LOST if ending.code else verdict(ending), ending, name)
        elif stage and not (home / stage.relative_to(shop.home)).is_dir():  # one that no name asks for
            copied(stage, home / stage.relative_to(shop.home))
    before = _written(home)
    ending = trained(shop, disk, home)
    figures.count("the whole run again with room", verdict(ending, undisturbed), ending)
    after = _written(home)
    if lost := [path for path in before if before[path] != after.get(path)]:
        figures.count("what was finished", LOST, ending, ", ".join(lost))


def _meet(
    figures: Figures, shop: Shop, disk: Path, stage: Path | None, undisturbed: Ending, rng: random.Random
) -> None:
    """Fills the disk but for less than a stage needs, and runs into it."""
    size = sum(path.stat().st_size for path in stage.rglob("*")) if stage else 300_000
    spared = int(size * rng.uniform(0.0, 0.6))
    _fill(disk, spared)
    ending = trained(shop, disk, disk / "home")
    (disk / "filler").unlink()
    name = stage.parent.name if stage else "the run's folder"
    what = verdict(ending, undisturbed)
    figures.count(name, what, ending, f"{spared:,} bytes free")
    if what == REFUSED and ending.code != 1:
        figures.bad.append(f"{name}: exit code {ending.code} instead of 1")


def _written(home: Path) -> dict[str, int]:
    """When each finished artifact was written."""
    return {str(path): path.stat().st_mtime_ns for path in home.glob("artifacts/*/*/manifest.json")}


def _stages(shop: Shop) -> list[Path | None]:
    """The artifacts of a run in the order in which they were built, and then None for its folder."""
    manifests = sorted((shop.home / "artifacts").glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return [*(path.parent for path in manifests), None]


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
        NotMountedError: it cannot be mounted.
    """
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        raise NotMountedError(done.stderr.strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
