"""``python -m dig.cache list|prune [--option …]``: what lies under DIG_HOME, and the removal of what no run uses."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.table import Table

from dig.config import UserError, nearest, unknown_flag
from dig.engine.artifacts import ArtifactStore, shown_path
from dig.engine.console import console, say
from dig.engine.entry import exit_code
from dig.engine.machine import gigabytes
from dig.engine.pruning import Stored, list_stored, prunable, remove

__all__ = ["main"]

_HELP = """python -m dig.cache list | prune [--older-than DAYS] [--keep N] [--interrupted] [--unrecorded] [--yes]

Finished stages are kept under DIG_HOME (default .dig) and shared by all runs.

  list     every artifact: stage, size, age, and the runs that used it and are still there
  prune    tells what no run uses any more, and with --yes removes it. Delete a run's folder first, and what it alone
           used can go. Answers of models and cached vectors stay.

  --older-than DAYS   only what was built longer ago
  --keep N            the N newest artifacts of each stage stay
  --interrupted       also what interrupted builds have left: their checkpoints; they begin anew then
  --unrecorded        also artifacts that were built before uses were recorded
  --yes               remove; without it (or with --dry-run) nothing is"""
_COMMANDS = ("list", "prune")
_FLAGS = ("--interrupted", "--unrecorded", "--yes", "--dry-run", "--help", "-h")
_VALUES = ("--older-than", "--keep")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "removal needs none", "interrupted; the same command removes the rest")


def _run(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_HELP)
        return 0
    command, *rest = arguments
    if command not in _COMMANDS:
        hint = nearest(command, _COMMANDS)
        raise UserError(f"{command}: no such command; {f'did you mean {hint}?' if hint else ', '.join(_COMMANDS)}", 2)
    flags, values = _parse(rest)
    if command == "list" and (flags or values):
        raise UserError(f"{next(iter([*flags, *values]))}: list takes no options", exit_code=2)
    store = ArtifactStore()
    stored = list_stored(store)
    if command == "list":
        _print(f"{shown_path(store.root)}: {len(stored)} artifacts and builds", stored)
        return 0
    chosen = prunable(
        stored,
        values.get("--older-than", 0.0),
        int(values.get("--keep", 0)),
        "--interrupted" in flags,
        "--unrecorded" in flags,
    )
    unknown = sum(each.finished and not each.recorded for each in stored)
    if unknown and "--unrecorded" not in flags:
        say(f"{unknown} artifacts were built before uses were recorded and stay; --unrecorded takes them along")
    if "--yes" not in flags or "--dry-run" in flags:
        _print(f"would be removed from {shown_path(store.root)} (--yes does it)", chosen)
        return 0
    gone = []
    for each, is_gone in remove(store, chosen):
        if is_gone:
            gone.append(each)
        else:
            say(f"{each.kind} {each.fingerprint} stays: somebody builds or uses it")
    say(f"{len(gone)} removed, {gigabytes(_freed(gone))} freed")
    return 0


def _parse(rest: list[str]) -> tuple[set[str], dict[str, float]]:
    flags, values, waiting = set(), {}, iter(rest)
    for argument in waiting:
        name, _, value = argument.partition("=")
        if name in _VALUES:
            text = value or next(waiting, "")
            whole = name == "--keep"
            try:
                values[name] = float(int(text) if whole else float(text))
            except ValueError:
                values[name] = -1.0
            if not 0 <= values[name] < 1e9:
                raise UserError(f"{name}={text} must be a {'whole ' if whole else ''}number, 0 or above", exit_code=2)
        elif argument in _FLAGS:
            flags.add(argument)
        else:
            raise unknown_flag(argument, (*_FLAGS, *_VALUES))
    return flags, values


def _print(title: str, stored: Sequence[Stored]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("stage", "fingerprint", "size", "days", "runs"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("size", "days") else "left")
    now = time.time()
    for each in stored:
        used = ", ".join(f"{run.parent.name}/{run.name}" for run in each.runs)
        state = used or ("interrupted" if not each.finished else "none" if each.recorded else "not recorded")
        size = f"{each.size / 1e6:,.1f} MB"
        table.add_row(each.kind, each.fingerprint, size, f"{each.days(now):.1f}", state)
    total = sum(each.size for each in stored)
    table.caption = f"{gigabytes(total)}, of which {gigabytes(_freed(stored))} would be freed (runs hold the rest, too)"
    console.print(table)


def _freed(stored: Sequence[Stored]) -> int:
    return sum(each.size - each.shared for each in stored)


if __name__ == "__main__":
    sys.exit(main())
