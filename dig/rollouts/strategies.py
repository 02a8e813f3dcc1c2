"""How a group of rollouts is made."""

from __future__ import annotations

from torch import Tensor, nn

from dig.config.schema import ROLLOUTS
from dig.generation import CatalogueTrie, GroupSample, beam_groups, sample_groups

__all__ = ["draw_groups"]


def draw_groups(
    rollouts: str,
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    group_size: int,
    temperature: float,
    seeds: Tensor,
) -> GroupSample:
    """A group for each prompt, with the log-probabilities of the policy that made it.

    Args:
        rollouts: ``sample``: independent samples, the policy gradient's own; ``stochastic_beam``: a sample without
            replacement (arXiv 1903.06059), no rollout twice; ``beam``: the most probable items (MiniOneRec,
            arXiv 2510.24431), no sample at all.
        model: the policy, in evaluation mode.
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt).
        trie: the catalogue.
        group_size: rollouts a prompt.
        temperature: divides the logits.
        seeds: (batch,) int64, a prompt each.

    Raises:
        ValueError: an unknown way.
    """
    prompts = (model, input_ids, attention_mask, trie, group_size, temperature)
    if rollouts == "beam":
        return beam_groups(*prompts)
    if rollouts not in ROLLOUTS:
        raise ValueError(f"rollouts are made by {', '.join(ROLLOUTS)}, not by {rollouts!r}")
    return sample_groups(*prompts, replacement=rollouts == "sample", seeds=seeds)
