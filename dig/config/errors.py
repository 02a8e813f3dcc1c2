"""The one error that is the user's to mend: it is shown as a single line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from dig.engine.secrets import hidden, shown_key

__all__ = ["UserError", "nearest", "nearest_ids", "unknown_flag"]

_MOST_IDS = 100_000  # comparing letters takes a second


class UserError(Exception):
    """A mistake in a file, an argument or the environment: what, where, and the nearest right thing.

    Args:
        message: one line that a person can act on; what looks like a secret in it is hidden.
        exit_code: 2 for wrong usage (arguments, configuration), 1 for everything that fails later (data, files).
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(hidden(message))
        self.exit_code = exit_code


def unknown_flag(argument: str, flags: Iterable[str], listed: str = "") -> UserError:
    """The error for a flag that is none of those that there are, or is one and is given a value."""
    flags = tuple(flags)
    name, equals, _ = argument.partition("=")
    if equals and name in flags:
        return UserError(f"{name} takes no value; it stands alone", exit_code=2)
    hint = nearest(name, flags)
    return UserError(
        f"{shown_key(name)}: no such flag; {f'did you mean {hint}?' if hint else listed or ', '.join(flags)}", 2
    )


def nearest_ids(word: str, ids: Iterable[str], count: int = 3) -> str:
    """``; did you mean A, B or C?`` of the ids most like ``word``, or nothing; of very many the first are looked at."""
    names = difflib.get_close_matches(word, list(islice(ids, _MOST_IDS)), n=count, cutoff=0.5)
    names = [each if each.isprintable() and each == each.strip() else repr(each) for each in names]
    if not names:
        return ""
    return f"; did you mean {', '.join(names[:-1])}{' or ' if len(names) > 1 else ''}{names[-1]}?"


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``word``, or None when there is nothing to choose from."""
    choices = list(choices)
    if not choices:
        return None
    matches = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if matches:
        return matches[0]
    leaf = word.rsplit(".", 1)[-1]
    by_leaf = {choice.rsplit(".", 1)[-1]: choice for choice in choices}
    matches = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.5)
    return by_leaf[matches[0]] if matches else None
