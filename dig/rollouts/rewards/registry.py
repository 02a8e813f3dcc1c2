"""Reward terms by name; your own join them with a decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dig.rollouts.rewards.groups import Groups
from dig.rollouts.rewards.knowledge import KNOWLEDGE, ItemKnowledge

__all__ = ["REWARD_TERMS", "RewardTerm", "reward_term"]

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
        if known and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise ValueError(f"there is a reward term {name} already, {known.function.__module__}")
        REWARD_TERMS[name] = RewardTerm(name, function, frozenset(needs))
        return function

    return register
