"""What IntRR learns: the next item's codes, and that items keep those of their Semantic IDs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dig.generation.assignment import Assigned
from dig.generation.intrr import IntRR
from dig.generation.intrr_view import IntRRDecoder
from dig.generation.trie import CatalogueTrie

__all__ = ["alignment_loss", "intrr_losses", "next_code_losses"]


def intrr_losses(model: IntRR, trie: CatalogueTrie, histories: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of every target, and how far the input side is from the Semantic IDs.

    Args:
        model: the model.
        trie: the catalogue.
        histories: (batch, length) catalogue rows, -1 where there is none, before or behind the items; rows behind the
            catalogue's are tasks.
        targets: (batch, length) the row after each item, -1 where nothing is learned.

    Returns:
        (learned targets,) in the order of ``targets``, and a 0-d tensor.
    """
    states, assigned = model.states(histories)
    if assigned is None:
        raise ValueError("vectors are remembered; call train() first")
    wanted = targets[histories >= 0]
    learned = wanted >= 0
    items = histories[(histories >= 0) & (histories < len(model.codes))].unique()
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
    total = torch.zeros(len(items), device=guidance.device)
    condition = None
    for depth, nodes in enumerate(paths.unbind(dim=1)):
        parents = torch.zeros_like(nodes) if depth == 0 else paths[:, depth - 1].clamp(min=0)
        first = trie.first_child[parents].long()
        siblings = trie.first_child[parents + 1].long() - first
        all_codes = model.sizes.softmax == "level"
        # an only child is certain, so nothing of it has to be computed
        rows = ((nodes >= 0) & (all_codes | (siblings > 1))).nonzero()[:, 0]
        hidden = guidance[rows] if condition is None else view.after_codes(condition[rows], guidance[rows], depth)
        if all_codes:
            logits = model.assign.logits(depth, hidden)
            wanted = trie.tokens_at(nodes[rows], depth) - view.firsts[depth]
        else:
            children, mask = trie.allowed(parents[rows[:1]] if depth == 0 else parents[rows], depth)
            children, mask = (found.expand(len(rows), -1) for found in (children, mask))  # the root's are everybody's
            logits = view.child_logits(hidden, trie, parents[rows], children, depth).masked_fill(~mask, float("-inf"))
            wanted = (nodes - first)[rows]  # children follow each other
        total = total.index_add(0, rows, F.cross_entropy(logits.float(), wanted, reduction="none"))
        condition = view.conditioned(condition, trie.tokens_at(nodes.clamp(min=0), depth), depth)
    return total


def alignment_loss(assigned: Assigned, codes: Tensor) -> Tensor:
    """Mean over items of the cross-entropy of their input-side assignment, summed over levels.

    Args:
        assigned: of the items.
        codes: (items, levels) their Semantic IDs, -1 for a missing suffix.
    """
    losses = [
        F.nll_loss(log_probs.float(), wanted, ignore_index=-1, reduction="sum")
        for log_probs, wanted in zip(assigned.log_probs, codes.unbind(dim=1), strict=True)
    ]
    return torch.stack(losses).sum() / max(len(codes), 1)
