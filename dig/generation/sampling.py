"""Trie-constrained sampling of a group of items for each prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dig.generation.beam_search import child_log_probs
from dig.generation.decoder import Decoder
from dig.generation.trie import CatalogueTrie

__all__ = ["GroupSample", "sample_groups"]


@dataclass(frozen=True)
class GroupSample:
    """Sampled items.

    Attributes:
        items: (batch, group) rows of the trie's catalogue.
        log_probs: (batch, group, levels) log-probability of each level's choice under the sampling policy, 0 at levels
            that an item does not have.
    """

    items: Tensor
    log_probs: Tensor


@torch.no_grad()
def sample_groups(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    group_size: int = 16,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> GroupSample:
    """Samples ``group_size`` items with replacement after each prompt.

    Args:
        model: any decoder-only transformers model, in evaluation mode.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device; every sample is one of its items.
        group_size: samples a prompt.
        temperature: divides the logits; the log-probabilities are those after it.
        generator: source of randomness, on the CPU; None takes torch's global one.
    """
    decoder = Decoder(model)
    state = decoder.encode(input_ids, attention_mask)
    batch, device = len(input_ids), input_ids.device
    nodes = torch.zeros(batch, group_size, dtype=torch.int64, device=device)
    hidden = state.hidden.unsqueeze(1).expand(-1, group_size, -1)
    own_path = torch.arange(group_size, device=device).expand(batch, -1)
    levels = []
    for depth in range(trie.levels):
        children, log_probs = child_log_probs(decoder, hidden, trie, nodes, depth, temperature=temperature)
        uniform = torch.rand(batch, group_size, 1, generator=generator).to(device)
        cumulative = log_probs.exp().cumsum(dim=-1)
        # Inverse of the cumulative distribution; scaled by its end, which rounding leaves near but not at 1.
        choice = torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True)
        last = trie.num_children[nodes].clamp(min=1).unsqueeze(-1) - 1  # padding is never chosen, however sums round
        choice = choice.minimum(last)
        levels.append(log_probs.gather(-1, choice).squeeze(-1))
        nodes = children.gather(-1, choice).squeeze(-1)
        if depth < trie.levels - 1:
            hidden = decoder.feed(state, trie.tokens[nodes], own_path if depth else None, depth)
    return GroupSample(trie.node_items[nodes], torch.stack(levels, dim=-1))
