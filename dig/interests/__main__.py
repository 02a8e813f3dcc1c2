"""``dig interests plan|show|retry|export|import|label``: what mining costs, what it found, what failed."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dig.config import Config, UserError, load_config
from dig.config.arguments import Options, asks_help, number_from, path, split_command
from dig.engine.entry import exit_code

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["main"]

_USAGE = "dig interests COMMAND [ARGUMENT] experiment=NAME [key=value …] [--flag VALUE]"
_ABOUT = """\
  plan               what asking the models of the experiment will take: requests, tokens, US dollars; asks nothing
  show ITEM          what is known of an item: its text, each model's answer, its interests with labels
  retry              asks again what failed for good
  export             the interests as JSON lines, --out FILE (.jsonl or .jsonl.gz)
  import FILE        takes answers that came another way (a batch job) for those of a model, --as NAME of mining.models
  label              shows interests one by one for a person to label, --out FILE (.csv), --count N (default 50)

Keys are those of dig train --help."""
_ARGUMENTS = {"plan": 0, "show": 1, "retry": 0, "export": 0, "import": 1, "label": 0}
"""How many each command takes."""
_NEEDED = {"export": "--out", "import": "--as", "label": "--out"}


class _Call(NamedTuple):
    command: str
    arguments: list[str]
    options: Namespace
    config: Config


def _options() -> Options:
    options = Options(_USAGE, _ABOUT, "Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration.")
    options.value("--out", "FILE", "where to write", "export", "label", read=path)
    options.value("--as", "NAME", "the model whose answers these are", "import")
    options.value("--count", "N", "interests to label", "label", read=number_from(1), default=50)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(
        _run,
        arguments,
        "free some, then the same command resumes",
        "interrupted; what came so far is kept, the same command resumes from here",
    )


def _run(arguments: list[str]) -> int:
    if asks_help(arguments):
        return _options().show_help()
    call = _parse(arguments)
    from dig import interest_commands  # polars is imported here, after all cheap errors

    return _dispatch(interest_commands, call)


def _dispatch(commands: ModuleType, call: _Call) -> int:
    config, options = call.config, call.options
    functions: dict[str, Callable[[], int]] = {
        "plan": lambda: commands.plan(config),
        "show": lambda: commands.show(config, call.arguments[0]),
        "retry": lambda: commands.retry(config),
        "export": lambda: commands.export(config, options.out),
        "import": lambda: commands.import_answers(config, Path(call.arguments[0]), vars(options)["as"]),
        "label": lambda: commands.label(config, options.out, options.count),
    }
    return functions[call.command]()


def _parse(arguments: list[str]) -> _Call:
    command, rest = split_command(arguments, _ARGUMENTS)
    if command == "show" and rest and rest[0].startswith("-") and not rest[0].startswith("--"):
        rest = ["--", *rest]  # an item's id may begin so
    options, words = _options().read(rest, command)
    overrides: list[str] = []
    given: list[str] = []
    experiment = None
    for word in words:
        if word.startswith("experiment="):
            experiment = word.partition("=")[2]
        elif "=" in word and not (command == "show" and not given):
            overrides.append(word)
        else:
            given.append(word)
    if len(given) != _ARGUMENTS[command]:
        number = "no argument" if not _ARGUMENTS[command] else "one argument"
        raise UserError(f"{command} takes {number} besides experiment=NAME and key=value; it got {len(given)}", 2)
    needed = _NEEDED.get(command)
    if needed and vars(options)[needed[2:]] is None:
        raise UserError(f"{command} needs {needed}", exit_code=2)
    return _Call(command, given, options, load_config(experiment, overrides))


if __name__ == "__main__":
    sys.exit(main())
