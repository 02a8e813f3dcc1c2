"""What asking will take, before the first request: requests, tokens, US dollars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dig.interests.asking.budget import cost_of, probable_tokens
from dig.interests.asking.outcome import Outcome
from dig.interests.asking.question import Asker, Question
from dig.interests.asking.store import AnswerStore
from dig.interests.asking.unanswered import unanswered

__all__ = ["Estimate", "estimate"]

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
        seconds: at the configured concurrency and limits, five seconds an answer; None for a local model.
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


def estimate(asker: Asker, questions: Iterator[Question], total: int, store: AnswerStore) -> Estimate:
    """Counts what is unanswered, and weighs a sample of it (every one of the first 500).

    What an answer takes is the mean of the answers that this model has given to this prompt, or a third of its limit.
    """
    failed = store.count_failures(asker.identity)
    outcome = Outcome(asker.name, total)
    size = 0.0
    count = 0
    for question in unanswered(questions, store, (), outcome):
        if count < _SAMPLE:
            size += probable_tokens(asker.config, question.messages(asker))
        count += 1
    config = asker.config
    mean = size / min(count, _SAMPLE) if count else 0.0
    written = store.mean_tokens_out(asker.identity) or _USUAL_SHARE * config.max_output
    tokens_in, tokens_out = count * mean, count * written
    priced = config.price_in is not None and config.price_out is not None
    failed = min(failed, outcome.known)
    return Estimate(
        asker.name,
        total,
        outcome.known - failed,
        failed,
        tokens_in,
        tokens_out,
        cost_of(config, tokens_in, tokens_out) if priced else None,
        _seconds(asker, count, tokens_in + tokens_out),
    )


def _seconds(asker: Asker, requests: int, tokens: float) -> float | None:
    config = asker.config
    if config.kind != "openai":
        return None
    bounds = [requests / config.concurrency * 5.0]
    if config.requests_per_minute:
        bounds.append(requests / config.requests_per_minute * 60.0)
    if config.tokens_per_minute:
        bounds.append(tokens / config.tokens_per_minute * 60.0)
    return max(bounds)
