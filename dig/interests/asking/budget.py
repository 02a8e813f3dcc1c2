"""What asking may cost, reserved before each request, and what it will take, told before the first one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dig.config.schema import ModelConfig
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, Question
from dig.interests.asking.store import AnswerStore, asked_anew, unanswered
from dig.interests.models.response import Message, probable_tokens

__all__ = [
    "Budget",
    "BudgetSpentError",
    "cost_of",
    "most_tokens",
    "Estimate",
    "estimate",
]


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


# What asking will take, before the first request: requests, tokens, US dollars.


_SAMPLE = 500
_USUAL_SHARE = 0.35
"""Of ``max_output``, what an answer is taken for until one has come."""


@dataclass(frozen=True)
class Estimate:
    """What a model's questions will take.

    Attributes:
        name: the model's name in ``mining.models``.
        total: questions.
        known: answered already, or of equal content with one that is asked.
        failed: failed for good, asked again on demand only.
        tokens_in: tokens that will be read.
        tokens_out: tokens that will be written.
        cost: US dollars, None without prices.
        seconds: at the configured concurrency and limits, five seconds per answer; None for a local model.
    """

    name: str
    total: int
    known: int
    failed: int
    tokens_in: float
    tokens_out: float
    cost: float | None
    seconds: float | None

    @property
    def requests(self) -> int:
        """Requests that are to be sent, if every first answer can be used."""
        return self.total - self.known - self.failed

    def line(self) -> str:
        """One line for the screen."""
        price = "no prices given" if self.cost is None else f"about ${self.cost:,.2f}"
        line = (
            f"{self.name}: {self.total:,} items, {self.known:,} known, {self.requests:,} requests, about "
            f"{self.tokens_in:,.0f} tokens to read and {self.tokens_out:,.0f} to write, {price}"
        )
        return f"{line}; {self.failed:,} failed for good" if self.failed else line


def estimate(
    model: PromptedModel, questions: Callable[[], Iterator[Question]], total: int, store: AnswerStore
) -> Estimate:
    """Counts what is unanswered, and weighs a sample of it (every one of the first 500).

    What an answer takes is the mean of the answers that this model has given to this prompt, or a third of its limit.
    """
    failed = store.count_failures(model.identity) - len(asked_anew(store, model))
    result = JobResult(model.name, total)
    size = 0.0
    count = 0
    for question in _to_ask(model, questions, store, result):
        if count < _SAMPLE:
            size += probable_tokens(model.config, question.messages(model))
        count += 1
    config = model.config
    mean = size / min(count, _SAMPLE) if count else 0.0
    written = store.mean_tokens_out(model.identity) or _USUAL_SHARE * config.max_output
    tokens_in, tokens_out = count * mean, count * written
    priced = config.price_in is not None and config.price_out is not None
    failed = min(failed, result.known)
    return Estimate(
        model.name,
        total,
        result.known - failed,
        failed,
        tokens_in,
        tokens_out,
        cost_of(config, tokens_in, tokens_out) if priced else None,
        _seconds(model, count, tokens_in + tokens_out),
    )


def _to_ask(
    model: PromptedModel, questions: Callable[[], Iterator[Question]], store: AnswerStore, result: JobResult
) -> Iterator[Question]:
    """What is unanswered, and what failed but is asked again by itself."""
    yield from unanswered(questions(), store, (), result)
    if anew := asked_anew(store, model):
        for question in questions():
            if anew.pop(question.key, None):
                result.known -= 1
                yield question


def _seconds(model: PromptedModel, requests: int, tokens: float) -> float | None:
    config = model.config
    if config.kind != "openai":
        return None
    bounds = [requests / config.concurrency * 5.0]
    if config.requests_per_minute:
        bounds.append(requests / config.requests_per_minute * 60.0)
    if config.tokens_per_minute:
        bounds.append(tokens / config.tokens_per_minute * 60.0)
    return max(bounds)
