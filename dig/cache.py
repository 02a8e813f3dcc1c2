"""``dig cache list|prune [--option …]``: what lies under DIG_HOME, and the removal of what no run uses."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext

from rich.table import Table

from dig.config import UserError
from dig.config.arguments import Options, asks_help, number_from, split_command
from dig.engine.artifacts import ArtifactStore, shown_path
from dig.engine.console import console, messages_to_stderr, say
from dig.engine.entry import exit_code
from dig.engine.machine import gigabytes
from dig.engine.pruning import Stored, list_stored, prunable, remove
from dig.engine.secrets import shown_override

__all__ = ["main"]

_USAGE = "dig cache list | prune [--older-than DAYS] [--keep N] [--interrupted] [--unrecorded] [--yes]"
_ABOUT = """\
Finished stages are kept under DIG_HOME (default .dig) and shared by all runs.

  list     every artifact: stage, size, age, and the runs that used it and are still there
  prune    tells what no run uses any more, and with --yes removes it. Delete a run's folder first, and what it alone
           used can go. Answers of models and cached vectors stay."""


def _options() -> Options:
    options = Options(_USAGE, _ABOUT)
    options.value(
        "--older-than", "DAYS", "only what was built longer ago", "prune", read=number_from(0, whole=False), default=0.0
    )
    options.value("--keep", "N", "the N newest artifacts of each stage stay", "prune", read=number_from(0), default=0)
    options.switch(
        "--interrupted", "also what interrupted builds have left: their checkpoints; they begin anew then", "prune"
    )
    options.switch("--unrecorded", "also artifacts that were built before uses were recorded", "prune")
    options.switch("--json", "print one JSON object; what is said meanwhile goes to the standard error")
    options.switch("--yes", "remove; without it (or with --dry-run) nothing is", "prune")
    options.switch("--dry-run", None, "prune")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "removal needs none", "interrupted; the same command removes the rest")


def _run(arguments: list[str]) -> int:
    options = _options()
    if asks_help(arguments):
        return options.show_help()
    command, rest = split_command(arguments, ("list", "prune"))
    given, words = options.read(rest, command)
    if words:
        raise UserError(f"{shown_override(words[0])}: {command} takes only options", exit_code=2)
    with messages_to_stderr() if given.json else nullcontext():
        return _answer(command, given)


def _answer(command: str, given: Namespace) -> int:
    store = ArtifactStore()
    stored = list_stored(store)
    if command == "list":
        _print(f"{shown_path(store.root)}: {len(stored)} artifacts and builds", stored, given.json)
        return 0
    chosen = prunable(stored, given.older_than, given.keep, given.interrupted, given.unrecorded)
    unknown = sum(each.finished and not each.recorded for each in stored)
    if unknown and not given.unrecorded:
        say(f"{unknown} artifacts were built before uses were recorded and stay; --unrecorded takes them along")
    if not given.yes or given.dry_run:
        _print(f"would be removed from {shown_path(store.root)} (--yes does it)", chosen, given.json)
        return 0
    gone = []
    for each, is_gone in remove(store, chosen):
        if is_gone:
            gone.append(each)
        else:
            say(f"{each.kind} {each.fingerprint} stays: somebody builds or uses it")
    if given.json:
        _print("", gone, given.json)
    say(f"{len(gone)} removed, {gigabytes(_freed(gone))} freed")
    return 0


def _print(title: str, stored: Sequence[Stored], as_json: bool) -> None:
    """Prints artifacts as a table, or as JSON with sizes in bytes."""
    now = time.time()
    if as_json:
        print(json.dumps({"artifacts": [_json(each, now) for each in stored], "freed": _freed(stored)}, indent=2))
        return
    table = Table(title=title, title_justify="left")
    for heading in ("stage", "fingerprint", "size", "days", "runs"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("size", "days") else "left")
    for each in stored:
        state = ", ".join(_runs(each)) or _state(each)
        size = f"{each.size / 1e6:,.1f} MB"
        table.add_row(each.kind, each.fingerprint, size, f"{each.days(now):.1f}", state)
    total = sum(each.size for each in stored)
    table.caption = f"{gigabytes(total)}, of which {gigabytes(_freed(stored))} would be freed (runs hold the rest, too)"
    console.print(table)


def _json(each: Stored, now: float) -> dict[str, object]:
    facts = {"stage": each.kind, "fingerprint": each.fingerprint, "bytes": each.size, "freed": each.size - each.shared}
    return {**facts, "days": round(each.days(now), 1), "state": _state(each), "runs": _runs(each)}


def _runs(each: Stored) -> list[str]:
    return [f"{run.parent.name}/{run.name}" for run in each.runs]


def _state(each: Stored) -> str:
    if each.runs:
        return "used"
    return "interrupted" if not each.finished else "none" if each.recorded else "not recorded"


def _freed(stored: Sequence[Stored]) -> int:
    return sum(each.size - each.shared for each in stored)


if __name__ == "__main__":
    sys.exit(main())
