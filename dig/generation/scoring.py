"""Log-probabilities of given items, differentiable, and of the whole catalogue; prompts are encoded once for all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dig.generation.factory import as_path_model
from dig.generation.path_model import PathModel
from dig.generation.trie import CatalogueTrie, Restriction
from dig.generation.walk import Normalise, TrieWalk, child_log_probs

__all__ = ["Scores", "score", "score_catalogue", "score_with_entropy"]


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
            kept = (inside & exists.flatten()).nonzero()[:, 0]  # the same nodes in every row
            scores = (scores.unsqueeze(-1) + log_probs).flatten(1)[:, kept]
            walk.step(children[:, kept], (kept // width).expand(len(children), -1))
        begins, ends = trie.begins[walk.nodes[0]].clamp(min=first), trie.ends[walk.nodes[0]].clamp(max=last)
        leaf = torch.arange(len(begins), device=begins.device).repeat_interleave((ends - begins).long())
        places = torch.arange(first, last, device=begins.device)
        allowed = scores[:, leaf]
        if restriction is not None and trie.has_twins:
            one = places.expand_as(allowed)
            allowed = allowed.masked_fill(~restriction.admits(one, one + 1), float("-inf"))
        log_probs_of_items[:, trie.order[places].long()] = allowed
    return log_probs_of_items


def _entropy(log_probs: Tensor) -> Tensor:
    """Entropy (…) of distributions given by log-probabilities (…, choices), -inf where there is no choice."""
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum(dim=-1)
