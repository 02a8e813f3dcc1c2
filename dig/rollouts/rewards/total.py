"""The weighted sum of reward terms, after a look at whether each is a number."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import ItemKnowledge
from dig.rollouts.rewards.registry import REWARD_TERMS, code_of, module_of

__all__ = ["Reward", "call_term", "total_reward"]

_MOST = 300
"""Characters of an error of a term that are shown."""


@dataclass(frozen=True)
class Reward:
    """A reward and what it consists of, all (batch, group) and already weighted."""

    total: Tensor
    terms: dict[str, Tensor]


def total_reward(groups: Groups, known: ItemKnowledge, weights: Mapping[str, float]) -> Reward:
    """Σ weight · term over the terms with a weight above 0.

    Args:
        groups: the rollouts.
        known: what is known of items.
        weights: by the term's name.

    Raises:
        KeyError: there is no such term, or it needs what is not known.
        ValueError: a term raises, gives something else than (batch, group) numbers, or is no number (which term,
            which item).
    """
    terms = {}
    for name, weight in weights.items():
        if weight:
            terms[name] = weight * call_term(name, groups, known)
    nothing = torch.zeros(groups.items.shape, device=groups.items.device)
    return Reward(torch.stack([nothing, *terms.values()]).sum(dim=0), terms)


def call_term(name: str, groups: Groups, known: ItemKnowledge) -> Tensor:
    """A term's (batch, group) float32 rewards on the rollouts' device, unweighted.

    Tensors of other number formats or on another device, NumPy arrays and nested lists are converted where their shape
    is right.

    Raises:
        KeyError: there is no such term, or it needs what is not known.
        ValueError: as of :func:`total_reward`.
    """
    function = REWARD_TERMS[name].function
    try:
        found = function(groups, known)
    except (Exception, SystemExit) as error:  # a term that exits would end the run, and as if it were done
        if module_of(function).startswith("dig."):
            raise
        said = " ".join(str(error).split())[:_MOST]
        raise ValueError(f"the reward term {name} raises {type(error).__name__}: {said} ({_line_of(function, error)})"
                         ) from error  # fmt: skip
    rewards = _numbers(found, groups.log_probs.device)
    if rewards is None or rewards.shape != groups.items.shape:
        what = type(found).__name__ if rewards is None else str(tuple(rewards.shape))
        what = "None" if found is None else what
        raise ValueError(f"the reward term {name} is {what}, but the rollouts are {tuple(groups.items.shape)}: it must "
                         f"return (batch, group) numbers ({_line_of(function)})")  # fmt: skip
    own = "" if module_of(function).startswith("dig.") else f" ({_line_of(function)})"
    _check_finite(name, rewards, groups, known, own)
    return rewards


def _numbers(found: Any, device: torch.device) -> Tensor | None:
    """What a term gave as float32 numbers; None where it is no array of numbers."""
    if isinstance(found, Tensor):
        if found.is_complex() or found.is_meta or found.layout != torch.strided:
            return None
        return found.detach().to(device, torch.float32)
    if isinstance(found, (list, tuple, np.ndarray)):
        try:
            return torch.from_numpy(np.array(found, dtype=np.float32)).to(device)
        except (ValueError, TypeError, RuntimeError):  # ragged, words, None, tensors of another device
            return None
    return None


def _line_of(function: Callable[..., Any], error: BaseException | None = None) -> str:
    """``file:line`` in a term's file where an error was raised, else where the term begins."""
    code = getattr(code_of(function), "__code__", None)
    if code is None:  # an object that can be called
        return module_of(function)
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == code.co_filename), None)
    return f"{code.co_filename}:{line or code.co_firstlineno}"


def _check_finite(name: str, found: Tensor, groups: Groups, known: ItemKnowledge, place: str) -> None:
    broken = ~torch.isfinite(found)
    if broken.any():
        prompt, rollout = broken.nonzero()[0].tolist()
        item, target = int(groups.items[prompt, rollout]), int(groups.targets[prompt])
        value = found[prompt, rollout].item()
        raise ValueError(f"the reward term {name} is {value} for {known.name_of(item)} where {known.name_of(target)} "
                         f"was wanted{place}")  # fmt: skip
