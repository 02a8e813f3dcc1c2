"""What the caption of a table says of its rows: which are one, what lists lack, in which keys runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from dig.comparison.files import counted
from dig.comparison.labels import differing_keys
from dig.comparison.rankings import Ranking
from dig.comparison.runs import Run
from dig.config import UserError
from dig.config.sections.checks import folder_name_problem
from dig.engine.console import printable

__all__ = ["about_lists", "about_settings", "identical_rows", "kept_examples"]

_SETTINGS = 8
"""Differing keys that a caption has room for."""


def identical_rows(first: Ranking, groups: Sequence[Sequence[Ranking]]) -> tuple[list[list[list[Ranking]]], list[str]]:
    """The only row of a table once for each run that was named for it, and a sentence that they are the same.

    Args:
        first: of the recommender that was named first.
        groups: rankings of the row by seed, in each those that are the same.

    Raises:
        UserError: only one was named, or they are seeds of one recipe.
    """
    members = [ranking for group in groups for ranking in group]
    if len(groups) > 1:
        raise UserError(
            f"there is nothing to compare {first.name} with: its seeds are one row; name a second run or stage",
            exit_code=2,
        )
    members += [replace(one, run=replace(one.run, given=alias)) for one in members for alias in one.run.aliases]
    if len(members) < 2:
        raise UserError(f"there is nothing to compare {first.name} with; name a second run or stage", exit_code=2)
    names = f"{', '.join(one.name for one in members[:-1])} and {members[-1].name}"
    if len({one.run.folder for one in members}) == 1:
        why = f"are the same run, {first.run.folder.parent.name}/{first.run.folder.name}"
    elif all(_share_files(first, other) for other in members if other.run.folder != first.run.folder):
        why = "share one and the same artifact, which was trained once"
    else:
        why = "rank the same for every user"
    return [[[member]] for member in members], [f"{names} {why}, so every difference is 0"]


def _share_files(one: Ranking, other: Ranking) -> bool:
    """Whether two runs hold links to the same model files."""
    if any(folder_name_problem(ranking.stage) for ranking in (one, other)):  # a name from a table leads anywhere
        return False
    ours, theirs = (ranking.run.folder / "checkpoints" / ranking.stage for ranking in (one, other))
    files = [path.relative_to(ours) for path in ours.rglob("*") if path.is_file()]
    return bool(files) and all((theirs / file).is_file() and (ours / file).samefile(theirs / file) for file in files)


def kept_examples(theirs: Sequence[Ranking], total: int, missing: str) -> tuple[np.ndarray, list[str]]:
    """Which examples are compared on, and what is said of those without a list.

    Args:
        theirs: rankings of other programs.
        total: number of examples.
        missing: ``miss`` keeps all, ``drop`` those for which every program has a list.

    Returns:
        (examples,) a mask, and sentences.

    Raises:
        UserError: nothing would be left.
    """
    absent = {ranking.stage: ranking.absent for ranking in theirs if ranking.absent is not None}
    anywhere = np.logical_or.reduce([np.zeros(total, dtype=bool), *absent.values()])
    without = {label: int(mask.sum()) for label, mask in absent.items() if mask.any()}
    if missing == "miss" or not without:
        return np.ones(total, dtype=bool), [
            f"{label} has no list for {count:,} of {counted(total, 'example')}, which count as misses; "
            "--missing drop leaves them out of every row"
            for label, count in without.items()
        ]
    if anywhere.all():
        raise UserError(f"--missing drop: for every example one of {', '.join(without)} has no list", exit_code=2)
    return ~anywhere, [
        f"{int(anywhere.sum()):,} of {counted(total, 'example')} are left out of every row, because "
        f"{' or '.join(without)} has no list for them"
    ]


def about_lists(
    labels: Sequence[str], rows: Sequence[Sequence[Sequence[Ranking]]], k: int, kept: np.ndarray
) -> list[str]:
    """Sentences on rows that stand for several runs, and on lists that are shorter than the largest cut-off."""
    found = []
    for label, row in zip(labels, rows, strict=True):
        found += [
            f"{label} ranks the same in {', '.join(one.run.given for one in group)}" for group in row if len(group) > 1
        ]
        short = max(_short_lists(group[0], k, kept) for group in row)
        if short:
            found.append(f"{label} ranks fewer than {k} items for {short:,} users, whose missing places are misses")
    return found


def _short_lists(ranking: Ranking, k: int, kept: np.ndarray) -> int:
    """Users with fewer than k items; those without a list are told of on their own."""
    short = ranking.lengths < k if ranking.absent is None else (ranking.lengths < k) & ~ranking.absent
    among = np.zeros(len(short), dtype=bool)
    among[kept] = True
    return int(ranking.users.filter(pl.Series(short & among)).n_unique())


def about_settings(labels: Sequence[str], rows: Sequence[Sequence[Sequence[Ranking]]]) -> list[str]:
    """All keys in which runs of one experiment differ, where the rows' names have room for the first alone."""
    by_experiment: dict[str, dict[str, tuple[Run, list[str]]]] = {}
    for label, row in zip(labels, rows, strict=True):
        run = row[0][0].run
        if run.config:
            runs = by_experiment.setdefault(run.experiment, {})
            runs.setdefault(str(run.folder), (run, []))[1].append(label)
    notes = []
    for experiment, runs in by_experiment.items():
        differences = differing_keys([run for run, _ in runs.values()])
        if len(runs) < 2 or not differences:
            continue
        first = differences[:_SETTINGS]
        more = f" and {len(differences) - len(first):,} more keys" if len(differences) > len(first) else ""
        told = "; ".join(f"{key}: {', '.join(printable(value, 60) for value in values)}" for key, values in first)
        names = ", ".join(dict.fromkeys(told_labels[0] for _, told_labels in runs.values()))
        notes.append(f"configurations of {experiment} differ ({names}) in {told}{more}")
    return notes
