"""Differentiable log-probabilities of given items, the prompt encoded once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dig.generation.decoder import Decoder
from dig.generation.trie import CatalogueTrie
from dig.generation.walk import child_log_probs

__all__ = ["Scores", "score", "score_with_entropy"]


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
    model: nn.Module | Decoder,
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
        model: any decoder-only transformers model, or a `Decoder` around one.
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
    model: nn.Module | Decoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    items: Tensor,
    temperature: float = 1.0,
) -> Scores:
    """:func:`score`, and how sure the policy is on the way."""
    decoder = Decoder.of(model)
    decoder.check(trie.largest_token, attention_mask, trie.levels - 1)
    paths = trie.paths(items)  # (batch, group, levels)
    inner = paths[..., :-1].clamp(min=0).unbind(dim=-1)  # a finished path is fed anything; nothing reads it
    if inner:
        fed = torch.stack([trie.tokens_at(nodes, depth) for depth, nodes in enumerate(inner)], dim=-1)
        after_prompt, after_tokens = decoder.run_tree(input_ids, attention_mask, fed)
    else:
        after_prompt, after_tokens = decoder.encode(input_ids, attention_mask).hidden, None
    log_probs, entropies = [], []
    for depth in range(trie.levels):
        if depth == 0 or after_tokens is None:  # all paths of a prompt start alike: one choice for all of them
            hidden, parents = after_prompt.unsqueeze(1), torch.zeros_like(paths[:, :1, 0])
        else:
            hidden, parents = after_tokens[:, :, depth - 1], paths[..., depth - 1].clamp(min=0)
        children, found = child_log_probs(decoder, hidden, trie, parents, depth, temperature=temperature)
        target = paths[..., depth]
        there = target >= 0
        place = (target - children[..., 0]).clamp(min=0)  # children follow each other
        chosen = found.squeeze(1).gather(1, place) if depth == 0 else found.gather(2, place.unsqueeze(2)).squeeze(2)
        log_probs.append(torch.where(there, chosen, torch.zeros_like(chosen)))
        entropies.append(torch.where(there, _entropy(found.detach()), 0.0))
    return Scores(torch.stack(log_probs, dim=-1), torch.stack(entropies, dim=-1))


def _entropy(log_probs: Tensor) -> Tensor:
    """Entropy (…) of distributions given by log-probabilities (…, choices), -inf where there is no choice."""
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum(dim=-1)
