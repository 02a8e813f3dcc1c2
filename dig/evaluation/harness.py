"""The one evaluation that measures every recommender: same users, same order, full ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dig.console import track
from dig.evaluation.ranking import ranking_metrics

__all__ = ["Evaluation", "Ranker", "evaluate"]


class Ranker(Protocol):
    """Ranks the catalogue after each history; the Recommender protocol on catalogue rows.

    One that can leave the history out by itself has ``rank_unseen`` with the same arguments; of others, more items are
    asked for and those of the history dropped.
    """

    def rank(self, histories: Sequence[np.ndarray], k: int) -> tuple[Tensor, Tensor]:
        """Items (batch, k), best first, -1 where there is none, and their scores (batch, k)."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: ``hr@5`` and so on.
        ranked: (users, k) item rows, best first.
        scores: (users, k).
    """

    metrics: dict[str, float]
    ranked: Tensor
    scores: Tensor


def evaluate(
    ranker: Ranker,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    ks: list[int],
    depth: int,
    batch_size: int,
    mask_history: bool,
    description: str,
) -> Evaluation:
    """Ranks after every history and measures where the targets stand.

    Args:
        ranker: what is measured.
        histories: (users,) catalogue rows.
        targets: (users,) catalogue rows.
        ks: cut-offs.
        depth: length of the rankings that are kept, at least the largest cut-off.
        batch_size: users a batch.
        mask_history: leave items of the history out.
        description: text of the progress bar.

    Raises:
        ValueError: without users, for a NaN score, or when a ranking names an item twice.
    """
    if len(histories) == 0:
        raise ValueError("there are no users to evaluate")
    metrics = ranking_metrics(ks, sync_on_compute=False)  # one rank evaluates; others may have ended
    ranked, scores = [], []
    for start in track(range(0, len(histories), batch_size), description):
        batch = histories[start : start + batch_size]
        rank = _rank_unseen(ranker) if mask_history else ranker.rank
        found, values = rank(batch, depth)
        if torch.isnan(values).any():
            raise ValueError(f"user {start + int(torch.isnan(values).any(dim=1).nonzero()[0])} has a NaN score")
        _check_distinct(found, start)
        metrics.update(found.cpu(), torch.from_numpy(np.asarray(targets[start : start + batch_size])))
        ranked.append(found.cpu())
        scores.append(values.float().cpu())
    results = {name: float(value) for name, value in metrics.compute().items()}
    return Evaluation(results, torch.cat(ranked), torch.cat(scores))


def _rank_unseen(ranker: Ranker) -> Callable[[Sequence[np.ndarray], int], tuple[Tensor, Tensor]]:
    if hasattr(ranker, "rank_unseen"):
        return ranker.rank_unseen

    def rank(histories: Sequence[np.ndarray], k: int) -> tuple[Tensor, Tensor]:
        extra = max(len(np.unique(history)) for history in histories)
        return _without_history(*ranker.rank(histories, k + extra), histories, k)

    return rank


def _without_history(
    ranked: Tensor, scores: Tensor, histories: Sequence[np.ndarray], depth: int
) -> tuple[Tensor, Tensor]:
    """Drops items of the history, keeps the order, cuts at ``depth``."""
    longest = max(len(history) for history in histories)
    known = torch.full((len(histories), longest), -2)
    for row, history in enumerate(histories):
        known[row, : len(history)] = torch.from_numpy(history)
    known = known.to(ranked.device)
    drop = (ranked.unsqueeze(-1) == known.unsqueeze(1)).any(dim=-1)
    order = drop.long().argsort(dim=1, stable=True)[:, :depth]
    kept = ranked.masked_fill(drop, -1).gather(1, order)
    return kept, scores.masked_fill(drop, float("-inf")).gather(1, order)


def _check_distinct(ranked: Tensor, start: int) -> None:
    ordered = ranked.sort(dim=1).values
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(dim=1)
    if twice.any():
        raise ValueError(f"the ranking of user {start + int(twice.nonzero()[0])} names an item twice")
