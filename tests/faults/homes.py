"""Homes and runs' folders that cannot be written to, are not folders, have impossible names, or vanish in mid-run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from faults.commands import finish, start
from faults.commands import run as run_command
from faults.full_disk import NotMountedError, mounted
from faults.verdicts import LOST, Ending, Figures, verdict
from faults.workshop import Shop, Workshop, copied, metrics_of, trained

__all__ = ["run"]

_VANISHING, _SMALL = 8, 2
_NAMES = {
    "a name of 300 letters": "x" * 300,
    "a path of 5,000 letters": "/".join(["x" * 99] * 50),
    "blanks": "a b  c",
    "Unicode": "ürgé-家",
    "a line break": "a\nb",
    "brackets": "[red]home[/red]",
    "a leading dash": "-home",
    "bytes that are not UTF-8": os.fsdecode(b"h\xff"),
    "an empty name": "",
}


def run(workshop: Workshop) -> Figures:
    """Tries homes and folders of all kinds."""
    figures = Figures("homes", "read-only, vanished and impossible homes and folders of runs")
    shop = workshop.shop
    undisturbed = Ending(shop.train, 0, "", "", 0.0, shop.metrics)
    _not_folders(workshop, figures, shop, undisturbed)
    _names(workshop, figures, shop, undisturbed)
    try:
        _read_only(workshop, figures, shop, undisturbed)
    except NotMountedError as error:  # nothing is read-only for root but a file system
        figures.remarks.append(f"read-only folders were not tried, since none can be mounted here: {error}")
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    for _ in range(_SMALL if workshop.small else _VANISHING):
        _vanish(workshop, figures, shop, undisturbed, rng)
    return figures


def _not_folders(workshop: Workshop, figures: Figures, shop: Shop, undisturbed: Ending) -> None:
    place = workshop.place("home")
    (place / "file").write_text("?")
    (place / "dangling").symlink_to("nowhere")
    (place / "loop").symlink_to("loop")
    kinds = {
        "a file": "file",
        "below a file": "file/home",
        "a link to nowhere": "dangling",
        "a link to itself": "loop",
        "a device": "/dev/null",
        "below /proc": "/proc/home",
    }
    for told, name in kinds.items():
        ending = trained(shop, place, place / name)
        figures.count(f"the home is {told}", verdict(ending, undisturbed), ending)
    ending = run_command((*shop.train, f"runs_dir={place / 'file'}"), place, shop.home)
    figures.count("the runs' folder is a file", verdict(ending), ending)


def _names(workshop: Workshop, figures: Figures, shop: Shop, undisturbed: Ending) -> None:
    for told, name in _NAMES.items():
        place = workshop.place("home")
        if len(name) < 255:
            copied(shop.home, place / (name or ".dig"))
        home = Path(name) if not name or name.startswith("-") else place / name
        ending = trained(shop, place, home, **({"DIG_HOME": ""} if not name else {}))
        figures.count(f"the home's name: {told}", verdict(ending, undisturbed), ending)


def _read_only(workshop: Workshop, figures: Figures, shop: Shop, undisturbed: Ending) -> None:
    """A home, and a folder of runs, on a file system that is mounted for reading."""
    for told, full in (("empty", False), ("with all stages finished", True)):
        place, runs = workshop.place("read-only"), workshop.place("runs")
        with mounted(place):
            if full:
                copied(shop.home, place / "home")
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            ending = trained(shop, runs, place / "home")
            figures.count(f"a read-only home, {told}", verdict(ending, undisturbed), ending)
    place = workshop.place("read-only")
    with mounted(place):
        copied(shop.run, place / "run")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        ending = run_command((*shop.train, f"runs_dir={place / 'runs'}"), place, shop.home)
        figures.count("a read-only folder of runs, dig.train", verdict(ending), ending)
        for command in (
            ("dig.recommend", f"run={place / 'run'}", f"user={shop.users[0]}"),
            ("dig.compare", f"{place / 'run'}"),
        ):
            ending = run_command(command, place, place / "home")
            figures.count(f"a read-only run, {command[0]}", verdict(ending), ending)


def _vanish(workshop: Workshop, figures: Figures, shop: Shop, undisturbed: Ending, rng: random.Random) -> None:
    """Removes the home, or the runs' folder, at a random moment of a run; the same command then makes all again."""
    place = workshop.place("vanished")
    gone = rng.choice(("home", "home", "runs"))
    command = (*shop.train, f"runs_dir={place / 'runs'}")
    began = time.monotonic()
    process = start(command, place, place / "home")
    deadline = began + 60
    while not (place / gone).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=rng.uniform(0.0, 8.0))
    shutil.rmtree(place / gone, ignore_errors=True)
    ending = finish(process, command, 300.0, began)
    latest = place / "runs" / "small" / "latest"
    answer = metrics_of(latest) if ending.code == 0 and (latest / "metrics.json").is_file() else None
    ending = replace(ending, answer=answer)
    what = verdict(ending, undisturbed if answer is not None else None)
    figures.count(f"the folder `{gone}` removed in mid-run", what, ending)
    after = trained(shop, place, place / "home")
    what = verdict(after, undisturbed)
    figures.count("the same command afterwards", LOST if after.code else what, after)
