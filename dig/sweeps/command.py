"""What a sweep file's ``command`` gives every trial, so that one file serves ``wandb sweep`` and ``dig.sweep``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from dig.config import UserError
from dig.engine.secrets import shown_override
from dig.sweeps.file import SweepFile, wrong

__all__ = ["Arguments", "command_arguments", "split_arguments"]

_MACRO = re.compile(r"^\$\{(\w+)\}$")
_VARIABLE = re.compile(r"\$\{envvar:([^}]*)\}")
_ARGUMENTS = "${args_no_hyphens}"


class Arguments(NamedTuple):
    """Arguments of ``dig.train``: the experiment, None where it is not named, and ``key=value`` overrides."""

    experiment: str | None
    overrides: tuple[str, ...]


def command_arguments(file: SweepFile) -> Arguments:
    """The fixed arguments in a sweep file's command.

    Raises:
        UserError: with exit code 2, for a command that does not run ``dig.train`` with ``key=value``.
    """
    _check_program(file)
    if not file.command:
        return Arguments(None, ())
    if _ARGUMENTS not in file.command:
        others = [word for word in file.command if word.startswith("${args")]
        instead = f" instead of {others[0]}" if others else ""
        raise wrong(file.path, "command", f"needs {_ARGUMENTS}{instead}: dig.train takes key=value")
    found = []
    for word in _behind_program(file):
        if word == _ARGUMENTS:
            continue
        word = _expanded(file.path, word)
        if word.startswith("-") or _MACRO.match(word) or "=" not in word:
            what = f"only experiment=NAME, key=value and {_ARGUMENTS} may follow the program"
            raise wrong(file.path, "command", f"{shown_override(word)}: {what}")
        found.append(word)
    return split_arguments(found)


def split_arguments(arguments: list[str]) -> Arguments:
    """Arguments of ``dig.train``, the experiment apart; the last one named holds."""
    experiments = [argument.partition("=")[2] for argument in arguments if argument.startswith("experiment=")]
    overrides = tuple(argument for argument in arguments if not argument.startswith("experiment="))
    return Arguments(experiments[-1] if experiments else None, overrides)


def _check_program(file: SweepFile) -> None:
    named = file.program is None or _runs_training(str(file.program))
    literal = any(_runs_training(word) for word in file.command)
    if not named or (file.program is None and file.command and not literal):
        what = file.program if file.program is not None else " ".join(map(shown_override, file.command))
        raise wrong(file.path, "program", f"{what}: this runs dig.train alone; write program: dig.train")


def _runs_training(word: str) -> bool:
    return word in ("dig.train", "dig/train.py", "./dig/train.py")


def _behind_program(file: SweepFile) -> tuple[str, ...]:
    for place, word in enumerate(file.command):
        if word == "${program}" or _runs_training(word):
            return file.command[place + 1 :]
    raise wrong(file.path, "command", "does not name the program: write ${program}")


def _expanded(path: Path, word: str) -> str:
    """W&B's ``${envvar:NAME}``."""
    for name in _VARIABLE.findall(word):
        if not name.startswith("DIG_"):
            what = "only DIG_… variables may enter a configuration, since it is written to disk"
            raise wrong(path, "command", f"{shown_override(word)}: {what}")
        if name not in os.environ:
            raise UserError(
                f"{path}: command: {shown_override(word)}: the environment variable {name} is not set", exit_code=2
            )
    return _VARIABLE.sub(lambda match: os.environ[match[1]], word)
