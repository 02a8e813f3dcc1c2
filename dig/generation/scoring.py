"""Differentiable log-probabilities of given items, the prompt encoded once for all of them."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from dig.generation.decoder import Decoder
from dig.generation.trie import CatalogueTrie
from dig.generation.walk import child_log_probs

__all__ = ["score"]


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
    decoder = Decoder.of(model)
    decoder.check(trie.largest_token, attention_mask, trie.levels - 1)
    paths = trie.paths(items)  # (batch, group, levels)
    inner = paths[..., :-1].clamp(min=0).unbind(dim=-1)  # a finished path is fed anything; nothing reads it
    if inner:
        fed = torch.stack([trie.tokens_at(nodes, depth) for depth, nodes in enumerate(inner)], dim=-1)
        after_prompt, after_tokens = decoder.run_tree(input_ids, attention_mask, fed)
        shared = after_prompt.view(len(items), 1, 1, -1).expand(-1, items.shape[1], -1, -1)
        hidden = torch.cat([shared, after_tokens], dim=2)
    else:
        encoded = decoder.encode(input_ids, attention_mask).hidden
        hidden = encoded.view(len(items), 1, 1, -1).expand(-1, items.shape[1], -1, -1)
    parents = torch.cat([torch.zeros_like(paths[..., :1]), paths[..., :-1]], dim=-1).clamp(min=0)
    levels = []
    for depth in range(trie.levels):
        children, log_probs = child_log_probs(
            decoder, hidden[:, :, depth], trie, parents[..., depth], depth, temperature=temperature
        )
        target = paths[..., depth]
        position = (target.unsqueeze(-1) - children[..., :1]).clamp(min=0)  # children follow each other
        chosen = rearrange(log_probs.gather(-1, position), "batch group 1 -> batch group")
        levels.append(torch.where(target >= 0, chosen, torch.zeros_like(chosen)))
    return torch.stack(levels, dim=-1)
