"""Paths of a batch on their way down the trie, and the model's states behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dig.generation.factory import as_path_model
from dig.generation.path_model import PathModel
from dig.generation.trie import CatalogueTrie, Restriction

__all__ = ["Normalise", "NotFiniteError", "TrieWalk", "child_log_probs"]

Normalise = Literal["trie", "vocabulary"]
_NAMED = 8
"""Prompts that an error names."""


class NotFiniteError(ValueError):
    """A model gave logits that are not finite.

    Args:
        rows: places of the prompts in their batch.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"the model's logits are not finite for prompts {list(rows[:_NAMED])}")
        self.rows = list(rows)


def child_log_probs(
    paths: PathModel,
    hidden: Tensor,
    trie: CatalogueTrie,
    nodes: Tensor,
    depth: int,
    normalise: Normalise = "trie",
    temperature: float = 1.0,
    restriction: Restriction | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the allowed next nodes.

    Args:
        paths: the model.
        hidden: (…, width) states after the tokens that led to ``nodes``.
        trie: the catalogue.
        nodes: (…) nodes at one depth.
        depth: that depth.
        normalise: over the children that are allowed (``trie``) or over the model's whole vocabulary.
        temperature: divides the logits.
        restriction: items that each row of the batch may have.

    Returns:
        Children (…, max_children) and their log-probabilities, -inf where there is no child; a leaf's only child is
        itself with log-probability 0.
    """
    children, mask = trie.allowed(nodes, depth, restriction)
    if normalise == "trie":
        chosen = paths.child_logits(hidden, trie, nodes, children, depth) / temperature
        chosen = chosen.masked_fill(~mask, float("-inf"))
        total = chosen.logsumexp(dim=-1, keepdim=True)
        total = total.masked_fill(total == float("-inf"), 0.0)  # nothing is allowed: -inf, and not what -inf + inf is
    else:
        every = paths.logits(hidden) / temperature
        total = every.logsumexp(dim=-1, keepdim=True)
        slots = trie.slots_of(children).clamp_(max=trie.level_sizes[depth] - 1)
        chosen = every[..., trie.tokens_of_level(depth)].gather(-1, slots).masked_fill(~mask, float("-inf"))
    finished = torch.where(mask, 0.0, float("-inf"))
    return children, torch.where(trie.is_leaf(nodes).unsqueeze(-1), finished, chosen - total)


class TrieWalk:
    """Encodes prompts once and lets many paths per prompt walk from the root to the leaves, level by level.

    Args:
        model: any decoder-only transformers model, or a `PathModel`.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        paths: most paths per prompt.
        normalise: see :func:`child_log_probs`.
        temperature: see there.
        restriction: see there.

    Attributes:
        nodes: (batch, paths) where the paths stand; at first one path per prompt, at the root.

    Raises:
        ValueError: the trie has a token that the model lacks, or a prompt is too long.
    """

    def __init__(
        self,
        model: nn.Module | PathModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        trie: CatalogueTrie,
        paths: int,
        normalise: Normalise = "trie",
        temperature: float = 1.0,
        restriction: Restriction | None = None,
    ) -> None:
        self.path_model = as_path_model(model)
        self.path_model.check(trie.largest_token, attention_mask, trie.levels - 1)
        self.trie = trie
        self.normalise = normalise
        self.temperature = temperature
        self.restriction = restriction
        self.nodes = torch.zeros(len(input_ids), 1, dtype=torch.int64, device=input_ids.device)
        self._state = self.path_model.encode(input_ids, attention_mask, spare=paths * (trie.levels - 1))
        self._hidden = self._state.hidden.unsqueeze(1)
        self._depth = 0
        self._fed: Tensor | None = None  # (batch, paths) place of each path among those that were fed last

    def restart(self) -> None:
        """Back to the root; the prompts stay encoded."""
        self.nodes = self.nodes.new_zeros(len(self.nodes), 1)
        self._state.rewind()
        self._hidden = self._state.hidden.unsqueeze(1)
        self._depth, self._fed = 0, None

    @property
    def depth(self) -> int:
        """Levels that the paths have come down."""
        return self._depth

    @property
    def finished(self) -> bool:
        """Whether all paths stand at leaves."""
        return self._depth == self.trie.levels

    def children(self) -> tuple[Tensor, Tensor]:
        """Next nodes (batch, paths, children) of all paths and their log-probabilities."""
        return child_log_probs(
            self.path_model,
            self._hidden,
            self.trie,
            self.nodes,
            self._depth,
            self.normalise,
            self.temperature,
            self.restriction,
        )

    def step(self, nodes: Tensor, origin: Tensor) -> None:
        """Moves on to nodes (batch, n), each a child of, or the leaf that is, the path ``origin`` (batch, n)."""
        self._depth += 1
        self.nodes = nodes
        if self.finished:
            return
        fed = None if self._fed is None else self._fed.gather(1, origin)
        tokens = self.trie.tokens_at(nodes, self._depth - 1)
        if not self.trie.ends_at[self._depth]:
            self._hidden = self.path_model.feed(self._state, tokens, fed, self._depth - 1)
            self._fed = torch.arange(nodes.shape[1], device=nodes.device).expand_as(nodes)
            return
        # Some items end here: only paths that continue are fed, side by side, as few as the fullest row has.
        continues = ~self.trie.is_leaf(nodes)
        width = int(continues.sum(dim=1).max())
        if width == 0:
            self._depth = self.trie.levels
            return
        order = continues.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
        fed = None if fed is None else fed.gather(1, order)
        after = self.path_model.feed(self._state, tokens.gather(1, order), fed, self._depth - 1)
        hidden = after.new_zeros(*nodes.shape, after.shape[-1])
        self._hidden = hidden.scatter(1, order.unsqueeze(-1).expand_as(after), after)
        places = torch.arange(width, device=nodes.device).expand_as(order)
        self._fed = torch.zeros_like(nodes).scatter(1, order, places)
