"""Arguments of every command: argparse's options, with errors of one line that name the nearest right thing.

An option means the same wherever there is one: ``--out`` where to write, ``--json`` one JSON object on the standard
output, ``--runs`` the folder of the experiments' runs, ``--help`` and ``-h`` the command's help. Words that are no
options (``key=value``, runs, files) may stand anywhere between them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dig.config.errors import UserError, nearest, unknown_flag
from dig.engine.secrets import shown_key, shown_override

__all__ = ["Options", "asks_help", "number_from", "one_of", "path", "split_command", "text", "unknown_command"]

_WIDTH = 120
_LONGEST_NUMBER = 18
_HELP = ("--help", "-h")


class Options(argparse.ArgumentParser):
    """The options of a command.

    Args:
        usage: what is written behind ``dig``, a line for each form.
        about: what the command does.
        end: what stands below the options.
    """

    def __init__(self, usage: str, about: str, end: str = "Exit codes: 0 done, 1 failed, 2 wrong arguments.") -> None:
        super().__init__(
            usage=usage,
            description=about,
            epilog=end,
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            argument_default=None,
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=26, width=_WIDTH),
        )
        self._takers: dict[str, tuple[str, ...]] = {}

    def switch(self, name: str, help: str | None, *commands: str) -> None:
        """An option that stands alone; a help of None leaves it out of the help.

        Args:
            name: such as ``--json``.
            help: a sentence.
            commands: those that take it; none for all.
        """
        self.add_argument(name, action="store_true", help=argparse.SUPPRESS if help is None else help)
        self._takers[name] = commands

    def value(
        self,
        name: str,
        metavar: str,
        help: str,
        *commands: str,
        read: Callable[[str, str], Any] | None = None,
        default: Any = None,
        repeats: bool = False,
    ) -> None:
        """An option with a value, as ``--name VALUE`` or ``--name=VALUE``.

        Args:
            name: such as ``--out``.
            metavar: what stands for the value in the help.
            help: a sentence.
            commands: those that take it; none for all.
            read: makes the value of the option's name and its text, or raises; a text that is not empty otherwise.
            default: where it is not given.
            repeats: whether its value is the list of all that are given; of others the last one holds.
        """
        reader = partial(read or text, name)
        action = "append" if repeats else "store"
        self.add_argument(name, metavar=metavar, help=help, type=reader, default=default, action=action)
        self._takers[name] = commands

    def read(self, arguments: Sequence[str], command: str = "") -> tuple[argparse.Namespace, list[str]]:
        """The options' values, and the words that are not options, in order.

        Args:
            arguments: all; behind ``--`` there are no options.
            command: whose arguments these are, where a program has several.

        Raises:
            UserError: with exit code 2, for an option that there is not, that belongs to another command, that lacks
                its value or is given one that it does not take.
        """
        names = [name for name, commands in self._takers.items() if not commands or command in commands]
        try:
            end = list(arguments).index("--") if "--" in arguments else len(arguments)
            options, plain = list(arguments[:end]), arguments[end + 1 :]
            given, words = self.parse_known_args(options)
        except argparse.ArgumentError as error:
            name = str(error.argument_name)
            alone = next(action.nargs == 0 for action in self._actions if name in action.option_strings)
            raise UserError(f"{name} {'takes no value; it stands alone' if alone else 'needs a value'}", 2) from None
        for word in words:
            key, equals, _ = word.partition("=")
            if word.startswith("-") and word != "-":
                raise unknown_flag(word, [*self._shown(names), "--help"], self._listed(names))
            if equals and f"--{key}" in names:
                raise UserError(f"{shown_override(word)}: did you mean --{shown_override(word)}?", exit_code=2)
        for name in set(self._takers) - set(names):
            if vars(given)[name[2:].replace("-", "_")] != self.get_default(name[2:].replace("-", "_")):
                takers = " and ".join(self._takers[name])
                raise UserError(f"{name} is for {takers}; {command} has no such flag", exit_code=2)
        return given, [*words, *plain]

    def show_help(self) -> int:
        """Prints what the command does and takes; returns the exit code."""
        print(self.format_help(), end="")
        return 0

    def _listed(self, names: Iterable[str]) -> str:
        return ", ".join(self._shown(names)) or "it takes none"

    def _shown(self, names: Iterable[str]) -> list[str]:
        hidden = {action.option_strings[0] for action in self._actions if action.help == argparse.SUPPRESS}
        return [name for name in names if name not in hidden]


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether a command's help is asked for, which no arguments do, too."""
    return not arguments or any(word in _HELP for word in arguments)


def split_command(arguments: Sequence[str], commands: Iterable[str]) -> tuple[str, list[str]]:
    """The command that arguments begin with, and the others.

    Raises:
        UserError: with exit code 2: there is no such command.
    """
    command, *rest = arguments
    commands = tuple(commands)
    if command.startswith("-"):
        raise UserError(f"{shown_key(command)}: the command comes first, then its options: {', '.join(commands)}", 2)
    if command not in commands:
        raise unknown_command(command, commands)
    return command, rest


def unknown_command(word: str, commands: Iterable[str]) -> UserError:
    """The error for a word that is none of the commands, with the nearest of them."""
    commands = tuple(commands)
    hint = nearest(word, commands)
    return UserError(
        f"{shown_key(word)}: no such command; {f'did you mean {hint}?' if hint else ', '.join(commands)}", 2
    )


def text(name: str, value: str) -> str:
    """A text that is not empty."""
    if not value:
        raise UserError(f"{name} needs a value", exit_code=2)
    return value


def path(name: str, value: str) -> Path:
    """A file or a folder; ``~`` is the home."""
    return Path(text(name, value)).expanduser()


def number_from(least: int, whole: bool = True) -> Callable[[str, str], Any]:
    """Reads numbers of at least ``least``, whole ones or any."""

    def read(name: str, value: str) -> int | float:
        try:
            plain = value.isascii() and value.isdecimal() and len(value) <= _LONGEST_NUMBER
            number: float = (int(value) if plain else math.nan) if whole else float(value)
        except ValueError:
            number = math.nan
        if not least <= number < 10**_LONGEST_NUMBER:
            kind = "whole number" if whole else "number"
            raise UserError(f"{name} {value[:40]} must be a {kind} of at least {least}", exit_code=2)
        return number

    return read


def one_of(choices: Iterable[str]) -> Callable[[str, str], str]:
    """Reads one of the choices; another is answered with the nearest."""
    choices = tuple(choices)

    def read(name: str, value: str) -> str:
        if text(name, value) not in choices:
            hint = nearest(value, choices)
            right = f"did you mean {hint}?" if hint else f"there are {', '.join(choices)}"
            raise UserError(f"{name} {value}: no such choice; {right}", exit_code=2)
        return value

    return read
