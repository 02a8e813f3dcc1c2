"""Rankers that search: constrained beam search over Semantic IDs, whatever the model and its prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dig.evaluation.rankers import Ranking, padded_rows
from dig.generation import CatalogueTrie, NotFiniteError, beam_search
from dig.generation.trie import Restriction

__all__ = ["BeamRanker"]


class SearchPrompts(Protocol):
    """A batch of prompts."""

    input_ids: Tensor
    attention_mask: Tensor


class BeamRanker(ABC):
    """Ranks items after a history by the beams that a model finds in the catalogue's trie.

    Args:
        model: a decoder or an encoder-decoder that :func:`~dig.generation.beam_search` takes.
        tokens: (items, levels) how the model spells items.
        num_beams: beams; a request for more items widens the search.
        batch_size: histories per batch.
        device: where to compute; None takes a GPU if there is one.
    """

    def __init__(
        self, model: Any, tokens: Tensor, num_beams: int, batch_size: int, device: torch.device | str | None
    ) -> None:
        self.model = model.eval()
        self.trie = CatalogueTrie(tokens, duplicates=True)
        self.num_beams, self.batch_size = num_beams, batch_size
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @abstractmethod
    def prompts(self, histories: Sequence[np.ndarray]) -> SearchPrompts:
        """What the model is told of each history."""

    def to(self, device: torch.device | str) -> Self:
        """Moves model and trie."""
        self.device = torch.device(device)
        self.trie = self.trie.to(self.device)
        self.model = self.model.to(self.device)
        return self

    def rank(self, histories: Sequence[np.ndarray], k: int) -> Ranking:
        """Items (batch, k), -1 beyond the catalogue, and their log-probabilities (batch, k), on the CPU.

        Raises:
            NotFiniteError: the model's logits are not numbers, with the histories.
        """
        return self._rank(histories, k, unseen=False)

    def rank_unseen(self, histories: Sequence[np.ndarray], k: int) -> Ranking:
        """The same without the items of each history; the others' probabilities are renormalised."""
        return self._rank(histories, k, unseen=True)

    def rank_among(self, histories: Sequence[np.ndarray], k: int, items: Tensor, unseen: bool = False) -> Ranking:
        """The ranking of some items (n,) int64 only, what is in stock, say; ``unseen`` leaves the history out, too.

        The search never enters a branch without one of them, and probabilities are renormalised at every step, so they
        are those of the items that are left.
        """
        return self._rank(histories, k, unseen, items.to(self.device))

    @torch.inference_mode()
    def _rank(self, histories: Sequence[np.ndarray], k: int, unseen: bool, among: Tensor | None = None) -> Ranking:
        items, scores = [], []
        beams = min(max(self.num_beams, k), self.trie.num_items)
        missing = (0, max(0, k - beams))
        for start in range(0, len(histories), self.batch_size):
            batch = histories[start : start + self.batch_size]
            prompts = self.prompts(batch)
            try:
                result = beam_search(
                    self.model,
                    prompts.input_ids.to(self.device),
                    prompts.attention_mask.to(self.device),
                    self.trie,
                    beams,
                    restriction=self._restriction(batch, unseen, among),
                )
            except NotFiniteError as error:
                raise NotFiniteError([start + row for row in error.rows]) from None
            items.append(F.pad(result.items, missing, value=-1)[:, :k].cpu())
            scores.append(F.pad(result.log_probs, missing, value=float("-inf"))[:, :k].cpu())
        return torch.cat(items), torch.cat(scores)

    def _restriction(self, batch: Sequence[np.ndarray], unseen: bool, among: Tensor | None) -> Restriction | None:
        if not unseen and among is None:
            return None
        banned = padded_rows(batch) if unseen else torch.full((len(batch), 1), -1)
        return self.trie.without(banned.to(self.device), among)
