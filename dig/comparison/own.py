"""A recommender of one's own: its rankings of a run's test as a file for ``dig.compare``, and comparisons in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dig.comparison.contest import find_contests
from dig.comparison.files import refused
from dig.comparison.measure import measure
from dig.comparison.render import records
from dig.comparison.request import MISSING, PARTS, PROTOCOLS, SLICES, ComparisonRequest, checked_choice, checked_metrics
from dig.config import UserError
from dig.engine.artifacts import atomic_path
from dig.engine.catalogue import Catalogue
from dig.engine.console import printable
from dig.engine.proof import RunProof
from dig.evaluation.rankers import rank_unseen
from dig.received.tables import IDS, read_parquet_table

__all__ = ["compare", "write_rankings"]

_EXAMPLES = {"test": "examples.parquet", "valid": "examples_valid.parquet"}
_LENGTH = 20
_BATCH = 256

Lists = tuple[list[list[str]], list[list[float]] | None]
"""Item ids per history, best first, and their scores if there are any."""


def write_rankings(
    run: str | Path,
    recommender: Any,
    path: str | Path,
    k: int = _LENGTH,
    unseen: bool = False,
    part: str = "test",
    batch_size: int = _BATCH,
) -> pl.DataFrame:
    """Asks a recommender for every test user of a run, and writes its lists as a table that ``dig.compare`` reads.

    Args:
        run: the folder of a finished run, whose users, histories and targets are taken.
        recommender: has ``recommend(histories, k)``, which gives a list of item ids per history of item ids (or such
            lists and their scores, as :class:`dig.recommender.Recommender` does); or ``rank(histories, k)`` on
            catalogue rows, as every ranker and scorer of :mod:`dig.evaluation` has.
        path: the file, Parquet.
        k: length of the lists, at least the largest K that is to be compared at.
        unseen: leave the items of each history out of its list.
        part: ``test`` or ``valid``.
        batch_size: histories that are asked for at once.

    Returns:
        The table: ``example``, ``user``, ``target``, ``items`` and, where the recommender gives them, ``scores``.

    Raises:
        UserError: the run has no examples, or an answer is not one list of item ids per history, or has a score that
            is NaN; says of which user.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, it is {k}", exit_code=2)
    checked_choice("part", part, tuple(PARTS))
    folder = Path(run).expanduser()
    examples = _examples(folder, part)
    ask = _by_rows(recommender, folder) if not hasattr(recommender, "recommend") else _by_ids(recommender)
    items: list[list[str]] = []
    scores: list[list[float]] = []
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        lists, values = ask(batch["history"].to_list(), k, unseen)
        if values is not None:
            _require_numbers(values, batch["user"], recommender)
        items += lists
        scores += values or []
    table = examples.select("example", "user", "target").with_columns(
        pl.Series("items", items, dtype=pl.List(pl.String))
    )
    if scores:
        table = table.with_columns(pl.Series("scores", scores, dtype=pl.List(pl.Float64)))
    target = Path(path).expanduser()
    try:
        with atomic_path(target) as temporary:
            table.write_parquet(temporary)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    return table


def compare(
    *runs: str | Path,
    rankings: Mapping[str, Any] | None = None,
    metrics: str | None = None,
    against: str | None = None,
    protocol: str = "both",
    missing: str = "miss",
    slices: str | None = None,
    part: str = "test",
    draws: int = 10_000,
    seed: int = 0,
    root: str | Path = "runs",
) -> pl.DataFrame:
    """What ``dig.compare --format csv`` writes, as a table: a row per recommender, metric and slice.

    Args:
        runs: run folders or experiments' names, with ``:stage``; files of rankings; each with ``name=`` before it.
        rankings: rankings of other programs by the names of their rows: a file, a polars or pandas DataFrame with user
            and items (or user, item and rank or score), or lists of items by user.
        metrics: such as ``hr@10,ndcg``; None takes HR and NDCG.
        against: name of the row to compare with; None takes the best.
        protocol: ``both``, ``unmasked`` or ``masked``.
        missing: what a user without a list is: ``miss``, or ``drop`` for left out of every row.
        slices: ``one-hop``, ``target``, ``history`` or ``none``.
        part: ``test`` or ``valid``.
        draws: resamplings for intervals and p-values.
        seed: of the resamplings.
        root: folder in which experiments are looked up.

    Returns:
        ``row``, ``metric``, ``slice``, ``value`` with its interval ``low`` and ``high``, ``difference`` to ``against``
        with its interval, ``p``, ``p_holm``, and what tells rows apart.

    Raises:
        UserError: what is named is not there, or cannot be compared.
    """
    for name, value, choices in (
        ("protocol", protocol, PROTOCOLS),
        ("missing", missing, MISSING),
        ("slices", slices, (*SLICES, "none")),
        ("part", part, tuple(PARTS)),
    ):
        checked_choice(name, value, choices)
    request = ComparisonRequest(
        runs=tuple(map(str, runs)),
        metrics=checked_metrics(metrics) if metrics else (),
        slices=slices,
        against=against,
        protocol=protocol,
        draws=draws,
        seed=seed,
        root=Path(root),
        part=part,
        missing=missing,
        tables=dict(rankings or {}),
    )
    tables = [measure(contest, draws, seed) for contest in find_contests(request)]
    return pl.DataFrame([record for table in tables for record in records(table)], infer_schema_length=None)


