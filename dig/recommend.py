"""``python -m dig.recommend run=RUN user=ID | items=[A,B] [key=value …]``: answers of a finished run, explained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dig.config import UserError, nearest
from dig.entry import exit_code

__all__ = ["main"]

_HELP = """python -m dig.recommend run=RUN user=ID [key=value …]
python -m dig.recommend run=RUN items=[ID,ID,…] [key=value …]

  run=FOLDER       a run's folder, such as runs/beauty/latest
  user=ID          a user of the run's data: what comes after all that is known of them
  items=[A,B]      or a history of your own, oldest first
  held_out=false   true stops before the user's test item and marks it among the answers
  k=10             how many answers
  stage=NAME       grpo, sft or a baseline (default: the last that was trained)
  unseen=false     true leaves out the items of the history
  json=false       true prints one JSON object

Exit codes: 0 done, 1 failed, 2 wrong arguments."""
_DEFAULTS: dict[str, Any] = {"run": None, "user": None, "items": None, "held_out": False, "k": 10, "stage": None,
                             "unseen": False, "json": False}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some", "interrupted")


def _run(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_HELP)
        return 0
    asked = _parse(["json=true" if argument == "--json" else argument for argument in arguments])
    from dig.answers import answer, show_answer  # torch is imported here, after all cheap errors

    found = answer(Path(asked["run"]).expanduser(), asked["user"], asked["items"], asked["held_out"], asked["k"],
                   asked["stage"], asked["unseen"])  # fmt: skip
    show_answer(found, as_json=asked["json"])
    return 0


def _parse(arguments: list[str]) -> dict[str, Any]:
    asked = dict(_DEFAULTS)
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or key not in _DEFAULTS:
            hint = nearest(key.lstrip("-"), _DEFAULTS)
            raise UserError(f"{argument}: no such key; {f'did you mean {hint}=?' if hint else ', '.join(_DEFAULTS)}", 2)
        asked[key] = _value(key, text)
    if asked["run"] is None:
        raise UserError("run=FOLDER is missing, such as run=runs/beauty/latest", exit_code=2)
    if (asked["user"] is None) == (asked["items"] is None):
        raise UserError("name either user=ID or items=[ID,…]", exit_code=2)
    if asked["held_out"] and asked["user"] is None:
        raise UserError("held_out=true needs user=ID: a history of your own has no test item", exit_code=2)
    return asked


def _value(key: str, text: str) -> Any:
    """The value in the type that the key has; ids are strings, whatever they look like."""
    if key == "items":
        listed = text.removeprefix("[").removesuffix("]")
        found = [part.strip().strip("'\"") for part in listed.split(",") if part.strip()]
        if not found:
            raise UserError("items=[] names no item", exit_code=2)
        return found
    if key in ("run", "user", "stage"):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if key == "k":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"k={text} must be a whole number above 0", exit_code=2)
    elif not isinstance(value, bool):
        raise UserError(f"{key}={text} must be true or false", exit_code=2)
    return value


if __name__ == "__main__":
    sys.exit(main())
