"""Trie-constrained beam search: prompts encoded once, the output layer computed on the catalogue's tokens only."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dig.generation.path_model import PathModel
from dig.generation.trie import CatalogueTrie, Restriction
from dig.generation.walk import Normalise, NotFiniteError, TrieWalk

__all__ = ["BeamResult", "beam_search"]


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
        ValueError: a prompt is longer than the model allows, or the
            trie has a token that the model lacks.
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
