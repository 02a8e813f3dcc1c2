"""The validation of a training stage over its epochs, as its logs have it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dig.config import UserError

__all__ = ["thinned_curve", "validation_curve"]

_PREFIX = "valid/"
_DIGITS = 6


def validation_curve(logs: Path) -> list[dict[str, float]]:
    """Metrics of every validation: ``{"epoch": 1, "hr@10": …}``, in order, ``epoch`` the epochs that are done.

    Where an epoch was validated twice, as by an attempt that was killed and the one that went on, the later counts.

    Args:
        logs: a stage's folder of logs, with a folder an attempt.

    Raises:
        UserError: a log is not one.
    """
    found: dict[int, dict[str, float]] = {}
    for path in sorted(logs.glob("*/metrics.csv")):
        for epoch, values in _validations(path):
            found[epoch] = {"epoch": epoch, **values}
    return [found[epoch] for epoch in sorted(found)]


def thinned_curve(curve: Sequence[dict[str, float]], most: int) -> list[dict[str, float]]:
    """At most ``most`` points, evenly spread, the first and the last among them."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(at * (len(curve) - 1) / (most - 1))] for at in range(most)]


def _validations(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in _rows(path, file):
            values = {
                name.removeprefix(_PREFIX): round(number, _DIGITS)
                for name, value in row.items()
                if name and name.startswith(_PREFIX) and (number := _number(value)) is not None
            }
            epoch = _number(row.get("epoch"))
            if values and epoch is not None:
                yield int(epoch) + 1, values


def _rows(path: Path, file: Iterable[str]) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(file)
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _number(text: str | None) -> float | None:
    """None for nothing, for what is not finite, and for the end of a line that a kill cut."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
