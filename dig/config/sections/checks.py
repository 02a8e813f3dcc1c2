"""Checks that sections share: names of folders, and the choices and bounds that stand in a field's annotation."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from dig.config.errors import UserError, nearest
from dig.engine.secrets import remember

__all__ = [
    "check",
    "check_choice",
    "choice_problem",
    "choices_in",
    "choices_of",
    "check_folder_name",
    "folder_name_problem",
    "secret_value",
    "Bounds",
    "Connections",
    "Dropout",
    "Fraction",
    "Layers",
    "LearningRate",
    "Level",
    "Nodes",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveFraction",
    "PositiveInt",
    "Seconds",
    "Seed",
    "Size",
    "Temperature",
    "Wait",
    "WeightDecay",
    "Workers",
    "bounds_of",
    "check_values",
    "check_number",
]


_LONGEST_NAME = 200
"""Bytes of a folder's name; file systems take 255, and names are made longer here and there."""


def check(condition: bool, message: str) -> None:
    """Raises a UserError of the command line (exit code 2) unless the condition holds."""
    if not condition:
        raise UserError(message, exit_code=2)


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """The value is one of the choices; the nearest is named where there is one."""
    check(value in choices, f"{key}={value!r} {choice_problem(value, choices)}")


def choice_problem(value: Any, choices: tuple[str, ...]) -> str:
    """What to say of a value that is none of the choices, to follow its key."""
    hint = None if value is None else nearest(str(value), choices) or nearest(str(value).lower(), choices)
    return f"is not one of {', '.join(choices)}{f'; did you mean {hint!r}?' if hint else ''}"


def secret_value(variable: str, asked_by: str) -> str:
    """What an environment variable holds, remembered for :func:`dig.engine.secrets.hidden`.

    Args:
        variable: its name.
        asked_by: what needs it, for the error.

    Raises:
        UserError: it is not set.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(f"the environment variable {variable} is not set, and {asked_by}")
    return remember(value)


def folder_name_problem(name: str) -> str | None:
    """Why a text cannot be the name of one folder below another, to follow its key; None where it can."""
    if not name.strip():
        return "is empty"
    if "/" in name or "\0" in name or name in (".", ".."):
        return "must be the name of one folder, without a /"
    if name.startswith("."):
        return "begins with a dot, so that its folder would be hidden"
    if not name.isprintable() or name != name.strip():
        return "has line breaks, control characters, or blanks at its ends"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    return None


def check_folder_name(key: str, name: str | None) -> None:
    """The name of a folder below another: one that leads elsewhere would have files written and removed there.

    Raises:
        UserError: with exit code 2 and the key; None passes.
    """
    problem = None if name is None else folder_name_problem(name)
    shown = ascii(name if name is None or len(name) <= 60 else f"{name[:60]}…")
    check(problem is None, f"{key}={shown} {problem}")


@dataclass(frozen=True)
class Bounds:
    """What a number may be; both ends are finite.

    Attributes:
        low: the least value; with ``above`` the value must exceed it.
        high: the greatest value; with ``below`` the value must stay under it.
        above: whether ``low`` itself is refused.
        below: whether ``high`` itself is refused.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def problem(self, value: float) -> str | None:
        """What is wrong with a value, to follow its key; None if nothing is."""
        if not math.isfinite(value):
            return f"must be a finite number, it is {value}"
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        if low and high:
            return None
        if (self.low, self.high, self.above) == (0, 1, False):
            return f"must {'be at least 0 and below' if self.below else 'lie between 0 and'} 1, it is {value}"
        if low:
            return f"must be {'below' if self.below else 'at most'} {self.high:,}, it is {value}"
        if self.low == 0:
            return f"must {'be above 0' if self.above else 'not be negative'}, it is {value}"
        return f"must be {'above' if self.above else 'at least'} {self.low:,}, it is {value}"


