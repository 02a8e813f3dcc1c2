"""Trie-constrained beam search: prompts encoded once, the output layer computed on the catalogue's tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dig.generation.decoder import Decoder
from dig.generation.trie import CatalogueTrie

__all__ = ["BeamResult", "beam_search", "child_log_probs"]

Normalise = Literal["trie", "vocabulary"]


@dataclass(frozen=True)
class BeamResult:
    """Ranked items.

    Attributes:
        items: (batch, beams) rows of the trie's catalogue, best first; -1 where the catalogue had no further item.
        log_probs: (batch, beams) log-probability of each item's path.
    """

    items: Tensor
    log_probs: Tensor


def child_log_probs(
    decoder: Decoder,
    hidden: Tensor,
    trie: CatalogueTrie,
    nodes: Tensor,
    depth: int,
    normalise: Normalise = "trie",
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the allowed next nodes.

    Args:
        decoder: the model.
        hidden: (…, width) states after the tokens that led to ``nodes``.
        trie: the catalogue.
        nodes: (…) nodes at one depth.
        depth: that depth.
        normalise: over the children (``trie``) or over the model's whole vocabulary.
        temperature: divides the logits.

    Returns:
        Children (…, max_children) and their log-probabilities, -inf where there is no child; a leaf's only child is
        itself with log-probability 0.
    """
    children, mask = trie.allowed(nodes, depth)
    if normalise == "trie":
        logits = decoder.logits(hidden, trie.vocabulary) / temperature
        total = None
    else:
        every = decoder.logits(hidden) / temperature
        total = every.logsumexp(dim=-1, keepdim=True)
        logits = every[..., trie.vocabulary]
    chosen = logits.gather(-1, trie.slots[children]).masked_fill(~mask, float("-inf"))
    log_probs = chosen.log_softmax(dim=-1) if total is None else chosen - total
    leaf = (trie.num_children[nodes] == 0).unsqueeze(-1)
    return children, torch.where(leaf, torch.zeros_like(log_probs).masked_fill(~mask, float("-inf")), log_probs)


@torch.no_grad()
def beam_search(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    num_beams: int = 20,
    normalise: Normalise = "trie",
) -> BeamResult:
    """The most probable items after each prompt, found by beam search over the catalogue.

    Args:
        model: any decoder-only transformers model; it is put in evaluation mode by the caller.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device.
        num_beams: beams, which is also the number of ranked items.
        normalise: ``trie`` renormalises over the children that the trie allows at each step; ``vocabulary`` keeps the
            plain softmax, as transformers' ``generate`` scores.
    """
    decoder = Decoder(model)
    state = decoder.encode(input_ids, attention_mask)
    batch, device = len(input_ids), input_ids.device
    nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
    scores = torch.zeros(batch, 1, device=device)
    hidden = state.hidden.unsqueeze(1)
    beams = min(num_beams, trie.num_items)
    for depth in range(trie.levels):
        children, log_probs = child_log_probs(decoder, hidden, trie, nodes, depth, normalise)
        candidates = (scores.unsqueeze(-1) + log_probs).flatten(1)
        width = min(beams, candidates.shape[1])
        scores, chosen = candidates.topk(width, dim=1)
        nodes = children.flatten(1).gather(1, chosen)
        origin = chosen // children.shape[2]
        if depth == trie.levels - 1:
            break
        parents = None if depth == 0 else origin
        # A finished path is fed its last token again; nothing reads the result.
        hidden = decoder.feed(state, trie.tokens[nodes].clamp(min=0), parents, depth)
    items = trie.node_items[nodes].masked_fill(scores == float("-inf"), -1)
    return _ordered(items, scores, num_beams)


def _ordered(items: Tensor, scores: Tensor, num_beams: int) -> BeamResult:
    """Best first, ties by item order, padded with -1 to ``num_beams``."""
    by_item = items.argsort(dim=1, stable=True)
    items, scores = items.gather(1, by_item), scores.gather(1, by_item)
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    items, scores = items.gather(1, by_score), scores.gather(1, by_score)
    missing = num_beams - items.shape[1]
    if missing > 0:
        items = torch.nn.functional.pad(items, (0, missing), value=-1)
        scores = torch.nn.functional.pad(scores, (0, missing), value=float("-inf"))
    return BeamResult(items, scores)
