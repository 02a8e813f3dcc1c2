"""Who is compared on which users: recommenders of runs and rankings of other programs, brought to the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from dig.comparison.aligned import Aligned, Source, read_source
from dig.comparison.files import counted, is_rankings_file
from dig.comparison.rankings import Ranking, read_rankings, read_slices, require_same_examples
from dig.comparison.request import SLICES, ComparisonRequest, wanted_metrics
from dig.comparison.runs import ComparedRun, differing_keys, find_runs, named, row_labels
from dig.config import UserError, nearest
from dig.config.sections.checks import folder_name_problem
from dig.engine.console import printable

__all__ = ["about_lists", "about_settings", "identical_rows", "kept_examples", "Contest", "Row", "find_contests"]


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
    sentences = []
    for label, row in zip(labels, rows, strict=True):
        sentences += [
            f"{label} ranks the same in {', '.join(one.run.given for one in group)}" for group in row if len(group) > 1
        ]
        short = max(_short_lists(group[0], k, kept) for group in row)
        if short:
            sentences.append(f"{label} ranks fewer than {k} items for {short:,} users, whose missing places are misses")
    return sentences


def _short_lists(ranking: Ranking, k: int, kept: np.ndarray) -> int:
    """Users with fewer than k items; those without a list are told of on their own."""
    short = ranking.lengths < k if ranking.absent is None else (ranking.lengths < k) & ~ranking.absent
    among = np.zeros(len(short), dtype=bool)
    among[kept] = True
    return int(ranking.users.filter(pl.Series(short & among)).n_unique())


def about_settings(labels: Sequence[str], rows: Sequence[Sequence[Sequence[Ranking]]]) -> list[str]:
    """All keys in which runs of one experiment differ, where the rows' names have room for the first alone."""
    by_experiment: dict[str, dict[str, tuple[ComparedRun, list[str]]]] = {}
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
        differing = "; ".join(f"{key}: {', '.join(printable(value, 60) for value in values)}" for key, values in first)
        names = ", ".join(dict.fromkeys(told_labels[0] for _, told_labels in runs.values()))
        notes.append(f"configurations of {experiment} differ ({names}) in {differing}{more}")
    return notes


# Who competes: the rows of a table, on the same examples, and what is to be measured of them.


_NAMED = {False: "with the history in them", True: "without items of the history"}


