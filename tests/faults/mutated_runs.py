"""Damaged run folders: what ``dig.recommend`` and ``dig.compare`` make of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dig.engine.artifacts import fingerprint, hash_file, write_json
from faults.commands import Command, battery
from faults.mutations import mutate
from faults.verdicts import BAD, DIFFERENT, EQUAL, REFUSED, SAID, SIGNED, Ending, Figures, verdict, warnings_of
from faults.workshop import STAGES, Shop, Workshop, copied

__all__ = ["JOBS", "asked", "run", "verdicts", "worst"]

JOBS = 2
"""Trials side by side."""
_TIMES, _SMALL = 150, 30
_LIMIT = 40.0
"""Seconds for a command on average; an undisturbed one takes one or two."""
_KINDS = {
    ".yaml": "configuration",
    ".parquet": "tables",
    ".safetensors": "weights",
    ".json": "JSON",
    ".html": "the page",
}
_OUT = "-answers.csv"
_SIGNED, _UNSIGNED = ", its manifest written again", ", its manifest removed"


def run(workshop: Workshop) -> Figures:
    """Damages copies of a run folder, asks them, and compares with what it answered before."""
    figures = Figures("runs", "damaged run folders, asked by dig.recommend and dig.compare")
    place = workshop.place("runs")
    shop, other = workshop.shop, workshop.other
    undisturbed = _undisturbed(shop, place / "undisturbed")
    numbers = workshop.only or range(_SMALL if workshop.small else _TIMES)
    with ThreadPoolExecutor(JOBS) as pool:
        trials = list(pool.map(lambda number: _trial(workshop.seed, number, shop, other, place / str(number)), numbers))
    for number, (kind, told, endings) in zip(numbers, trials, strict=True):
        given = verdicts(endings, undisturbed)
        if kind.endswith(_SIGNED):  # another run then, which answers as its files say; it may not end badly
            given = [SIGNED if what == DIFFERENT else what for what in given]
        chosen = given.index(worst(given))
        figures.count(kind, given[chosen], endings[chosen], f"{number} ({told})")
        for place_of, what in enumerate(given):
            if what in BAD and place_of != chosen:
                figures.count_bad(what, "as above", endings[place_of])
    commands = sum(len(endings) for _, _, endings in trials)
    told = "a folder counts by the worst of its verdicts"
    figures.remarks.append(f"{commands} commands asked of {len(trials)} damaged folders; {told}")
    return figures


def verdicts(endings: Sequence[Ending], undisturbed: Mapping[Command, Ending]) -> list[str]:
    """What became of each; a warning that one process gives once, such as of a missing manifest, is for all of it."""
    given, warned = [], False
    for ending in endings:
        usual = undisturbed[ending.command]
        what = verdict(ending, usual)
        warned |= bool(warnings_of(ending) - warnings_of(usual))
        given.append(SAID if what == DIFFERENT and warned else what)
    return given


def _undisturbed(shop: Shop, place: Path) -> dict[Command, Ending]:
    """What the finished run answers, whichever recommender is asked."""
    _fresh(shop, place)
    commands = dict.fromkeys(command for stage in STAGES for command in asked(shop, stage, place))
    endings = _answers(list(commands), place)
    failed = [ending for ending in endings if ending.code != 0]
    if failed or len(endings) < len(commands):
        raise RuntimeError(f"the undisturbed run does not answer: {(failed or endings)[-1]}")
    return dict(zip(commands, endings, strict=True))


def _trial(seed: int, number: int, shop: Shop, other: Shop, place: Path) -> tuple[str, str, list[Ending]]:
    """Damages a copy and asks it; its kind, what was done, and how the commands ended."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - no secret
    folder = _fresh(shop, place)
    kind, told, stage = _damage(folder, other.run, rng)
    kind += rng.choice((_leave, _leave, _remove_manifest, _sign))(folder)
    endings = _answers(asked(shop, stage, place), place)
    shutil.rmtree(place)
    return kind, told, endings


