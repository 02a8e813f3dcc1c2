"""Few file descriptors, little address space, small files: what the shell's ``ulimit`` takes away."""

from __future__ import annotations

from dataclasses import replace

from faults.commands import Command
from faults.commands import run as run_command
from faults.verdicts import Ending, Figures, verdict
from faults.workshop import Shop, Workshop, metrics_of

__all__ = ["run"]

_LIMITS = {
    "64 file descriptors": "ulimit -n 64",
    "1.5 GB of address space": "ulimit -v 1500000",
    "3 GB of address space": "ulimit -v 3000000",
    "files of at most 50 kB": "ulimit -f 50",
}


def run(workshop: Workshop) -> Figures:
    """Gives the commands under each limit: they end as undisturbed, or say in one line what they lack."""
    figures = Figures("limits", "file descriptors, address space and file sizes taken away by ulimit")
    shop = workshop.shop
    for told, limit in _LIMITS.items():
        for command in _commands(shop):
            place = workshop.place("limits")
            home = place / "home" if command == shop.train else shop.home
            ending = run_command(command, place, home, limit=300.0, before=limit)
            metrics = None
            if command == shop.train and ending.code == 0:
                metrics = metrics_of(place / "runs" / "small" / "latest")
            undisturbed = Ending(command, 0, "", "", 0.0, shop.metrics if command == shop.train else None)
            what = verdict(replace(ending, answer=metrics), undisturbed)
            figures.count(f"{told}: {command[0]}", what, ending)
        if workshop.small:
            break
    return figures


def _commands(shop: Shop) -> list[Command]:
    return [
        shop.train,
        ("dig.recommend", f"run={shop.run}", f"user={shop.users[0]}"),
        ("dig.compare", f"{shop.run}", "--draws", "200"),
        ("dig.data", "inspect", f"{shop.settings}"),
        ("dig.cache", "list"),
    ]
