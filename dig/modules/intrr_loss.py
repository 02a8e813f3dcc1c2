"""What IntRR learns: the next item's codes, and that items keep those of their Semantic IDs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation.assignment import Assigned
from dig.generation.intrr import IntRR
from dig.generation.intrr_view import IntRRDecoder
from dig.generation.trie import CatalogueTrie
from dig.generation.walk import child_log_probs

__all__ = ["alignment_loss", "intrr_losses", "next_code_losses"]


def intrr_losses(model: IntRR, trie: CatalogueTrie, histories: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of every target, and how far the input side is from the Semantic IDs.

    Args:
        model: the model.
        trie: the catalogue.
        histories: (batch, length) catalogue rows, -1 where there is none, before or behind the items.
        targets: (batch, length) the row after each item, -1 where nothing is learned.

    Returns:
        (learned targets,) in the order of ``targets``, and a 0-d tensor.
    """
    states, assigned = model.states(histories)
    if assigned is None:
        raise ValueError("vectors are remembered; call train() first")
    wanted = targets[histories >= 0]
    learned = wanted >= 0
    items = histories[histories >= 0].unique()
    return next_code_losses(model, trie, states[learned], wanted[learned]), alignment_loss(assigned, model.codes[items])


def next_code_losses(model: IntRR, trie: CatalogueTrie, guidance: Tensor, items: Tensor) -> Tensor:
    """Cross-entropy of each item's codes, summed over levels, each level told the codes before it (teacher forcing).

    Under ``softmax=trie`` a code competes with its siblings in the catalogue, so that the sum is the negative
    log-probability with which the item is found; under ``level`` with all codes of its level.

    Args:
        model: the model.
        trie: the catalogue.
        guidance: (n, width) states after histories.
        items: (n,) what came next.

    Returns:
        (n,) float32.
    """
    view = IntRRDecoder(model)
    paths = trie.paths(items)
    tokens = torch.stack([trie.tokens_at(nodes.clamp(min=0), depth)
                          for depth, nodes in enumerate(paths.unbind(dim=1))], dim=1)  # fmt: skip
    steps = view.after(guidance, tokens[:, :-1]) if trie.levels > 1 else guidance.new_zeros(len(items), 0, 0)
    total = torch.zeros(len(items), device=guidance.device)
    for depth in range(trie.levels):
        there = (paths[:, depth] >= 0).nonzero()[:, 0]
        hidden = (guidance if depth == 0 else steps[:, depth - 1])[there]
        if model.sizes.softmax == "level":
            codes = tokens[there, depth] - view.firsts[depth]
            found = F.cross_entropy(model.assign.logits(depth, hidden).float(), codes, reduction="none")
        else:
            parents = paths.new_zeros(len(there)) if depth == 0 else paths[there, depth - 1]
            children, log_probs = child_log_probs(view, hidden, trie, parents, depth)
            place = (paths[there, depth] - children[:, 0]).unsqueeze(1)  # children follow each other
            found = -log_probs.gather(1, place).squeeze(1)
        total = total.index_add(0, there, found)
    return total


def alignment_loss(assigned: Assigned, codes: Tensor) -> Tensor:
    """Mean over items of the cross-entropy of their input-side assignment, summed over levels.

    Args:
        assigned: of the items.
        codes: (items, levels) their Semantic IDs, -1 for a missing suffix.
    """
    losses = [
        F.cross_entropy(logits.float(), wanted, ignore_index=-1, reduction="sum")
        for logits, wanted in zip(assigned.logits, codes.unbind(dim=1), strict=True)
    ]
    return torch.stack(losses).sum() / max(len(codes), 1)
