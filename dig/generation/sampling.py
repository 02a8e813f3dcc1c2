"""Trie-constrained sampling of a group of items for each prompt, with replacement and without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.generation.path_model import PathModel
from dig.generation.search import NotFiniteError, TrieWalk
from dig.generation.trie import CatalogueTrie, Restriction

__all__ = ["GroupSample", "beam_groups", "prompt_seeds", "sample_groups"]


@dataclass(frozen=True)
class GroupSample:
    """Sampled items.

    Attributes:
        items: (batch, group) catalogue rows; -1 where a row is allowed fewer items than were asked for without
            replacement, or none at all.
        log_probs: (batch, group, levels) log-probability of each level's choice under the sampling policy, 0 at levels
            that an item does not have.
    """

    items: Tensor
    log_probs: Tensor


@torch.no_grad()
def sample_groups(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    group_size: int = 16,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    replacement: bool = True,
    restriction: Restriction | None = None,
    seeds: Tensor | None = None,
) -> GroupSample:
    """Samples ``group_size`` items after each prompt.

    With replacement, samples are independent. Without, they are those of stochastic beam search (Gumbel top-k,
    arXiv 1903.06059): an exact sample of distinct items, drawn one after the other in proportion to what is left.

    A prompt's samples are a function of one number, its seed, so that they are the same whichever batch and whichever
    process the prompt is in, up to what rounding does to its logits.

    Args:
        model: any decoder-only transformers model, in evaluation mode, or a `PathModel`.
        input_ids: (batch, prompt) prompts, padded on either side.
        attention_mask: (batch, prompt).
        trie: the catalogue, on the same device; every sample is one of its items.
        group_size: samples per prompt.
        temperature: divides the logits; the log-probabilities are those after it.
        generator: gives the seeds where they are not given; on the CPU, None takes torch's global one.
        replacement: whether an item may be sampled more than once.
        restriction: items that each row may have.
        seeds: (batch,) int64, a prompt each; see :func:`prompt_seeds`.

    Raises:
        ValueError: as :func:`~dig.generation.search.beam_search`, or the temperature is not above 0.
    """
    walk = TrieWalk(model, input_ids, attention_mask, trie, group_size, "trie", temperature, restriction)
    if seeds is None:
        seeds = torch.randint(2**62, (len(input_ids),), generator=generator)
    seeds = seeds.to(input_ids.device).unsqueeze(1)
    draw = _independent if replacement else _distinct
    return _sample(trie, walk, *draw(walk, seeds, group_size))


@torch.no_grad()
def beam_groups(
    model: nn.Module | PathModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    trie: CatalogueTrie,
    group_size: int = 16,
    temperature: float = 1.0,
) -> GroupSample:
    """The ``group_size`` most probable items after each prompt as beam search finds them, the best first.

    No sample of the policy: MiniOneRec's rollouts (arXiv 2510.24431), all distinct and all likely. Arguments as in
    :func:`sample_groups`; the temperature changes the log-probabilities and which partial paths survive.
    """
    walk = TrieWalk(model, input_ids, attention_mask, trie, group_size, "trie", temperature)
    return _sample(trie, walk, *_distinct(walk, None, group_size))


def prompt_seeds(samples: Tensor, *salt: int) -> Tensor:
    """Seeds (batch,) int64 that follow from the samples' numbers (batch,) and from numbers of the moment.

    So a rollout is the same in whichever process and after whichever interruption it is made.
    """
    state = samples.long()
    for number in (*salt, 1):
        state = _mixed(state + torch.full_like(state, number) * -7046029254386353131)
    return state


def _sample(trie: CatalogueTrie, walk: TrieWalk, scores: Tensor, levels: Tensor) -> GroupSample:
    broken = scores.isnan().any(dim=1)
    if broken.any():
        raise NotFiniteError(broken.nonzero()[:, 0].tolist())
    missing = scores == float("-inf")
    items = trie.first_items(walk.nodes).masked_fill(missing, -1)
    return GroupSample(items, levels.masked_fill(missing.unsqueeze(-1), 0.0))


def _independent(walk: TrieWalk, seeds: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Inverse of the cumulative distribution at each level; gives log-probabilities (batch, group), and by level."""
    batch, device = len(seeds), seeds.device
    own = torch.arange(group, device=device).expand(batch, -1)
    origin, levels = torch.zeros_like(own), []
    for depth in range(walk.trie.levels):
        if walk.finished:
            levels.append(torch.zeros(batch, group, device=device))
            continue
        children, log_probs = walk.children()
        uniform = _uniform(seeds, own + depth * group).unsqueeze(-1)
        if children.shape[1] == 1:  # one path at first, from which all samples are drawn
            uniform = uniform.transpose(1, 2)
        cumulative = log_probs.exp().cumsum(dim=-1)
        choice = torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True)
        choice = choice.clamp(max=children.shape[-1] - 1)
        choice = _allowed_near(log_probs, choice)
        levels.append(log_probs.gather(-1, choice).view(batch, group))
        walk.step(children.gather(-1, choice).view(batch, group), origin)
        origin = own
    by_level = torch.stack(levels, dim=-1)
    return by_level.sum(dim=-1), by_level


