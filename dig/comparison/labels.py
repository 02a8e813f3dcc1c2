"""Names of rows: as short as tells them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from dig.comparison.runs import Run
from dig.console import printable

__all__ = ["row_labels"]

_TELLING: tuple[Callable[[Run], str], ...] = (
    lambda run: run.experiment,
    lambda run: "" if run.seed is None else f"seed-{run.seed}",
    lambda run: run.folder.name,
    lambda run: run.given,
)
_LONGEST = 80


def row_labels(rows: Sequence[tuple[Run, str]]) -> list[str]:
    """The stage, with experiment, seed, run id or path before it where rows would be called the same.

    Args:
        rows: run and stage; no pair twice.
    """
    parts = [[stage] for _, stage in rows]
    for tell in _TELLING:
        alike = defaultdict(list)
        for row, named in enumerate(parts):
            alike[tuple(named)].append(row)
        for group in alike.values():
            told = [tell(rows[row][0]) for row in group]
            if len(set(told)) > 1:
                for row, word in zip(group, told, strict=True):
                    parts[row][-1:-1] = [word] if word else []
    return [printable("/".join(named), _LONGEST) for named in parts]
