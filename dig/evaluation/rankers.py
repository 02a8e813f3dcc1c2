"""What can be evaluated: rankers, and scorers, whose scores of the whole catalogue give both protocols at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dig.engine.lazy import numpy as np
from dig.engine.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ranker", "Ranking", "Scorer", "padded_rows", "rank_among", "rank_kept", "rank_unseen", "top_items"]

Ranking: TypeAlias = "tuple[Tensor, Tensor]"
"""Items (batch, k), best first, -1 where there is none, and their scores (batch, k), -inf there."""


class Ranker(Protocol):
    """Ranks the catalogue after each history; the Recommender protocol on catalogue rows.

    One that can leave the history out by itself has ``rank_unseen`` with the same arguments, one that can keep to some
    items ``rank_among`` (:meth:`Scorer.rank_among`); of others, more items are asked for and the rest dropped.
    """

    def rank(self, histories: Sequence[np.ndarray], k: int) -> Ranking:
        """Items (batch, k), best first, -1 where there is none, and their scores (batch, k)."""
        ...


class Scorer(ABC):
    """A ranker that scores every item."""

    @abstractmethod
    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """(batch, items) float32 scores, the higher the better."""

    def rank(self, histories: Sequence[np.ndarray], k: int) -> Ranking:
        """Items (batch, k) and their scores (batch, k); items of the same score in catalogue order."""
        with torch.inference_mode():
            return top_items(self.scores(histories), k)

    def rank_unseen(self, histories: Sequence[np.ndarray], k: int) -> Ranking:
        """The same without the items of each history."""
        with torch.inference_mode():
            return top_items(_without(self.scores(histories), histories), k)

    def rank_both(self, histories: Sequence[np.ndarray], k: int) -> tuple[Ranking, Ranking]:
        """Both rankings of one scoring."""
        with torch.inference_mode():
            scores = self.scores(histories)
            return top_items(scores, k), top_items(_without(scores, histories), k)

    def rank_among(self, histories: Sequence[np.ndarray], k: int, items: Tensor, unseen: bool = False) -> Ranking:
        """The ranking of some items (n,) int64 only, what is in stock, say; ``unseen`` leaves the history out, too."""
        with torch.inference_mode():
            scores = self.scores(histories)
            others = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
            others[items.to(scores.device)] = False
            scores = _without(scores, histories) if unseen else scores
            return top_items(scores.masked_fill(others, float("-inf")), k)


def rank_kept(ranker: Ranker, histories: Sequence[np.ndarray], k: int) -> Ranking:
    """The ranking in which items of the history compete."""
    return ranker.rank(histories, k)


def rank_unseen(ranker: Ranker, histories: Sequence[np.ndarray], k: int) -> Ranking:
    """The ranking without the items of each history, whether or not the ranker can leave them out by itself."""
    if hasattr(ranker, "rank_unseen"):
        return ranker.rank_unseen(histories, k)
    extra = max(len(np.unique(history)) for history in histories)
    ranked, scores = ranker.rank(histories, k + extra)
    return _dropped(ranked, scores, _in_history(ranked, histories), k)


def rank_among(
    ranker: Ranker, histories: Sequence[np.ndarray], k: int, items: Tensor, unseen: bool, num_items: int
) -> Ranking:
    """The ranking of some items only, whether or not the ranker can keep to them by itself.

    Args:
        ranker: ranks catalogue rows.
        histories: (batch,) catalogue rows.
        k: items of a ranking.
        items: (n,) int64, what may be recommended.
        unseen: leave out the items of each history, too.
        num_items: size of the catalogue; one who cannot keep to some items is asked for all.
    """
    if hasattr(ranker, "rank_among"):
        ranking: Ranking = ranker.rank_among(histories, k, items, unseen)
        return ranking
    ranked, scores = ranker.rank(histories, max(k, num_items))
    drop = ~torch.isin(ranked, items.to(ranked.device))
    return _dropped(ranked, scores, drop | _in_history(ranked, histories) if unseen else drop, k)


def _in_history(ranked: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
    """Which of the items (batch, n) the history of their row has."""
    rows = padded_rows(histories).to(ranked.device)
    return ((ranked.unsqueeze(-1) == rows.unsqueeze(1)) & (rows.unsqueeze(1) >= 0)).any(dim=-1)


def _dropped(ranked: Tensor, scores: Tensor, drop: Tensor, k: int) -> Ranking:
    """The first k of a ranking without those that are dropped (batch, n)."""
    order = drop.long().argsort(dim=1, stable=True)[:, :k]
    rows = ranked.masked_fill(drop, -1).gather(1, order)
    return rows, scores.masked_fill(drop, float("-inf")).gather(1, order)


def padded_rows(histories: Sequence[np.ndarray]) -> Tensor:
    """Catalogue rows (batch, longest) int64, -1 after the end of each."""
    lengths = torch.tensor([len(history) for history in histories])
    rows = torch.full((len(histories), max(int(lengths.max()), 1)), -1)
    flat = np.concatenate([np.asarray(history, dtype=np.int64) for history in histories])
    rows[torch.arange(rows.shape[1]) < lengths.unsqueeze(1)] = torch.from_numpy(flat)
    return rows


def top_items(scores: Tensor, k: int) -> Ranking:
    """The k items of the highest scores (batch, items); equal scores in catalogue order, -inf is not an item, NaN
    stands first, where it is seen.

    ``topk`` leaves open which of equal scores it takes and in which order. So the few that it finds are put in order,
    and where the last place is contested the first of the catalogue are taken.
    """
    items = scores.shape[1]
    count = min(k, items)
    values, rows = scores.topk(min(k + 1, items), dim=1)
    last, rows = values[:, count - 1 : count], rows[:, :count]
    contested = (last == values[:, count:]).any(dim=1) & ~values[:, 0].isnan()  # topk puts NaN first
    if contested.any():
        of, bar = scores[contested], last[contested]
        above, level = of > bar, of == bar
        room = count - above.sum(dim=1, keepdim=True)
        taken = above | (level & (level.cumsum(dim=1) <= room))
        rows[contested] = taken.nonzero()[:, 1].view(-1, count)
    rows = rows.sort(dim=1).values
    values, places = scores.gather(1, rows).sort(dim=1, descending=True, stable=True)
    rows, values = rows.gather(1, places), values.float()
    rows = rows.masked_fill(values == float("-inf"), -1)
    pad = torch.nn.functional.pad
    return pad(rows, (0, k - count), value=-1), pad(values, (0, k - count), value=float("-inf"))


def _without(scores: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
    rows = padded_rows(histories).to(scores.device)
    user, place = (rows >= 0).nonzero(as_tuple=True)
    masked = scores.clone()
    masked[user, rows[user, place]] = float("-inf")
    return masked
