"""The one record of GRPO: prompts, what was rolled out behind them, what that earned, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dig.config.schema import ROLLOUTS
from dig.generation import CatalogueTrie, beam_groups, sample_groups

__all__ = ["Rollouts", "sample_rollouts"]


@dataclass
class Rollouts:
    """A batch of prompts with a group of rollouts each.

    A batch of prompts is one whose groups are empty: the data loader makes it by :meth:`of_prompts`, sampling fills in
    ``items`` and ``old_log_probs``, the rewards ``rewards``, ``terms`` and ``advantages``, the reference its
    log-probabilities. Each fills in by ``dataclasses.replace``, so that no record changes under who reads it.

    Attributes:
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt).
        targets: (batch,) catalogue rows.
        histories: (batch, longest) catalogue rows of the history as the prompt spells it, the oldest first, -1 before
            the first; all -1 where the prompt asks about an item.
        samples: (batch,) numbers of the prompts, the same in every process and every run.
        items: (batch, group) catalogue rows, -1 for a sequence that is not an item.
        old_log_probs: (batch, group, levels) under the policy that sampled, 0 at levels that an item lacks.
        rewards: (batch, group) sums of the weighted terms.
        terms: (batch, group) weighted rewards by the term's name.
        advantages: (batch, group).
        reference_log_probs: (batch, group, levels) under the reference, None without one.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    histories: Tensor
    samples: Tensor
    items: Tensor
    old_log_probs: Tensor
    rewards: Tensor
    advantages: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    reference_log_probs: Tensor | None = None

    @classmethod
    def of_prompts(
        cls, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, histories: Tensor, samples: Tensor
    ) -> Rollouts:
        """Prompts behind which nothing is rolled out yet."""
        none = torch.zeros(len(targets), 0, device=targets.device)
        return cls(
            input_ids,
            attention_mask,
            targets,
            histories,
            samples,
            items=none.long(),
            old_log_probs=none.unsqueeze(-1),
            rewards=none,
            advantages=none,
        )

    @classmethod
    def of_items(
        cls, items: Tensor, targets: Tensor, log_probs: Tensor | None = None, histories: Tensor | None = None
    ) -> Rollouts:
        """Rollouts without the prompts behind them, for who only looks at what was rolled out.

        Args:
            items: (batch, group) catalogue rows, -1 for a sequence that is not an item.
            targets: (batch,) catalogue rows.
            log_probs: (batch, group) of each rollout, None for all equally likely.
            histories: (batch, remembered) as of the record, None for none.
        """
        empty = items.new_zeros(len(items), 0)
        rollouts = cls.of_prompts(
            empty,
            empty,
            targets,
            items.new_full((len(items), 1), -1) if histories is None else histories,
            torch.arange(len(items), device=items.device),
        )
        probs = torch.zeros(items.shape, device=items.device) if log_probs is None else log_probs
        return replace(rollouts, items=items, old_log_probs=probs.unsqueeze(-1))

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: slice | Tensor) -> Rollouts:
        """Some of the prompts, with all that belongs to them."""
        return _each([self], lambda values: values[0][rows])

    def split(self, size: int) -> list[Rollouts]:
        """Parts of ``size`` prompts, in order."""
        return [self.take(slice(begin, begin + size)) for begin in range(0, len(self), size)]

    def minibatches(self, count: int) -> Iterator[Rollouts]:
        """Cuts the prompts into ``count`` parts of nearly equal size, in order."""
        for part in torch.arange(len(self)).tensor_split(count):
            if len(part):
                yield self.take(slice(int(part[0]), int(part[-1]) + 1))

    @staticmethod
    def join(parts: Sequence[Rollouts]) -> Rollouts:
        """The prompts of all parts, whose prompts are equally wide."""
        return parts[0] if len(parts) == 1 else _each(parts, torch.cat)

    @cached_property
    def log_probs(self) -> Tensor:
        """(batch, group) of each rollout as a whole under the policy that sampled it."""
        return self.old_log_probs.sum(dim=-1)

    @cached_property
    def valid(self) -> Tensor:
        """(batch, group) whether a rollout is an item."""
        return self.items >= 0

    @cached_property
    def hits(self) -> Tensor:
        """(batch, group) whether a rollout is the target itself; another item with its codes is not."""
        return self.items == self.targets.unsqueeze(1)

    @cached_property
    def rows(self) -> Tensor:
        """(batch, group) items to look up by; 0 stands for what is not an item."""
        return self.items.clamp(min=0)

    @cached_property
    def first(self) -> Tensor:
        """(batch, group) whether no earlier rollout of the group is the same item."""
        same = self.items.unsqueeze(2) == self.items.unsqueeze(1)
        return ~same.tril(diagonal=-1).any(dim=2)

    @cached_property
    def ranks(self) -> Tensor:
        """(batch, group) how many distinct items of the group are more probable; with beams that is the place."""
        above = self.log_probs.unsqueeze(1) > self.log_probs.unsqueeze(2)
        ranks: Tensor = torch.sum(above & self.first.unsqueeze(1), dim=2)
        return ranks


def _each(parts: Sequence[Rollouts], function: Callable[[list[Tensor]], Tensor]) -> Rollouts:
    """A record of a function of the parts' values, field by field; what no part has stays away."""

    def of(values: list[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return {name: function([value[name] for value in values]) for name in values[0]}
        return None if values[0] is None else function(values)

    return Rollouts(**{entry.name: of([getattr(part, entry.name) for part in parts]) for entry in fields(Rollouts)})


def sample_rollouts(
    prompts: Rollouts,
    rollouts: str,
    model: nn.Module,
    trie: CatalogueTrie,
    group_size: int,
    temperature: float,
    seeds: Tensor,
) -> Rollouts:
    """A group for each prompt, with the log-probabilities of the policy that made it.

    Where items share a leaf of the trie, the leaf stands for all of them: if the target is among them, the rollout is
    the target, else the first.

    Args:
        prompts: of which ``items`` and ``old_log_probs`` are filled in.
        rollouts: ``sample``: independent samples, the policy gradient's own; ``stochastic_beam``: a sample without
            replacement (arXiv 1903.06059), no rollout twice; ``beam``: the most probable items (MiniOneRec,
            arXiv 2510.24431), not a sample at all.
        model: the policy, in evaluation mode.
        trie: the catalogue.
        group_size: rollouts per prompt.
        temperature: divides the logits.
        seeds: (batch,) int64, one per prompt.

    Raises:
        ValueError: an unknown way.
    """
    if rollouts not in ROLLOUTS:
        raise ValueError(f"rollouts are made by {', '.join(ROLLOUTS)}, not by {rollouts!r}")
    policy = (model, prompts.input_ids, prompts.attention_mask, trie, group_size, temperature)
    if rollouts == "beam":
        groups = beam_groups(*policy)
    else:
        groups = sample_groups(*policy, replacement=rollouts == "sample", seeds=seeds)
    of_target = groups.items == trie.representatives(prompts.targets).unsqueeze(1)
    items = torch.where(of_target, prompts.targets.unsqueeze(1), groups.items)
    return replace(prompts, items=items, old_log_probs=groups.log_probs)
