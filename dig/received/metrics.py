"""What a run says that it measured: recommenders, each with the metrics of its test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dig.config.documents import read_json_mapping
from dig.config.errors import UserError

__all__ = ["read_metrics"]

_SHARE = re.compile(r"(hr|ndcg|mrr)@(.*)", re.DOTALL)
_PARTS = ("test", "test_masked", "test_unmasked", "valid")
_TABLES = ("intervals", "slices", "over_sft", *_PARTS)
_CUTOFF = re.compile(r"[1-9][0-9]{0,6}")
_SPARE = 1e-6
"""What a mean of float32 numbers may be beside its bounds."""
_AGAIN = "the same dig.train command writes it again"


def read_metrics(folder: Path, finite: bool = False) -> dict[str, dict[str, Any]]:
    """The recommenders of a run's ``metrics.json`` that have a test; nothing where there is no such file.

    HR, NDCG and MRR are numbers from 0 to 1 at a cut-off above 0, or NaN where a slice has no user; what else a run
    notes has the type in which it is written, and any value.

    Args:
        folder: the run's.
        finite: also refuse NaN among the metrics of the test.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    path = folder / "metrics.json"
    if not path.exists():
        return {}
    measured = {}
    for name, entry in read_json_mapping(path, advice=_AGAIN).items():
        if not isinstance(entry, dict):
            raise UserError(
                f"{path}: {name[:60]}: must hold what was measured of a recommender, it is "
                f"{str(entry)[:60]!r}; {_AGAIN}"
            )
        try:
            _check(entry, finite)
        except ValueError as error:
            raise UserError(f"{path}: {name[:60]}.{error}; {_AGAIN}") from None
        if "test" in entry:
            measured[name] = entry
    return measured


def _check(entry: Mapping[str, Any], finite: bool) -> None:
    """Raises ValueError with key and reason."""
    for key in _TABLES:
        if not isinstance(entry.get(key, {}), dict | None):
            raise ValueError(f"{key}: must hold keys and values")
    for part in _PARTS:
        if part in entry:
            _check_values(entry[part], part, finite and part == "test")
    for part, slices in (entry.get("slices") or {}).items():
        for name, values in slices.items() if isinstance(slices, dict) else [("", slices)]:
            if not isinstance(values, dict):
                raise ValueError(f"slices.{part[:60]}: must hold the metrics of each slice")
            _check_values(values, f"slices.{part[:60]}.{name[:60]}")
    for part, intervals in (entry.get("intervals") or {}).items():
        for name, ends in intervals.items() if isinstance(intervals, dict) else [("", intervals)]:
            if not (isinstance(ends, list) and len(ends) == 2 and all(map(_number, ends))):
                raise ValueError(f"intervals.{part[:60]}.{name[:60]}: must be two numbers")
    for name, gain in (entry.get("over_sft") or {}).items():
        if not isinstance(gain, dict):
            raise ValueError(f"over_sft.{name[:60]}: must hold a difference with its interval")
    for key in ("users", "examples", "seconds", "evaluation_seconds"):
        if not isinstance(entry.get(key), int | float | None):
            raise ValueError(f"{key}: must be a number, it is {str(entry[key])[:60]!r}")
    if not isinstance(entry.get("split"), str | None):
        raise ValueError(f"split: must be a text, it is {str(entry['split'])[:60]!r}")
    if not isinstance(entry.get("mask_history", False), bool):
        raise ValueError(f"mask_history: must be true or false, it is {str(entry['mask_history'])[:60]!r}")


def _check_values(values: Any, part: str, finite: bool = False) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{part}: must hold metrics, it is {str(values)[:60]!r}")
    for name, value in values.items():
        share = _SHARE.fullmatch(name)
        if share and not _CUTOFF.fullmatch(share[2]):
            raise ValueError(f"{part}.{name[:60]}: {share[2][:20]!r} is not a number of items to look at")
        if share and not (_number(value) and (-_SPARE <= value <= 1 + _SPARE or (value != value and not finite))):
            raise ValueError(f"{part}.{name[:60]}: must be between 0 and 1, it is {str(value)[:60]}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
