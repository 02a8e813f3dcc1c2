"""Names of rows: as short as tells them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dig.comparison.runs import Run
from dig.console import printable

__all__ = ["row_labels"]

_LONGEST = 80


def row_labels(rows: Sequence[tuple[Run, str]], seeds: bool = True) -> list[str]:
    """The stage, with experiment, seed, run id or path before it where rows would be called the same.

    Args:
        rows: run and stage; no pair twice.
        seeds: whether a row is called by its seed; no where it has several.
    """
    parts = [[stage] for _, stage in rows]
    for tell in (_experiment, *((_seed,) if seeds else ()), _folder, _given):
        alike = defaultdict(list)
        for row, named in enumerate(parts):
            alike[tuple(named)].append(row)
        for group in alike.values():
            told = [tell(rows[row][0]) for row in group]
            if len(set(told)) > 1:
                for row, word in zip(group, told, strict=True):
                    parts[row][-1:-1] = [word] if word else []
    return [printable("/".join(named), _LONGEST) for named in parts]


def _experiment(run: Run) -> str:
    return run.experiment


def _seed(run: Run) -> str:
    return "" if run.seed is None else f"seed-{run.seed}"


def _folder(run: Run) -> str:
    return run.folder.name


def _given(run: Run) -> str:
    return run.given