def _examples(folder: Path, part: str) -> pl.DataFrame:
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: it has no config.yaml", exit_code=2)
    path = folder / _EXAMPLES[part]
    if not path.is_file():
        raise UserError(
            f"{folder} has no {path.name}; evaluate again: python -m dig.train experiment={folder / 'config.yaml'}"
        )
    RunProof(folder).require(path.name)
    schema = {"example": pl.Int64, "user": pl.String, "target": pl.String, "history": IDS}
    return read_parquet_table(path, schema)


def _by_ids(recommender: Any) -> Callable[[list[list[str]], int, bool], Lists]:
    """Asks for item ids; where the history is left out, for as many more as it has items."""

    def ask(histories: list[list[str]], k: int, unseen: bool) -> Lists:
        depth = k + max(len(set(history)) for history in histories) if unseen else k
        answer = recommender.recommend(histories, depth)
        lists, values = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        if lists is None or len(lists) != len(histories):
            number = "no" if lists is None else f"{len(lists):,}"
            raise refused(type(recommender).__name__, f"it answered {len(histories):,} histories with {number} lists")
        if any(isinstance(ranked, str) or not hasattr(ranked, "__len__") for ranked in lists):
            raise refused(type(recommender).__name__, "recommend must give a list of item ids for each history")
        items, scores = [], []
        for at, (ranked, history) in enumerate(zip(lists, histories, strict=True)):
            places = [place for place, item in enumerate(ranked) if not (unseen and str(item) in history)][:k]
            items.append([str(ranked[place]) for place in places])
            scores.append([] if values is None else [float(values[at][place]) for place in places])
        return items, None if values is None else scores

    return ask


def _by_rows(recommender: Any, folder: Path) -> Callable[[list[list[str]], int, bool], Lists]:
    """Asks for catalogue rows."""
    if not hasattr(recommender, "rank"):
        raise refused(type(recommender).__name__, "a recommender has recommend(histories, k), or rank(histories, k)")
    path = folder / "items.parquet"
    if not path.is_file():
        raise UserError(f"{folder} has no items.parquet, which says which item a catalogue row is")
    proof = RunProof(folder)
    proof.require(path.name)
    ids = read_parquet_table(path, {"item_id": pl.String})["item_id"].to_list()
    proof.require_catalogue(Catalogue.of(ids), path.name)
    rows = {item: row for row, item in enumerate(ids)}

    def ask(histories: list[list[str]], k: int, unseen: bool) -> Lists:
        rows_per_user = [np.array([rows[item] for item in history], dtype=np.int64) for history in histories]
        ranked, scores = rank_unseen(recommender, rows_per_user, k) if unseen else recommender.rank(rows_per_user, k)
        items, values = [], []
        for row, each in zip(ranked.tolist(), scores.tolist(), strict=True):
            places = [place for place, item in enumerate(row) if item >= 0]
            items.append([ids[row[place]] for place in places])
            values.append([each[place] for place in places])
        return items, values

    return ask


def _require_numbers(scores: Sequence[Sequence[float]], users: pl.Series, recommender: Any) -> None:
    for user, values in zip(users.to_list(), scores, strict=True):
        if any(value != value for value in values):
            shown = printable(user, 60)
            raise refused(type(recommender).__name__, f"it scores an item of user {shown} with NaN")
