"""Tries reward terms of one's own before anything is trained: what they would do hours later is told at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.config import Config, UserError
from dig.console import warn
from dig.rollouts.rewards import REWARD_TERMS, Groups, ItemKnowledge, call_term
from dig.stages.base import StageContext
from dig.stages.prepare import load_catalogue, load_sequences
from dig.stages.reward_needs import active_needs

__all__ = ["check_own_terms", "made_up_rollouts"]

_PROMPTS = 2
_REMEMBERED = 5
_WIDTH = 16
_MODELLED = {"vectors", "interests", "sequential"}
"""Facts whose width or values only a model that is not there yet could tell."""


def check_own_terms(context: StageContext) -> None:
    """Calls each term of one's own once, on made-up rollouts of the real catalogue.

    Counts are the real ones; codes, qualities and vectors are made up in their shape, since their stages have not run.

    Raises:
        UserError: a term raises, or gives something else than (batch, group) numbers; with the term and its line.
    """
    config = context.config
    own = [name for name, weight in config.grpo.reward.extra.items() if weight]
    if not own:
        return
    needs = set(active_needs(config))
    device = _device(config)
    known = _made_up(context, needs).to(device)
    groups = made_up_rollouts(len(load_catalogue(context)), config.grpo.group_size, device)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name in own:
            before = {what: tensor.clone() for what, tensor in _given(groups, known).items()}
            try:
                call_term(name, groups, known)
                _require_unchanged(name, before, _given(groups, known))
            except (ValueError, KeyError) as error:
                said = f"grpo.reward.extra.{name}: {error.args[0] if error.args else error}"
                if isinstance(error.__cause__, Exception) and _MODELLED & REWARD_TERMS[name].needs:
                    warn(f"{said}; that was on made-up {', '.join(sorted(_MODELLED & REWARD_TERMS[name].needs))}, so "
                         "the run goes on; grpo may stop for it")  # fmt: skip
                    continue
                missing = isinstance(error.__cause__, KeyError) and "were not told" in str(error)
                hint = "; name it in needs=(…) of @reward_term" if missing else ""
                raise UserError(f"{said}{hint}; tried before training, on made-up rollouts", exit_code=2) from None


def made_up_rollouts(items: int, group: int, device: torch.device | str = "cpu") -> Groups:
    """Two groups of catalogue items, the first of which holds its target; the second has the shorter history."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(items, (_PROMPTS, group), generator=generator)
    targets = torch.randint(items, (_PROMPTS,), generator=generator)
    rows[0, 0] = targets[0]
    histories = torch.randint(items, (_PROMPTS, _REMEMBERED), generator=generator)
    histories[1, :-1] = -1
    log_probs = -0.5 - torch.arange(_PROMPTS * group, dtype=torch.float32).view(_PROMPTS, group)
    return Groups(*(each.to(device) for each in (rows, targets, log_probs, histories)))


def _given(groups: Groups, known: ItemKnowledge) -> dict[str, Tensor]:
    """What a term is given, by the name that it has there."""
    names = ("items", "targets", "log_probs", "histories", "valid", "hits", "rows", "first", "ranks")
    return {f"groups.{name}": getattr(groups, name) for name in names} | {
        f"known.get({name!r})": fact for name, fact in known.named_buffers()
    }


def _require_unchanged(name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """All terms of a batch see the same tensors, so one that writes into them changes what the others pay."""
    changed = next((what for what in before if not torch.equal(before[what], after[what])), None)
    if changed is not None:
        raise ValueError(f"the reward term {name} writes into {changed}, which other terms read, too; work on "
                         f"{changed}.clone()")  # fmt: skip


class _Undecided(nn.Module):
    """A sequential model that thinks every item equally likely."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items

    def forward(self, histories: Tensor) -> Tensor:
        """(batch, items) log-probabilities."""
        shape = (len(histories), self.items)
        return torch.full(shape, -float(np.log(self.items)), device=histories.device)


def _made_up(context: StageContext, needs: set[str]) -> ItemKnowledge:
    """What the terms need, in the shape of the real thing."""
    item_ids = load_catalogue(context)["item_id"].to_list()
    items, rqvae = len(item_ids), context.config.rqvae
    generator = torch.Generator().manual_seed(0)
    sizes = rqvae.codebook_size if isinstance(rqvae.codebook_size, list) else [rqvae.codebook_size] * rqvae.levels
    facts: dict[str, object] = {}
    if "codes" in needs:
        facts["codes"] = torch.stack([torch.randint(size, (items,), generator=generator) for size in sizes], dim=1)
    if "quality" in needs:
        facts["quality"] = torch.rand(items, generator=generator)
    for name in ("interests", "vectors"):
        if name in needs:
            facts[name] = F.normalize(torch.randn(items, _WIDTH, generator=generator), dim=1)
    if "counts" in needs:
        facts["counts"] = torch.from_numpy(np.bincount(load_sequences(context).train.flat(), minlength=items))
    if "sequential" in needs:
        facts["sequential"] = _Undecided(items)
    return ItemKnowledge(**facts, item_ids=item_ids)  # type: ignore[arg-type]  # each under its own name


def _device(config: Config) -> torch.device:
    """Where rollouts will be, so that constants of a term on another device show."""
    if config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")
