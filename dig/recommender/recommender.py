"""Answers in item ids, and the interests that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.config import BASELINES, UserError, load_config, nearest_ids
from dig.evaluation.rankers import Ranker, rank_unseen
from dig.generation import NotFiniteError
from dig.interests.profiles import InterestProfiles, Reason, WeightedInterest
from dig.recommender.loading import load_ranker
from dig.recommender.tables import read_run_table

__all__ = ["Recommender"]

_BEST_FIRST = ("grpo", "sft", *reversed(BASELINES))  # the last trained first


class Recommender:
    """Recommends items after histories of item ids.

    Args:
        ranker: ranks catalogue rows.
        item_ids: the catalogue's ids in order.
        interests: labelled interests, which explain recommendations; None explains none.
        stage: whose answers these are.
    """

    def __init__(
        self, ranker: Ranker, item_ids: Sequence[str], interests: pl.DataFrame | None = None, stage: str | None = None
    ) -> None:
        self.ranker = ranker
        self.stage = stage
        self.item_ids = list(item_ids)
        self.profiles = None if interests is None else InterestProfiles(interests)
        self._rows = {item_id: row for row, item_id in enumerate(self.item_ids)}

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
            UserError: if the folder is no run, or the stage was not trained in it.
        """
        run = Path(path)
        if not (run / "config.yaml").is_file():
            raise UserError(f"{run} is no run: it has no config.yaml")
        there = [name for name in _BEST_FIRST if (run / "checkpoints" / name).is_dir()]
        if stage is not None and stage not in there:
            known = f"it has {', '.join(there)}" if there else "it has none"
            raise UserError(f"{run} holds no trained stage {stage}; {known}", exit_code=2)
        if not there:
            raise UserError(f"{run} holds no trained stage {' or '.join(_BEST_FIRST)}")
        if not (run / "items.parquet").is_file():
            raise UserError(f"{run} has no items.parquet; the same dig.train command writes it again from what is kept")
        chosen = stage or there[0]
        config = load_config(run / "config.yaml")
        ranker = load_ranker(chosen, run / "checkpoints" / chosen, config, device)
        interests = run / "interests.parquet"
        items = read_run_table(run / "items.parquet", ["item_id"])["item_id"]
        return cls(ranker, items.to_list(), read_run_table(interests) if interests.is_file() else None, chosen)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, unseen: bool = False
    ) -> tuple[list[list[str]], Tensor]:
        """The next items after each history.

        Args:
            histories: item ids of each customer, oldest first.
            k: items to recommend.
            unseen: leave out the items of the history.

        Returns:
            Item ids (batch, up to k), best first, and their scores (batch, k), -inf beyond the catalogue; of the
            policies log-probabilities.

        Raises:
            UserError: for an item that the catalogue lacks, with the nearest id, an empty history, or a score that is
                no number.
        """
        rows = [self._known_rows(history) for history in histories]
        try:
            items, scores = rank_unseen(self.ranker, rows, k) if unseen else self.ranker.rank(rows, k)
        except NotFiniteError:
            raise self._broken() from None
        if scores.isnan().any():
            raise self._broken()
        items = items.cpu()
        return [[self.item_ids[row] for row in ranked if row >= 0] for ranked in items.tolist()], scores.cpu()

    def interests(self, history: Sequence[str], limit: int = 8) -> list[WeightedInterest]:
        """What a history says its customer is after: good interests with their shares, the strongest first.

        Raises:
            UserError: as :meth:`recommend`, or there are no interests to tell by.
        """
        self._known_rows(history)
        return self._profiles().interests(history, limit)

    def explain(self, history: Sequence[str], items: Sequence[str], limit: int = 3) -> list[list[Reason]]:
        """Why each item may suit the customer: the good interests that it shares with what they bought.

        It tells what history and item have in common, not what moved the model; an item that shares no interest has no
        reason.

        Args:
            history: item ids, oldest first.
            items: recommended items.
            limit: reasons an item at most.

        Raises:
            UserError: as :meth:`interests`.
        """
        self._known_rows([*history, *items])
        return [self._profiles().reasons(history, item, limit) for item in items]

    def _broken(self) -> UserError:
        return UserError(f"{self.stage or 'the recommender'} gives scores that are no numbers; its stage has to be "
                         "trained again")  # fmt: skip

    def _profiles(self) -> InterestProfiles:
        if self.profiles is None:
            raise UserError("this recommender was made without interests; give it a run's interests.parquet")
        return self.profiles

    def _known_rows(self, history: Sequence[str]) -> np.ndarray:
        if not history:
            raise UserError("a history is empty; there is nothing to recommend from")
        unknown = [item for item in history if item not in self._rows]
        if unknown:
            raise UserError(f"the catalogue has no item {unknown[0]!r}{nearest_ids(unknown[0], self._rows)}", 2)
        return np.array([self._rows[item] for item in history], dtype=np.int64)
