"""Reward terms by name; your own join them with a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import KNOWLEDGE, ItemKnowledge

__all__ = ["REWARD_TERMS", "RewardTerm", "code_of", "module_of", "reward_term"]

TermFunction = Callable[[Groups, ItemKnowledge], Tensor]


@dataclass(frozen=True)
class RewardTerm:
    """A term.

    Attributes:
        name: what the configuration calls it.
        function: gives (batch, group) floats from rollouts and from what is known of items.
        needs: the facts that it reads.
    """

    name: str
    function: TermFunction
    needs: frozenset[str]


def code_of(function: Callable[..., Any]) -> Any:
    """What a term's source stands in: the function behind decorators and partials, or the class of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    inner = inspect.unwrap(function)
    return inner if hasattr(inner, "__qualname__") else type(inner)


def module_of(function: Callable[..., Any]) -> str:
    """The module that a term comes from."""
    return str(code_of(function).__module__)


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    return module_of(function), code_of(function).__qualname__


REWARD_TERMS: dict[str, RewardTerm] = {}
"""All terms, those that come with the project first."""


def reward_term(name: str, needs: tuple[str, ...] = ()) -> Callable[[TermFunction], TermFunction]:
    """Registers a function as a term; a weight in ``grpo.reward.extra`` switches it on.

    Args:
        name: its name.
        needs: the facts of ``ItemKnowledge`` that it reads.

    Raises:
        ValueError: the name is taken by another function, or a fact is unknown.
    """
    unknown = [need for need in needs if need not in KNOWLEDGE]
    if unknown:
        raise ValueError(f"the reward term {name} needs {unknown[0]!r}; items have {', '.join(KNOWLEDGE)}")

    def register(function: TermFunction) -> TermFunction:
        known = REWARD_TERMS.get(name)
        if known and _place(known.function) != _place(function):
            raise ValueError(f"there is a reward term {name} already, {module_of(known.function)}")
        REWARD_TERMS[name] = RewardTerm(name, function, frozenset(needs))
        return function

    return register
