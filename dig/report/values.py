"""Values of reports that others wrote: lists where lists are, and nothing where something else is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_list", "listed", "mapping"]


def is_list(value: Any) -> bool:
    """Whether a value is a sequence of values and no text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def listed(value: Any) -> Sequence[Any]:
    """The value where it is a list, else an empty one."""
    return value if is_list(value) else []


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}