_MOST_INT = 2**31 - 1
_MOST_FLOAT = 1e9

PositiveInt = Annotated[int, Bounds(0, _MOST_INT, above=True)]
NonNegativeInt = Annotated[int, Bounds(0, _MOST_INT)]
Size = Annotated[int, Bounds(0, 2**20, above=True)]
"""A width, a batch, a length: what memory is taken for."""
Layers = Annotated[int, Bounds(0, 1000, above=True)]
Level = Annotated[int, Bounds(0, 64, above=True)]
Connections = Annotated[int, Bounds(0, 4096, above=True)]
Workers = Annotated[int, Bounds(0, 1024)]
Nodes = Annotated[int, Bounds(0, 100_000, above=True)]
Wait = Annotated[int, Bounds(0, 10_000_000, above=True)]
"""Whole seconds."""
PositiveFloat = Annotated[float, Bounds(0, _MOST_FLOAT, above=True)]
NonNegativeFloat = Annotated[float, Bounds(0, _MOST_FLOAT)]
Fraction = Annotated[float, Bounds(0, 1)]
PositiveFraction = Annotated[float, Bounds(0, 1, above=True)]
Dropout = Annotated[float, Bounds(0, 1, below=True)]
LearningRate = Annotated[float, Bounds(0, 100, above=True)]
WeightDecay = Annotated[float, Bounds(0, 100)]
Temperature = Annotated[float, Bounds(1e-4, 1e4)]
Seconds = Annotated[float, Bounds(0, 1e7, above=True)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]
"""What numpy takes for one."""


@cache
def bounds_of(section: type) -> dict[str, Bounds]:
    """The bounds of a section's numbers, by the name of the field; for a list or a dict those of its values."""
    hints = get_type_hints(section, include_extras=True)
    bounds = {entry.name: _bounds_in(hints[entry.name]) for entry in fields(section)}
    return {name: each for name, each in bounds.items() if each is not None}


@cache
def choices_of(section: type) -> dict[str, tuple[str, ...]]:
    """What a section's fields of a ``Literal`` type may be, by the name of the field."""
    hints = get_type_hints(section)
    choices = {entry.name: choices_in(hints[entry.name]) for entry in fields(section)}
    return {name: each for name, each in choices.items() if each}


def choices_in(hint: Any) -> tuple[str, ...]:
    """The values of a ``Literal``, also of one that may be unset; empty for any other type."""
    kinds = [hint, *get_args(hint)] if get_origin(hint) in (Union, UnionType) else [hint]
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def check_values(prefix: str, section: object) -> None:
    """Holds every value of a section to its annotation: numbers to their bounds, texts to their choices.

    Args:
        prefix: the section's dotted key, empty at the top.
        section: an instance of its class.

    Raises:
        UserError: with exit code 2 and the key.
    """
    kind: Any = type(section)
    for name, choices in choices_of(kind).items():
        value = getattr(section, name)
        if value is not None:
            check_choice(f"{prefix}.{name}" if prefix else name, value, choices)
    for name, bounds in bounds_of(kind).items():
        key, value = f"{prefix}.{name}" if prefix else name, getattr(section, name)
        values = value if isinstance(value, dict) else {"": value}
        for inner, number in values.items():
            for each in number if isinstance(number, list) else [number]:
                if each is not None:
                    check_number(f"{key}.{inner}" if inner else key, each, bounds)


def check_number(key: str, value: float, bounds: Bounds) -> None:
    """Holds one number to bounds.

    Raises:
        UserError: with exit code 2 and the key.
    """
    problem = bounds.problem(value)
    check(problem is None, f"{key} {problem}")


def _bounds_in(hint: Any) -> Bounds | None:
    """The bounds that a type carries, inside of a union, a list or a dict, too."""
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Bounds)), None)
    candidates = (_bounds_in(argument) for argument in get_args(hint))
    return next((bounds for bounds in candidates if bounds is not None), None)
