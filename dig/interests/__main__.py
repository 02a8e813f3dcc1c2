"""``python -m dig.interests plan|show|retry|export|import|label``: what mining costs, what it found, what failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dig.config import Config, UserError, load_config, nearest
from dig.engine.entry import exit_code

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["main"]

_HELP = """python -m dig.interests COMMAND [ARGUMENT] experiment=NAME [key=value …] [--flag VALUE]

  plan               what asking the models of the experiment will take: requests, tokens, US dollars; asks nothing
  show ITEM          what is known of an item: its text, each model's answer, its interests with labels
  retry              asks again what failed for good
  export             the interests as JSON lines, --out FILE (.jsonl or .jsonl.gz)
  import FILE        takes answers that came another way (a batch job) for those of a model, --as NAME of mining.models
  label              shows interests one by one for a person to label, --out FILE (.csv), --count N (default 50)

Keys are those of python -m dig.train --help. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration."""
_ARGUMENTS = {"plan": 0, "show": 1, "retry": 0, "export": 0, "import": 1, "label": 0}
_FLAGS = {"export": ("--out",), "import": ("--as",), "label": ("--out", "--count")}


class _Call(NamedTuple):
    command: str
    arguments: list[str]
    flags: dict[str, str]
    config: Config


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(
        _run,
        arguments,
        "free some, then the same command goes on",
        "interrupted; what came so far is kept, the same command goes on from here",
    )


def _run(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_HELP)
        return 0
    call = _parse(arguments)
    from dig import interest_commands  # polars is imported here, after all cheap errors

    return _dispatch(interest_commands, call)


def _dispatch(commands: ModuleType, call: _Call) -> int:
    flags = call.flags
    known: dict[str, Callable[[], int]] = {
        "plan": lambda: commands.plan(call.config),
        "show": lambda: commands.show(call.config, call.arguments[0]),
        "retry": lambda: commands.retry(call.config),
        "export": lambda: commands.export(call.config, _path(flags, "--out", "export")),
        "import": lambda: commands.import_answers(
            call.config, Path(call.arguments[0]), _needed(flags, "--as", "import")
        ),
        "label": lambda: commands.label(call.config, _path(flags, "--out", "label"), _count(flags)),
    }
    return known[call.command]()


def _parse(arguments: list[str]) -> _Call:
    command, *rest = arguments
    if command not in _ARGUMENTS:
        hint = nearest(command, _ARGUMENTS)
        raise UserError(f"{command}: no such command; {f'did you mean {hint}?' if hint else ', '.join(_ARGUMENTS)}", 2)
    overrides: list[str] = []
    given: list[str] = []
    flags: dict[str, str] = {}
    experiment = None
    waiting = iter(rest)
    for argument in waiting:
        if argument.startswith("--"):
            name, _, value = argument.partition("=")
            allowed = _FLAGS.get(command, ())
            if name not in allowed:
                raise UserError(f"{name}: {command} has no such flag; there are {', '.join(allowed) or 'none'}", 2)
            flags[name] = value or next(waiting, "")
        elif argument.startswith("experiment="):
            experiment = argument.partition("=")[2]
        elif "=" in argument and not (command == "show" and not given):
            overrides.append(argument)
        else:
            given.append(argument)
    if len(given) != _ARGUMENTS[command]:
        wanted = "no argument" if not _ARGUMENTS[command] else "one argument"
        raise UserError(f"{command} takes {wanted} besides experiment=NAME and key=value; it got {len(given)}", 2)
    return _Call(command, given, flags, load_config(experiment, overrides))


def _needed(flags: dict[str, str], name: str, command: str) -> str:
    if not flags.get(name):
        raise UserError(f"{command} needs {name}", exit_code=2)
    return flags[name]


def _path(flags: dict[str, str], name: str, command: str) -> Path:
    return Path(_needed(flags, name, command)).expanduser()


def _count(flags: dict[str, str]) -> int:
    value = flags.get("--count", "50")
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"--count={value} must be a whole number above 0", exit_code=2)
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
