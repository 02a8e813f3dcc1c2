"""Damaged artifacts in the store: a cached run finds them, builds them again, and comes to the same metrics."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults.mutated_runs import JOBS
from faults.mutations import mutate
from faults.verdicts import Ending, Figures, verdict
from faults.workshop import Shop, Workshop, copied, trained

__all__ = ["run"]

_TIMES, _SMALL = 50, 10


def run(workshop: Workshop) -> Figures:
    """Damages a file of a copied store and gives the command of the finished run again."""
    figures = Figures("store", "damaged artifacts, met by the same dig.train command")
    shop, other = workshop.shop, workshop.other
    place = workshop.place("store")
    undisturbed = Ending(shop.train, 0, "", "", 0.0, shop.metrics)
    numbers = workshop.only or range(_SMALL if workshop.small else _TIMES)
    with ThreadPoolExecutor(JOBS) as pool:
        trials = list(pool.map(lambda number: _trial(workshop.seed, number, shop, other, place / str(number)), numbers))
    for number, (kind, told, ending) in zip(numbers, trials, strict=True):
        figures.count(kind, verdict(ending, undisturbed), ending, f"{number} ({told})")
    noticed = sum("it is rebuilt" in ending.text for _, _, ending in trials)
    figures.remarks.append(f"{noticed} of {len(trials)} were noticed as damaged and built again")
    return figures


def _trial(seed: int, number: int, shop: Shop, other: Shop, place: Path) -> tuple[str, str, Ending]:
    """Damages a copy of a store and trains with it; its kind, what was done, and how that ended."""
    rng = random.Random(f"{seed} store {number}")  # noqa: S311 - no secret
    place.mkdir()
    home = copied(shop.home, place / "home")
    kind, told = _damage(home / "artifacts", other, rng)
    ending = trained(shop, place, home)
    shutil.rmtree(place)
    return kind, told, ending


def _damage(store: Path, other: Shop, rng: random.Random) -> tuple[str, str]:
    """Damages something in a store; its kind, and what was done."""
    artifacts = sorted(path.parent for path in store.glob("*/*/manifest.json"))
    artifact = rng.choice(artifacts)
    name = artifact.relative_to(store)
    if rng.random() < 0.2:
        return "whole artifacts", f"{name}: {_whole(artifact, artifacts, other, rng)}"
    if rng.random() < 0.3:
        path = artifact / "manifest.json"
        return "manifests", f"{name}: {mutate(path, _same(other, artifact, path), rng)}"
    path = rng.choice(sorted(path for path in artifact.rglob("*") if path.is_file()))
    return "files of artifacts", f"{name}/{path.name}: {mutate(path, _same(other, artifact, path), rng)}"


def _same(other: Shop, artifact: Path, path: Path) -> Path | None:
    """The same file in the other shop's store."""
    found = sorted((other.home / "artifacts" / artifact.parent.name).glob(f"*/{path.relative_to(artifact)}"))
    return found[0] if found else None


def _whole(artifact: Path, artifacts: list[Path], other: Shop, rng: random.Random) -> str:
    """Replaces an artifact's folder."""
    shutil.rmtree(artifact)
    kind = rng.choice(("file", "link", "empty", "theirs", "another", "dangling"))
    theirs = sorted(path.parent for path in (other.home / "artifacts" / artifact.parent.name).glob("*/manifest.json"))
    if kind == "file":
        artifact.write_bytes(b"?")
    elif kind == "dangling":
        artifact.symlink_to("nowhere")
    elif kind == "link":
        artifact.symlink_to(rng.choice([path for path in artifacts if path != artifact]))
    elif kind == "empty":
        artifact.mkdir()
    elif kind == "theirs" and theirs:
        copied(theirs[0], artifact)
    else:
        copied(rng.choice([path for path in artifacts if path != artifact]), artifact)
    return f"its folder is now {kind}"
