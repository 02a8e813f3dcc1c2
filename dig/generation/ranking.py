"""The whole catalogue ranked exactly: every node of the trie is fed once, level by level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dig.generation.decoder import Decoder
from dig.generation.restriction import Restriction
from dig.generation.trie import CatalogueTrie
from dig.generation.walk import Normalise, TrieWalk

__all__ = ["score_catalogue"]


@torch.no_grad()
def score_catalogue(
    model: nn.Module | Decoder,
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
        model: any decoder-only transformers model, in evaluation mode, or a `Decoder` around one.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        normalise: ``trie`` or ``vocabulary``, as in `beam_search`.
        restriction: items that each row may have; the others get -inf.
        chunk: items a part; bounds the memory.

    Returns:
        (batch, catalogue rows), -inf for rows that the trie lacks.
    """
    walk = TrieWalk(model, input_ids, attention_mask, trie, chunk, normalise, restriction=restriction)
    found = torch.full((len(input_ids), trie.num_rows), float("-inf"), device=input_ids.device)
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
        found[:, trie.order[places].long()] = allowed
    return found
