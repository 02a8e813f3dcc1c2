"""Trie-constrained beam search and scores of given items: prompts encoded once, the output layer computed on the
catalogue's tokens only. Both walk down the trie with the model's states behind each path."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dig.generation.factory import as_path_model
from dig.generation.path_model import PathModel
from dig.generation.trie import CatalogueTrie, Restriction

__all__ = [
    "Normalise",
    "NotFiniteError",
    "TrieWalk",
    "child_log_probs",
    "BeamResult",
    "beam_search",
    "Scores",
    "score",
    "score_catalogue",
    "score_with_entropy",
]


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

    Raises:
        ValueError: there is no such ``normalise``.
    """
    if normalise not in get_args(Normalise):
        raise ValueError(f"normalise is {' or '.join(get_args(Normalise))}, not {normalise!r}")
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
        if paths < 1:
            raise ValueError(f"num_beams and group_size must be at least 1, it is {paths}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"the temperature must be above 0, it is {temperature:g}")
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


@dataclass(frozen=True)
class BeamResult:
    """Ranked items.

    Attributes:
        items: (batch, beams) catalogue rows, best first, ties in catalogue order; -1 where there is no further item.
        log_probs: (batch, beams) log-probability of each item's path; -inf where there is no item.
    """

    items: Tensor
    log_probs: Tensor


@torch.no_grad()
def beam_search(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    num_beams: int = 20,
    normalise: Normalise = "trie",
    restriction: Restriction | None = None,
) -> BeamResult:
    """The most probable items after each prompt, found by beam search over the catalogue.

    Args:
        model: any decoder-only transformers model, bare or with adapters, or a `PathModel`; it is put in evaluation
            mode by the caller.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        num_beams: beams, which is also the number of ranked items.
        normalise: ``trie`` renormalises over the children that are allowed at each step; ``vocabulary`` keeps the
            plain softmax, as transformers' ``generate`` scores.
        restriction: items that each row may have, from ``trie.only`` or ``trie.without``. A row without any ends up
            with -1 and -inf throughout.

    Raises:
        NotFiniteError: the model's logits are not finite, with the rows.
        ValueError: a prompt is longer than the model allows, the trie has a token that the model lacks, or
            ``num_beams`` or ``normalise`` is not what it may be.
    """
    if num_beams > trie.num_items:
        warnings.warn(f"{num_beams} beams, but the catalogue has {trie.num_items} items: all are ranked", stacklevel=2)
    beams = min(num_beams, trie.num_items)
    walk = TrieWalk(model, input_ids, attention_mask, trie, beams, normalise, restriction=restriction)
    scores = torch.zeros(walk.nodes.shape, device=input_ids.device)
    while not walk.finished:
        children, log_probs = walk.children()
        scores, chosen = _best((scores.unsqueeze(-1) + log_probs).flatten(1), beams)
        walk.step(children.flatten(1).gather(1, chosen), chosen // children.shape[2])
    broken = scores.isnan().any(dim=1)
    if broken.any():
        raise NotFiniteError(broken.nonzero()[:, 0].tolist())
    items, log_probs = trie.items_at(walk.nodes, scores, beams, restriction)
    return _ordered(items, log_probs, num_beams)


def _best(candidates: Tensor, beams: int) -> tuple[Tensor, Tensor]:
    """The largest values (batch, beams) and their places; of equal values the first, whatever the device."""
    width = min(beams, candidates.shape[1])
    values, places = candidates.topk(width, dim=1)
    last = values[:, -1:]
    tied = (candidates >= last).sum(dim=1) > width  # more than fit: which of them topk takes is not defined
    if (tied & (last[:, 0] > float("-inf"))).any():
        ordered = candidates.sort(dim=1, descending=True, stable=True)
        values, places = ordered.values[:, :width], ordered.indices[:, :width]
    return values, places


def _ordered(items: Tensor, log_probs: Tensor, num_beams: int) -> BeamResult:
    """Best first, ties in catalogue order, cut or filled up to the number of beams."""
    items = items.masked_fill(log_probs == float("-inf"), -1)
    by_row = items.argsort(dim=1, stable=True)
    items, log_probs = items.gather(1, by_row), log_probs.gather(1, by_row)
    order = log_probs.argsort(dim=1, descending=True, stable=True)[:, :num_beams]
    items, log_probs = items.gather(1, order), log_probs.gather(1, order)
    missing = (0, num_beams - items.shape[1])
    return BeamResult(
        torch.nn.functional.pad(items, missing, value=-1),
        torch.nn.functional.pad(log_probs, missing, value=float("-inf")),
    )


@dataclass(frozen=True)
class Scores:
    """What a policy thinks of given items.

    Attributes:
        log_probs: (batch, group, levels) as of :func:`score`.
        entropy: (batch, group, levels) of the choice at each level, in nats and without a graph; 0 at levels that an
            item does not have.
    """

    log_probs: Tensor
    entropy: Tensor


def score(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    items: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probability of each level of each item, renormalised over the trie as sampling does.

    The items of a prompt attend to it under a block mask in one pass, which gives the gradients of the replicated
    computation at a fraction of its cost (the idea of Prefix Grouper, arXiv 2506.05433).

    Args:
        model: any decoder-only transformers model, or a `PathModel`.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        items: (batch, group) rows of the trie's catalogue.
        temperature: divides the logits.

    Returns:
        (batch, group, levels), 0 at levels that an item does not have.
    """
    return score_with_entropy(model, input_ids, attention_mask, trie, items, temperature).log_probs


def score_with_entropy(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    items: Tensor,
    temperature: float = 1.0,
) -> Scores:
    """:func:`score`, and how sure the policy is on the way."""
    path_model = as_path_model(model)
    path_model.check(trie.largest_token, attention_mask, trie.levels - 1)
    paths = trie.paths(items)  # (batch, group, levels)
    inner = paths[..., :-1].clamp(min=0).unbind(dim=-1)  # a finished path is fed anything; nothing reads it
    if inner:
        fed = torch.stack([trie.tokens_at(nodes, depth) for depth, nodes in enumerate(inner)], dim=-1)
        after_prompt, after_tokens = path_model.run_tree(input_ids, attention_mask, fed)
    else:
        after_prompt, after_tokens = path_model.encode(input_ids, attention_mask).hidden, None
    log_probs, entropies = [], []
    for depth in range(trie.levels):
        if depth == 0 or after_tokens is None:  # all paths of a prompt start alike: one choice for all of them
            hidden, parents = after_prompt.unsqueeze(1), torch.zeros_like(paths[:, :1, 0])
        else:
            hidden, parents = after_tokens[:, :, depth - 1], paths[..., depth - 1].clamp(min=0)
        children, of_children = child_log_probs(path_model, hidden, trie, parents, depth, temperature=temperature)
        target = paths[..., depth]
        present = target >= 0
        place = (target - children[..., 0]).clamp(min=0)  # children follow each other
        if depth == 0:
            chosen = of_children.squeeze(1).gather(1, place)
        else:
            chosen = of_children.gather(2, place.unsqueeze(2)).squeeze(2)
        log_probs.append(torch.where(present, chosen, torch.zeros_like(chosen)))
        entropies.append(torch.where(present, _entropy(of_children.detach()), 0.0))
    return Scores(torch.stack(log_probs, dim=-1), torch.stack(entropies, dim=-1))


@torch.no_grad()
def score_catalogue(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    normalise: Normalise = "trie",
    restriction: Restriction | None = None,
    chunk: int = 512,
) -> Tensor:
    """Log-probability of every item after each prompt, for catalogues small enough to score them all.

    Prompts are encoded once; the trie is walked in parts of neighbouring items, which share most of their nodes.

    Args:
        model: any decoder-only transformers model, in evaluation mode, or a `PathModel`.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        normalise: ``trie`` or ``vocabulary``, as in `beam_search`.
        restriction: items that each row may have; the others get -inf.
        chunk: items per part; bounds the memory.

    Returns:
        (batch, catalogue rows), -inf for rows that the trie lacks.
    """
    walk = TrieWalk(model, input_ids, attention_mask, trie, chunk, normalise, restriction=restriction)
    log_probs_of_items = torch.full((len(input_ids), trie.num_rows), float("-inf"), device=input_ids.device)
    for first in range(0, trie.num_items, chunk):
        last = min(first + chunk, trie.num_items)
        walk.restart()
        scores = torch.zeros(walk.nodes.shape, device=input_ids.device)
        while not walk.finished:
            _, exists = trie.allowed(walk.nodes[:1], walk.depth)
            children, log_probs = walk.children()
            width, children = children.shape[2], children.flatten(1)
            inside = (trie.begins[children[0]] < last) & (trie.ends[children[0]] > first)
            columns = (inside & exists.flatten()).nonzero()[:, 0]  # the same nodes in every row
            scores = (scores.unsqueeze(-1) + log_probs).flatten(1)[:, columns]
            walk.step(children[:, columns], (columns // width).expand(len(children), -1))
        begins, ends = trie.begins[walk.nodes[0]].clamp(min=first), trie.ends[walk.nodes[0]].clamp(max=last)
        leaf = torch.arange(len(begins), device=begins.device).repeat_interleave((ends - begins).long())
        places = torch.arange(first, last, device=begins.device)
        allowed = scores[:, leaf]
        if restriction is not None and trie.has_duplicates:
            one = places.expand_as(allowed)
            allowed = allowed.masked_fill(~restriction.admits(one, one + 1), float("-inf"))
        log_probs_of_items[:, trie.order[places].long()] = allowed
    return log_probs_of_items


def _entropy(log_probs: Tensor) -> Tensor:
    """Entropy (…) of distributions given by log-probabilities (…, choices), -inf where there is no choice."""
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum(dim=-1)