@dataclass(frozen=True)
class Row:
    """A recommender.

    Attributes:
        label: its name in the table.
        stage: what it is.
        runs: the run, or the first of those in which it is the same; a run a seed where seeds are one row.
        ranks: (runs, examples) place of the target from 0 on, -1 where it was not ranked.
    """

    label: str
    stage: str
    runs: tuple[ComparedRun, ...]
    ranks: np.ndarray

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Those of the runs."""
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True)
class Contest:
    """Recommenders that were measured alike.

    Attributes:
        masked: whether items of the history were left out of the rankings.
        split: how the data were split; None if no run says it.
        rows: at least two.
        metrics: such as ``ndcg@10``.
        users: (examples,) a number per user.
        slices: (examples,) masks by name; empty without slices.
        against: the row to compare with; None leaves it to the numbers.
        part: ``test`` or ``valid``.
        notes: sentences on what a reader would otherwise take for granted.
    """

    masked: bool
    split: str | None
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    users: np.ndarray
    slices: dict[str, np.ndarray]
    against: int | None
    part: str
    notes: tuple[str, ...]


def find_contests(request: ComparisonRequest) -> list[Contest]:
    """A contest per protocol: with the history in the rankings, and without, where all runs have it.

    Rankings of another program are in the one without, and in the other only if they hold items of a history: lists
    that were masked have no equal there.

    Raises:
        UserError: a run, a file or a recommender is not there, or they cannot be compared; one line says why.
    """
    names, sources = _sources(request)
    runs = find_runs(names, request.root, request.seeds == "mean", request.part)
    _require_one_split(runs)
    _require_own_names(runs, sources)
    common = set.intersection(*(set(run.ks) for run in runs))
    metrics = wanted_metrics(request.metrics, sorted(common))
    protocols = _protocols(runs, request.protocol)
    like = next(iter(read_rankings(runs[0], protocols[0])))
    aligned = [read_source(source, like) for source in sources]
    masked_only = [one for one in aligned if one.histories and not one.repeats]
    contests = []
    for masked in protocols:
        apart = masked_only if not masked and request.protocol == "both" and len(protocols) > 1 else []
        beside = [one for one in aligned if one not in apart]
        if beside or not aligned:
            contests.append(_contest(runs, beside, masked, metrics, request, protocols, apart))
    return contests


def _sources(request: ComparisonRequest) -> tuple[list[str], list[Source]]:
    """Runs as they were named, and what is not a run."""
    runs, sources = [], []
    for argument in request.runs:
        name, rest = named(argument, request.root)
        if is_rankings_file(rest):
            sources.append(Source(name or rest.replace("\\", "/").rpartition("/")[2].partition(".")[0], rest, rest))
        else:
            runs.append(argument)
    for name, table in request.tables.items():
        sources.append(Source(name, str(table) if isinstance(table, str | Path) else name, table))
    if not runs:
        reason = f": {sources[0].given} is measured on a run's test users" if sources else ""
        raise UserError(f"name a run, too{reason}", exit_code=2)
    return runs, list({(source.label, source.given): source for source in sources}.values())


def _require_own_names(runs: Sequence[ComparedRun], sources: Sequence[Source]) -> None:
    """One name stands for one run or file, or for the seeds of one recipe."""
    of: dict[str, str] = {}
    for name, owner, given in [
        *((run.name, run.recipe or str(run.folder), run.given) for run in runs if run.name),
        *((source.label, source.given, source.given) for source in sources),
    ]:
        if of.setdefault(name, owner) != owner:
            raise UserError(f"{printable(name, 60)} is the name of two rows; {given} needs another", exit_code=2)


def _require_one_split(runs: Sequence[ComparedRun]) -> None:
    said: dict[str, str] = {}
    for run in runs:
        if run.split:
            said.setdefault(run.split, run.given)
    if len(said) > 1:
        (split, first), (other, second) = list(said.items())[:2]
        raise UserError(
            f"{first} was split by {split}, {second} by {other}: their tests are different questions; "
            f"train one of them again with data.split={split}"
        )


def _protocols(runs: Sequence[ComparedRun], wanted: str) -> list[bool]:
    asked = {"both": (False, True), "unmasked": (False,), "masked": (True,)}[wanted]
    protocols = [masked for masked in asked if all(masked in run.rankings for run in runs)]
    if protocols:
        return protocols
    lacks = next(run for run in runs if asked[0] not in run.rankings)
    has = next((run for run in runs if asked[0] in run.rankings), None)
    beside = f", {has.given} has them" if has else ""
    again = f"evaluation.mask_history={str(asked[0]).lower()}"
    if lacks.part == "test":
        again = f"this version, which keeps both (or with {again})"
    raise UserError(
        f"{lacks.given} has no rankings {_NAMED[asked[0]]}{beside}; evaluate it again with {again}, "
        "or choose with --protocol"
    )


def _contest(
    runs: Sequence[ComparedRun],
    aligned: Sequence[Aligned],
    masked: bool,
    metrics: Sequence[str],
    request: ComparisonRequest,
    protocols: Sequence[bool],
    apart: Sequence[Aligned],
) -> Contest:
    groups: list[list[Ranking]] = []
    for run in runs:
        for ranking in read_rankings(run, masked):
            if groups:
                require_same_examples(groups[0][0], ranking)
            _enter(ranking, groups)
    first = groups[0][0]
    theirs = [one.ranking(masked) for one in aligned]
    groups += [[ranking] for ranking in theirs]
    together = request.seeds == "mean"
    rows = _by_recipe(groups) if together else [[group] for group in groups]
    one_artifact: list[str] = []
    if len(rows) < 2:
        rows, one_artifact = identical_rows(first, rows[0])
    labels = row_labels([(row[0][0].run, row[0][0].stage) for row in rows], seeds=not together)
    slices, about_slices = _slices(runs, first, request.slices)
    k = max(int(name.partition("@")[2]) for name in metrics)
    examples, about_missing = kept_examples(theirs, len(first.users), request.missing)
    return Contest(
        masked=masked,
        split=next((run.split for run in runs if run.split), None),
        rows=tuple(_row(label, row, together, examples) for label, row in zip(labels, rows, strict=True)),
        metrics=tuple(metrics),
        users=first.users.rank("dense").to_numpy()[examples],
        slices={name: mask[examples] for name, mask in slices.items() if mask[examples].any()},
        against=_reference(request.against, labels, rows),
        part=request.part,
        notes=(
            *one_artifact,
            *(note for ranking in theirs for note in ranking.notes),
            *about_missing,
            *(() if one_artifact else about_lists(labels, rows, k, examples)),
            *about_settings(labels, rows),
            *about_slices,
            *(_without(runs, not masked) if len(protocols) == 1 and request.protocol == "both" else ()),
            *(
                f"{one.source.label} lists no item of any history, so it is in the table without them only"
                for one in apart
            ),
        ),
    )


def _enter(ranking: Ranking, groups: list[list[Ranking]]) -> None:
    """A recommender that ranks as the same one of another run does is that one, unless it has a name of its own."""
    for group in groups:
        same = group[0].stage == ranking.stage and group[0].run.name == ranking.run.name
        if same and group[0].items.equals(ranking.items):
            group.append(ranking)
            return
    groups.append([ranking])


def _by_recipe(groups: Sequence[list[Ranking]]) -> list[list[list[Ranking]]]:
    """Recommenders of the same name, stage and recipe, by their seeds."""
    rows: dict[tuple[str, str, str], list[list[Ranking]]] = {}
    for group in groups:
        rows.setdefault((group[0].run.name, group[0].stage, group[0].run.recipe), []).append(group)
    return [sorted(row, key=lambda group: group[0].run.seed or 0) for row in rows.values()]


def _row(label: str, groups: Sequence[Sequence[Ranking]], together: bool, kept: np.ndarray) -> Row:
    """One that ranks the same whatever the seed has each of its seeds, so that others of each are compared with it."""
    members = [
        ranking
        for group in groups
        for ranking in ({one.run.seed: one for one in reversed(group)}.values() if together else group[:1])
    ]
    members.sort(key=lambda ranking: ranking.run.seed or 0)
    return Row(
        label, members[0].stage, tuple(one.run for one in members), np.stack([one.ranks[kept] for one in members])
    )


def _reference(asked: str | None, labels: list[str], rows: list[list[list[Ranking]]]) -> int | None:
    """The row that a label, RUN:STAGE or a stage of one row names."""
    if asked is None:
        return None
    names = [{label, *(one.name for group in row for one in group)} for label, row in zip(labels, rows, strict=True)]
    candidates = [number for number, row_names in enumerate(names) if asked in row_names]
    candidates = candidates or [number for number, row in enumerate(rows) if asked == row[0][0].stage]
    if len(candidates) == 1:
        return candidates[0]
    hint = nearest(asked, labels)
    advice = f"did you mean {hint}?" if hint and not candidates else f"the rows are {', '.join(labels)}"
    raise UserError(
        f"--against {asked}: {'several rows are' if candidates else 'no row is'} called so; {advice}", exit_code=2
    )


def _without(runs: Sequence[ComparedRun], masked: bool) -> list[str]:
    """Why there is no table of the other protocol, where a run has its part of it."""
    lacking = [run.given for run in runs if masked not in run.rankings]
    if len(lacking) == len(runs):
        return []
    return [
        f"no table {_NAMED[masked]}: {', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no such rankings"
    ]


def _slices(runs: Sequence[ComparedRun], like: Ranking, wanted: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Masks by name, and what is to be said of them."""
    if wanted == "none":
        return {}, []
    way = wanted or "one-hop"
    slices_of_runs = [(run, labels) for run in runs if (labels := read_slices(run, SLICES[way], like)) is not None]
    if not slices_of_runs:
        if wanted is None:
            return {}, []
        raise UserError(
            f"no run tells slices by {way} ({runs[0].examples.name}); evaluate one again, or use --slices none"
        )
    first, labels = slices_of_runs[0]
    for run, others in slices_of_runs[1:]:
        differing = int(np.count_nonzero(labels != others))
        if differing:
            problem = f"{first.given} and {run.given} slice {differing:,} examples differently by {way}"
            if wanted is None:
                return {}, [f"{problem}, so slices are left out"]
            raise UserError(f"{problem}; use --slices none, or compare runs of the same relations")
    return {name: labels == name for name in sorted(set(labels.tolist()) - {""}, key=_by_number)}, []


def _by_number(name: str) -> tuple[int, str]:
    digits = name.split("-")[0].rstrip("+")
    return (int(digits) if digits.isdecimal() else 0), name
