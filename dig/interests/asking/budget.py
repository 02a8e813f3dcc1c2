"""A hard limit on what asking may cost: the most that a request may cost is reserved before it is sent."""

from __future__ import annotations

import asyncio
import math

from dig.config.schema import ModelConfig
from dig.interests.asking.conversation import Message

__all__ = ["Budget", "BudgetSpentError", "cost_of", "most_tokens", "probable_tokens", "written_tokens"]

_BYTES_A_TOKEN = 4.0
"""In English prose; an estimate alone rests on it, never a limit."""


class BudgetSpentError(Exception):
    """The next request could go beyond a limit; says which."""


def cost_of(config: ModelConfig, tokens_in: float, tokens_out: float) -> float:
    """US dollars; a missing price counts as 0."""
    return (tokens_in * (config.price_in or 0.0) + tokens_out * (config.price_out or 0.0)) / 1e6


def most_tokens(config: ModelConfig, messages: list[Message]) -> int:
    """More tokens than the messages can have: no tokenizer makes more of a text than it has bytes."""
    pictures = sum(message.picture is not None for message in messages)
    return sum(len(message.text.encode("utf-8", "replace")) + 16 for message in messages) + (
        4 * pictures * config.picture_tokens
    )


def probable_tokens(config: ModelConfig, messages: list[Message]) -> float:
    """An estimate of the tokens of the messages."""
    pictures = sum(message.picture is not None for message in messages)
    size = sum(len(message.text.encode("utf-8", "replace")) for message in messages)
    return size / _BYTES_A_TOKEN + pictures * config.picture_tokens


def written_tokens(text: str) -> int:
    """An estimate of the tokens of an answer."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_A_TOKEN)


class Budget:
    """Counts requests and dollars against the limits, those under way at the most that they may cost.

    Args:
        max_cost: US dollars, None for no limit.
        max_requests: requests, None for no limit.
        cost: dollars spent before, unknown ends at their most.
        requests: sent before.
    """

    def __init__(self, max_cost: float | None, max_requests: int | None, cost: float = 0.0, requests: int = 0) -> None:
        self.max_cost, self.max_requests = max_cost, max_requests
        self.cost, self.requests = cost, requests
        self._reserved = 0.0
        self._under_way = 0
        self._settled = asyncio.Event()

    async def reserve(self, bound: float, wait: bool = True) -> None:
        """Makes room for a request.

        Args:
            bound: the most that it may cost, US dollars.
            wait: whether to wait for others to end if they may leave some room.

        Raises:
            BudgetSpentError: no room is left.
        """
        while True:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpentError(f"mining.max_requests={self.max_requests}")
            if self.max_cost is None or self.cost + self._reserved + bound <= self.max_cost:
                break
            if not self._under_way or not wait:
                raise BudgetSpentError(f"mining.max_cost_usd={self.max_cost}")
            self._settled.clear()
            await self._settled.wait()
        self._reserved += bound
        self._under_way += 1
        self.requests += 1

    def settle(self, bound: float, cost: float) -> None:
        """A request has ended and cost so much."""
        self._reserved -= bound
        self._under_way -= 1
        self.cost += cost
        self._settled.set()
