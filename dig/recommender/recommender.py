"""Answers in item ids, and the interests that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.config import RECOMMENDERS, Config, UserError, load_run_config
from dig.config.recommenders import resolve
from dig.engine.catalogue import Catalogue, check_catalogue
from dig.engine.console import say, warn
from dig.engine.proof import RunProof
from dig.evaluation.rankers import Ranker, Ranking, rank_among, rank_unseen
from dig.interests.profiles import InterestProfiles, Reason, WeightedInterest
from dig.recommender.requests import read_count, read_flag, read_histories, read_history, read_items
from dig.recommender.tables import read_run_table

if TYPE_CHECKING:
    import torch

    from dig.evaluation.rankers import Ranker

__all__ = [
    "catalogue_size",
    "load_ranker",
    "Answers",
    "Question",
    "Recommender",
]


_SIZES = ("num_items", "trie", "counts", "output_table")
"""What tells how many items a ranker knows."""


def load_ranker(stage: str, folder: Path, config: Config, device: torch.device | str | None = None) -> Ranker:
    """The recommender that a stage has trained.

    Args:
        stage: its name, a baseline or a policy.
        folder: its model folder.
        config: of the run.
        device: where to compute; None takes a GPU for a policy if there is one.

    Raises:
        UserError: a file is missing, damaged, or of another model.
    """
    spec = RECOMMENDERS[stage]
    loader = resolve(spec, "loader") if spec.model is None else resolve(spec, "model")
    try:
        ranker: Ranker = loader(folder, config, device) if spec.model is None else loader.load(folder)
    except UserError:
        raise
    except Exception as error:  # whatever a library says to files that no reader of ours understands
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{folder} cannot be loaded: {reason}") from error
    lacks = "a method rank(histories, k)" if not callable(getattr(ranker, "rank", None)) else ""
    if not any(hasattr(ranker, attribute) for attribute in _SIZES):
        lacks = lacks or "num_items, the size of its catalogue"
    if lacks:
        field = "loader" if spec.model is None else "model"
        raise UserError(f"{spec.wrong}: {field}: expected {lacks}, a {type(ranker).__name__} has none", exit_code=2)
    return ranker


def catalogue_size(ranker: Any) -> int:
    """The number of items that a recommender ranks."""
    if hasattr(ranker, "num_items"):
        return int(ranker.num_items)
    if hasattr(ranker, "trie"):
        return int(ranker.trie.num_rows)
    if hasattr(ranker, "counts"):
        return len(ranker.counts)
    return len(ranker.output_table())


_BEST_FIRST = tuple(reversed(RECOMMENDERS))  # the last trained first
_OF_INTERESTS = ("item_id", "text", "label", "score", "confidence")
_SELDOM = 0.01
"""Share of purchases that repeat one of the same customer, below which nobody is said to buy twice."""
_SCORES = 2**27
"""Scores that are held at once, of rankers that score the whole catalogue."""


class Question(NamedTuple):
    """What is asked of every history: how many items, without those of the history, among which rows of the catalogue
    (None for all)."""

    k: int
    unseen: bool
    among: Tensor | None


class Answers(NamedTuple):
    """Catalogue rows (batch, k), -1 where there is no further item, and their scores, -inf there; on the CPU."""

    items: Tensor
    scores: Tensor

    @property
    def counts(self) -> Tensor:
        """(batch,) how many items each history got."""
        return (self.items >= 0).sum(dim=1)


class Recommender:
    """Recommends items after histories of item ids.

    Args:
        ranker: ranks catalogue rows.
        item_ids: the catalogue's ids in order.
        interests: labelled interests, which explain recommendations; None explains none.
        stage: whose answers these are.
        users: a run's ``users.parquet``, which tells whether anybody buys an item twice; None tells nothing.

    Attributes:
        rows: the catalogue row of each item id.
    """

    def __init__(
        self,
        ranker: Ranker,
        item_ids: Sequence[str],
        interests: pl.DataFrame | None = None,
        stage: str | None = None,
        users: Path | None = None,
    ) -> None:
        self.ranker = ranker
        self.stage = stage
        self._users = users
        self._told = False
        self.item_ids = list(item_ids)
        self.profiles = None if interests is None else InterestProfiles(interests)
        self.rows = {item_id: row for row, item_id in enumerate(self.item_ids)}

    @classmethod
    def from_run(
        cls, path: str | Path, stage: str | None = None, device: torch.device | str | None = None
    ) -> Recommender:
        """Loads the last trained stage of a run, or a named one.

        Args:
            path: the run's folder.
            stage: `grpo`, `sft` or a baseline.
            device: where to compute; None takes a GPU if there is one.

        Raises:
            UserError: if the folder is not a run, the stage was not trained in it, the device is not there, or a file
                that is read is not what the run was left with.
        """
        run = Path(path)
        _check_device(device)
        if not (run / "config.yaml").is_file():
            raise UserError(f"{run} is not a run: it has no config.yaml{_unfinished(run)}")
        stages = [name for name in _BEST_FIRST if (run / "checkpoints" / name).is_dir()]
        if stage is not None and stage not in RECOMMENDERS and (run / "checkpoints" / stage).is_dir():
            raise UserError(f"{run}: {stage} is of a package that is not installed here; it has {', '.join(stages)}", 2)
        if stage is not None and stage not in stages:
            advice = f"it has {', '.join(stages)}" if stages else _what_is_there(run)
            raise UserError(f"{run} holds no trained stage {stage}; {advice}", exit_code=2)
        if not stages:
            raise UserError(f"{run} holds no trained stage {' or '.join(_BEST_FIRST)}; {_what_is_there(run)}")
        if not (run / "items.parquet").is_file():
            raise UserError(f"{run} has no items.parquet; the same dig.train command writes it again from what is kept")
        chosen = stage or stages[0]
        proof, folder = RunProof(run), run / "checkpoints" / chosen
        proof.require("config.yaml")
        config = load_run_config(run)
        with proof.checking(f"checkpoints/{chosen}"):
            items = read_run_table(run / "items.parquet", ["item_id"])["item_id"].to_list()
            catalogue = Catalogue.of(items)
            proof.require_catalogue(catalogue, "items.parquet")
            check_catalogue(folder, catalogue, "items.parquet")
            ranker = load_ranker(chosen, folder, config, device)
            _check_size(run / "items.parquet", items, chosen, catalogue_size(ranker))
            proof.require_present("interests.parquet")
            interests = run / "interests.parquet"
            interest_table = read_run_table(interests, _OF_INTERESTS) if interests.is_file() else None
        return cls(ranker, items, interest_table, chosen, run / "users.parquet")

    @cached_property
    def repeat_share(self) -> float | None:
        """Share of the data's purchases that repeat an item of the same customer; None where no data are known.

        Raises:
            UserError: the run's ``users.parquet`` is missing or cannot be read.
        """
        if self._users is None:
            return None
        if not self._users.is_file():
            advice = "say unseen=true or unseen=false, or have the same dig.train command write it again"
            raise UserError(f"{self._users} is missing, which tells whether anybody buys twice: {advice}")
        items = read_run_table(self._users, ["items"])["items"].drop_nulls()
        purchases = int(items.list.len().sum())
        return (purchases - int(items.list.n_unique().sum())) / purchases if purchases else 0.0

    @property
    def leaves_out_history(self) -> bool:
        """What ``unseen=None`` means: whether less than a hundredth of the data's purchases are of an item that the
        customer had bought before. Without data it is False."""
        return self.repeat_share is not None and self.repeat_share < _SELDOM

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        unseen: bool | None = None,
        *,
        stock: Any = None,
        unknown: str = "drop",
        empty: str = "skip",
    ) -> tuple[list[list[str]], Tensor]:
        """The next items after each history.

        Args:
            histories: item ids of each customer, oldest first: lists, tuples, generators, the rows of an array, a
                column of lists. One history alone is refused, and so are sets, which have no order. Whole numbers
                stand for the ids that are written like them. No customers get no answers.
            k: items to recommend, a whole number above 0.
            unseen: leave out the items of the history; None does where the data say that nobody buys twice
                (:attr:`leaves_out_history`), and says so.
            stock: ids of the only items that may be recommended, in any order; those that the catalogue lacks are
                counted in a warning. A policy's probabilities are those of the items in stock. None is the whole
                catalogue.
            unknown: ``drop`` leaves out items of histories that the catalogue lacks and says so in one warning;
                ``refuse`` refuses them all.
            empty: ``skip`` gives a customer without a known item no answers, and says so in one warning; ``refuse``
                refuses them all.

        Returns:
            Item ids (batch, up to k), best first, and their scores (batch, k), -inf where there is no further item; of
            the policies log-probabilities.

        Raises:
            UserError: with one line, for histories, ``k`` or a stock that are none, for items of which the catalogue
                has not one, or a score that is not a number.
        """
        question = self.question(k, unseen, stock)
        rows = read_histories(histories, self.rows, unknown, empty)
        answers = self.answer(rows, question)
        ids = [[self.item_ids[row] for row in ranked if row >= 0] for ranked in answers.items.tolist()]
        asked = [len(history) > 0 for history in rows]
        short = int((answers.counts[asked] < question.k).sum()) if any(asked) else 0
        if short:
            warn(self.told_short(short, sum(asked), question))
        return ids, answers.scores

    def question(self, k: Any, unseen: Any = None, stock: Any = None) -> Question:
        """What is asked of every history, read as :meth:`recommend` reads it; ``unseen=None`` is settled and said."""
        unseen, k = read_flag(unseen, "unseen"), read_count(k, len(self.item_ids))
        among = None if stock is None else read_items(stock, self.rows, "stock")
        if unseen is None:
            unseen = self.leaves_out_history
            if unseen and not self._told:
                self._told = True
                said = "so what a customer has bought is left out; unseen=false ranks it, too"
                say(f"{self.repeat_share:.1%} of the purchases repeat an item, {said}")
        return Question(k, unseen, among)

    def answer(self, rows: Sequence[np.ndarray], question: Question) -> Answers:
        """Ranks after histories of catalogue rows; an empty one gets no answers."""
        items = torch.full((len(rows), question.k), -1)
        scores = torch.full((len(rows), question.k), float("-inf"))
        places = [place for place, history in enumerate(rows) if len(history)]
        step = max(256, _SCORES // max(len(self.item_ids), 1))
        for start in range(0, len(places), step):
            batch = places[start : start + step]
            ranked, values = self._ranking([rows[place] for place in batch], question)
            items[batch], scores[batch] = ranked.cpu(), values.cpu().float()
        return Answers(items, scores)

    def known_rows(self, histories: Any) -> list[np.ndarray]:
        """Catalogue rows of histories, of which none may be empty or have an unknown item.

        Raises:
            UserError: one is, or has.
        """
        return read_histories(histories, self.rows, "refuse", "refuse")

    def told_short(self, short: int, asked: int, question: Question) -> str:
        """That some got fewer answers than they were to get, in words."""
        left = f"{len(self.item_ids):,} items" if question.among is None else f"{len(question.among):,} items in stock"
        less = ", less those of the history" if question.unseen else ""
        return f"{short:,} of {asked:,} customers get fewer than k={question.k} answers: there are {left}{less}"

    def interests(self, history: Any, limit: int = 8, *, unknown: str = "drop") -> list[WeightedInterest]:
        """What a history says its customer is after: good interests with their shares, the strongest first.

        Args:
            history: item ids, oldest first, in whatever :meth:`recommend` takes as one.
            limit: interests at most.
            unknown: as of :meth:`recommend`.

        Raises:
            UserError: the history has no known item, or there are no interests to tell by.
        """
        return self._profiles().interests(self._ids(history, unknown), limit)

    def explain(
        self, history: Any, items: Sequence[str], limit: int = 3, *, unknown: str = "drop"
    ) -> list[list[Reason]]:
        """Why each item may suit the customer: the good interests that it shares with what they bought.

        It tells what history and item have in common, not what moved the model; an item that shares no interest has no
        reason.

        Args:
            history: item ids, oldest first, in whatever :meth:`recommend` takes as one.
            items: recommended items.
            limit: reasons per item at most.
            unknown: as of :meth:`recommend`, for the history.

        Raises:
            UserError: as :meth:`interests`, or one of the items is unknown.
        """
        history = self._ids(history, unknown)
        if items is None or isinstance(items, str | bytes):
            raise UserError(f"items is {items!r} and not a list of item ids", exit_code=2)
        listed = list(items)
        recommended = self._ids(listed, "refuse") if listed else []
        return [self._profiles().reasons(history, item, limit) for item in recommended]

    def _ranking(self, rows: list[np.ndarray], question: Question) -> Ranking:
        k, unseen, among = question
        try:
            if among is not None:
                items, scores = rank_among(self.ranker, rows, k, among, unseen, len(self.item_ids))
            else:
                items, scores = rank_unseen(self.ranker, rows, k) if unseen else self.ranker.rank(rows, k)
        except _not_finite():
            raise self._broken() from None
        if scores.isnan().any():
            raise self._broken()
        return items, scores

    def _broken(self) -> UserError:
        return UserError(
            f"{self.stage or 'the recommender'} gives scores that are not numbers; its stage has to be trained again"
        )

    def _profiles(self) -> InterestProfiles:
        if self.profiles is None:
            raise UserError("this recommender was made without interests; give it a run's interests.parquet")
        return self.profiles

    def _ids(self, history: Any, unknown: str) -> list[str]:
        return [self.item_ids[row] for row in read_history(history, self.rows, unknown).tolist()]


def _what_is_there(run: Path) -> str:
    """What a run without a recommender has, and which command trains one."""
    parts = {"semantic_ids.parquet": "Semantic IDs", "interests.parquet": "interests", "items.parquet": "a catalogue"}
    has = [what for name, what in parts.items() if (run / name).is_file()]
    command = f"python -m dig.train experiment={run / 'config.yaml'} stages=[sft,grpo,report]"
    return f"it has {', '.join(has) if has else 'none'}; this trains one: {command}"


def _unfinished(run: Path) -> str:
    """Whether that is because nothing has ended there."""
    empty = run.is_dir() and not any(path for path in run.iterdir() if not path.name.startswith("."))
    return "; it is empty, as of a training that has not ended: the same dig.train command resumes it" if empty else ""


def _check_device(device: torch.device | str | None) -> None:
    """Puts a tensor there, so that a device which is missing is a line and not a traceback behind the model's."""
    if device is None:
        return
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].strip()[:150] or type(error).__name__
        raise UserError(
            f"device={device} cannot be used here ({reason}); device=None or 'cpu' can", exit_code=2
        ) from None


def _not_finite() -> type[Exception]:
    """What a search raises; imported once something is raised, since the search's own imports take seconds."""
    from dig.generation import NotFiniteError

    return NotFiniteError


def _check_size(path: Path, items: list[str], stage: str, size: int) -> None:
    """A table of another catalogue; runs of old versions have no fingerprint that tells."""
    different = len(set(items))
    if len(items) != size or different != size:
        rows = f"{len(items):,} rows of {different:,} items"
        raise UserError(f"{path} has {rows}, and {stage} was trained on {size:,}; they are not of one run")
