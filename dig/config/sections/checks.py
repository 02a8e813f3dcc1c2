"""What every section checks its values with; a failure is a UserError that names the key."""

from __future__ import annotations

from dig.config.errors import UserError, nearest

__all__ = ["check", "check_choice", "check_fraction", "check_positive"]


def check(condition: bool, message: str) -> None:
    """Raises a UserError of the command line (exit code 2) unless the condition holds."""
    if not condition:
        raise UserError(message, exit_code=2)


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """The value is one of the choices; the nearest is named where there is one."""
    hint = nearest(value, choices)
    meant = f"; did you mean {hint!r}?" if hint else ""
    check(value in choices, f"{key}={value!r} is not one of {', '.join(choices)}{meant}")


def check_positive(section: str, config: object, *names: str) -> None:
    """The named fields are above 0, or unset."""
    for name in names:
        value = getattr(config, name)
        check(value is None or value > 0, f"{section}.{name} must be above 0, it is {value}")


def check_fraction(section: str, config: object, *names: str) -> None:
    """The named fields lie between 0 and 1."""
    for name in names:
        value = getattr(config, name)
        check(0.0 <= value <= 1.0, f"{section}.{name} must lie between 0 and 1, it is {value}")
