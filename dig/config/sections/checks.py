"""What every section checks its values with; a failure is a UserError that names the key."""

from __future__ import annotations

import os

from dig.config.errors import UserError, nearest
from dig.engine.secrets import remember

__all__ = ["check", "check_choice", "check_folder_name", "folder_name_problem", "secret_value"]

_LONGEST_NAME = 200
"""Bytes of a folder's name; file systems take 255, and names are made longer here and there."""


def check(condition: bool, message: str) -> None:
    """Raises a UserError of the command line (exit code 2) unless the condition holds."""
    if not condition:
        raise UserError(message, exit_code=2)


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """The value is one of the choices; the nearest is named where there is one."""
    hint = nearest(value, choices) or nearest(value.lower(), choices)
    meant = f"; did you mean {hint!r}?" if hint else ""
    check(value in choices, f"{key}={value!r} is not one of {', '.join(choices)}{meant}")


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
