"""A configuration as the difference to another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

__all__ = ["Change", "config_changes", "flow"]

_OF_A_RUN = ("experiment", "run_id")  # these name a run and tell nothing of how it was made


class Change(NamedTuple):
    """A key whose value differs; values as YAML in one line, None where the key is not there."""

    key: str
    before: str | None
    after: str | None


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What turns one configuration into another, in the order of the second; lists count as one value."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Change(key, flow(old[key]) if key in old else None, flow(new[key]) if key in new else None)
        for key in dict.fromkeys([*new, *old])
        if key not in _OF_A_RUN and (key not in old or key not in new or old[key] != new[key])
    ]


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
        .removesuffix("\n...\n")
        .strip()
    )


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, content
