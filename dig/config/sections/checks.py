"""What every section checks its values with; a failure is a UserError that names the key."""

from __future__ import annotations

import os

from dig.config.errors import UserError, nearest
from dig.secrets import remember

__all__ = ["check", "check_choice", "secret_value"]


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
    """What an environment variable holds, remembered for :func:`dig.secrets.hidden`.

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
