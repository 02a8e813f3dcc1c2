"""``dig COMMAND …``: one command line; ``dig train …`` and ``python -m dig.train …`` are the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import dig

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": ("dig.train", "runs an experiment: the whole pipeline, or the stages asked for"),
    "sweep": ("dig.sweep", "runs a sweep file in W&B's format, without an account"),
    "compare": (
        "dig.compare",
        "puts runs and other programs' rankings into one table, with intervals and significance",
    ),
    "recommend": ("dig.recommend", "answers from a finished run: a user, a history, or all users"),
    "data": ("dig.data", "looks at data before anything is trained on them: inspect, validate, convert, init"),
    "interests": (
        "dig.interests.__main__",
        "what mining costs, found and failed: plan, show, retry, export, import, label",
    ),
    "cache": ("dig.cache", "lists finished stages, and removes those that no run uses: list, prune"),
}
"""Module and sentence of each command; a module is imported when its command is known."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; 2 where there is no such command."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in COMMANDS:
        code: int = import_module(COMMANDS[command][0]).main(rest)
        return code
    if command in ("--help", "-h"):
        print(_help())
        return 0
    if command == "--version":
        print(f"dig {dig.__version__}")
        return 0
    return _unknown(command)


def _help() -> str:
    lines = [f"  {name:10} {sentence}" for name, (_, sentence) in COMMANDS.items()]
    end = "`dig COMMAND --help` tells more, `dig --version` the version; `python -m dig.COMMAND …` is the same command."
    return "\n".join(["dig COMMAND [ARGUMENTS]", "", *lines, "", end])


def _unknown(command: str) -> int:
    from dig.config.arguments import unknown_command
    from dig.engine.entry import exit_code

    def refuse(_: list[str]) -> int:
        raise unknown_command(command, COMMANDS)

    return exit_code(refuse, [command], "", "interrupted")


if __name__ == "__main__":
    sys.exit(main())