def _allowed_near(log_probs: Tensor, choice: Tensor) -> Tensor:
    """The choices (…, n), or where rounding led to a child that has no probability, the most probable one."""
    bad = log_probs.gather(-1, choice) == float("-inf")
    return torch.where(bad, log_probs.argmax(dim=-1, keepdim=True), choice)


def _distinct(walk: TrieWalk, seeds: Tensor | None, group: int) -> tuple[Tensor, Tensor]:
    """Stochastic beam search (arXiv 1903.06059, algorithm 1): keeps the paths with the largest perturbed scores.

    Without seeds nothing is perturbed, which is plain beam search.
    """
    batch, device = walk.nodes.shape[0], walk.nodes.device
    total = torch.zeros(batch, 1, device=device)
    perturbed = torch.zeros(batch, 1, device=device)
    levels: list[Tensor] = []
    while not walk.finished:
        children, log_probs = walk.children()
        sums = total.unsqueeze(-1) + log_probs
        noisy = sums if seeds is None else _perturbed(walk, seeds, children, log_probs, sums, perturbed)
        width = min(group, noisy.flatten(1).shape[1])
        perturbed, chosen = noisy.flatten(1).topk(width, dim=1)
        origin = chosen // children.shape[2]
        levels = [level.gather(1, origin) for level in levels]
        levels.append(log_probs.flatten(1).gather(1, chosen))
        total = sums.flatten(1).gather(1, chosen)
        walk.step(children.flatten(1).gather(1, chosen), origin)
    while len(levels) < walk.trie.levels:
        levels.append(torch.zeros_like(total))
    missing = group - total.shape[1]  # fewer items than were asked for
    walk.nodes = F.pad(walk.nodes, (0, missing))
    by_level = torch.stack(levels, dim=-1)
    return F.pad(total, (0, missing), value=float("-inf")), F.pad(by_level, (0, 0, 0, missing))


def _perturbed(
    walk: TrieWalk, seeds: Tensor, children: Tensor, log_probs: Tensor, sums: Tensor, before: Tensor
) -> Tensor:
    """Scores (batch, paths, children) with Gumbel noise, given that the best child of a path has the path's own."""
    uniform = _uniform(seeds, children.flatten(1)).view_as(sums).clamp(min=1e-38)
    noisy = _with_maximum(sums - (-uniform.log()).log(), before.unsqueeze(-1))
    leaf = walk.trie.is_leaf(walk.nodes).unsqueeze(-1)  # a finished path keeps its place
    return torch.where(leaf & (log_probs == 0), before.unsqueeze(-1), noisy)


def _with_maximum(noisy: Tensor, maximum: Tensor) -> Tensor:
    """Gumbel variables (…, n) given that their maximum is ``maximum`` (…, 1) (appendix B.3 of the same paper)."""
    largest = noisy.max(dim=-1, keepdim=True).values
    shift = maximum - noisy + torch.log1p(-(noisy - largest).exp())
    conditioned = maximum - shift.clamp(min=0) - (-shift.abs()).exp().log1p()
    return torch.where(noisy == float("-inf"), noisy, conditioned)


def _uniform(seeds: Tensor, counters: Tensor) -> Tensor:
    """Uniform numbers (batch, n) in [0, 1) from seeds (batch, 1) and counters (batch, n), stateless."""
    mixed = _mixed(seeds + counters * -7046029254386353131)
    return ((mixed >> 40) & (2**24 - 1)).float() / 2**24


def _mixed(state: Tensor) -> Tensor:
    """SplitMix64's finaliser of int64 numbers.

    Products wrap around and shifts fill with the sign, which masks undo, so that all devices agree.
    """
    mixed = state
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * factor
    return mixed ^ ((mixed >> 31) & (2**33 - 1))