def asked(shop: Shop, stage: str, place: Path) -> list[Command]:
    """What is asked of a damaged folder."""
    items = pl.read_parquet(shop.run / "items.parquet")["item_id"]
    (place / "users.txt").write_text("".join(f"{user}\n" for user in shop.users), encoding="utf-8")
    return [
        ("dig.recommend", "run=run", f"user={shop.users[0]}", "json=true"),
        ("dig.recommend", "run=run", f"items=[{items[0]},{items[-1]}]", f"stage={stage}", "json=true"),
        ("dig.recommend", "run=run", "users=users.txt", f"out={stage}{_OUT}", f"stage={stage}", "held_out=true"),
        ("dig.compare", "run", "--format", "csv", "--draws", "200"),
    ]


def worst(verdicts: Sequence[str]) -> str:
    """The verdict that a folder counts by."""
    order = (*BAD, SAID, SIGNED, REFUSED, EQUAL)
    return min(verdicts, key=order.index)


def _fresh(shop: Shop, place: Path) -> Path:
    place.mkdir()
    return copied(shop.run, place / "run")


def _answers(commands: Sequence[Command], place: Path) -> list[Ending]:
    return [
        replace(ending, answer=_answer(ending, place)) for ending in battery(commands, place, place / "home", _LIMIT)
    ]


def _answer(ending: Ending, place: Path) -> Any:
    if ending.code != 0:
        return None
    for stage in STAGES:
        if f"out={stage}{_OUT}" in ending.command:
            return (place / f"{stage}{_OUT}").read_bytes()
    if "json=true" in ending.command:
        return json.loads(ending.output)
    return [line for line in ending.output.splitlines() if not line.startswith("warning:")]


def _damage(folder: Path, other: Path, rng: random.Random) -> tuple[str, str, str]:
    """Damages a run folder; its kind, what was done, and the recommender to ask."""
    if rng.random() < 0.1:
        return _swap_folder(folder, other, rng)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    beside = [path.suffix in (".html", ".svg") or "logs" in path.parts for path in files]  # nothing is answered by them
    path = rng.choices(files, [1 if each else 6 for each in beside])[0]
    name = path.relative_to(folder)
    stages = [part for part in name.parts if part in STAGES]
    try:
        told = mutate(path, other / name, rng)
    except (ValueError, pl.exceptions.PolarsError):  # its format cannot hold that
        path.write_bytes(b"")
        told = "emptied"
    return _KINDS.get(path.suffix, "other files"), f"{name}: {told}", stages[0] if stages else rng.choice(STAGES)


def _swap_folder(folder: Path, other: Path, rng: random.Random) -> tuple[str, str, str]:
    """Exchanges a recommender's folder, or all of them, for those of another run, or leaves them out."""
    stage = rng.choice([stage for stage in STAGES if (folder / "checkpoints" / stage).is_dir()])
    name = rng.choice((f"checkpoints/{stage}", f"checkpoints/{stage}", "checkpoints"))
    shutil.rmtree(folder / name)
    if rng.random() < 0.7:
        copied(other / name, folder / name)
        return "whole folders", f"{name} of another run", stage
    return "whole folders", f"{name} removed", stage


def _leave(folder: Path) -> str:
    """The manifest stays as it was, and does not fit what was damaged."""
    return ""


def _remove_manifest(folder: Path) -> str:
    """A run folder of an earlier version has no manifest; what was damaged is for its readers to notice."""
    (folder / "manifest.json").unlink(missing_ok=True)
    return _UNSIGNED


def _sign(folder: Path) -> str:
    """Writes the hashes of the damaged files into the manifest, so that its readers meet them."""
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("fingerprint")
        present = [name for name in content["files"] if (folder / name).is_file()]
        content["files"] = {
            name: {"size": (folder / name).stat().st_size, "sha256": hash_file(folder / name)} for name in present
        }
        write_json(path, content | {"fingerprint": fingerprint(content)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it was the manifest that was damaged
        return ""
    return _SIGNED
