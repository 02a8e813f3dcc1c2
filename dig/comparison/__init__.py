"""Runs side by side: the same users, intervals, and whether a difference is more than chance (``dig.compare``).

The names here are loaded when they are first used, so that who is refused does not wait for libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dig.comparison.own import compare, write_rankings

__all__ = ["compare", "write_rankings"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dig.comparison import own

        return getattr(own, name)
    raise AttributeError(f"module 'dig.comparison' has no attribute {name!r}")
