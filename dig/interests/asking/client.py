"""One question from the first word to an answer that is kept: attempts, a second chance, and what is paid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dig.engine.console import warn
from dig.interests.asking.answers import AnswerError
from dig.interests.asking.budget import Budget, cost_of, most_tokens
from dig.interests.asking.limits import (
    LONGEST_ASKED,
    Breaker,
    EndpointStoppedError,
    RateLimiter,
    Usability,
    pause_before,
)
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, Question
from dig.interests.asking.store import AnswerStore, Failure, unanswered
from dig.interests.models.endpoint import Endpoint, LostError, RefusedError
from dig.interests.models.response import Completion, Message, probable_tokens

__all__ = ["Entry", "Client", "GivenUpError", "Account", "advice", "second_chance"]

_KEPT = 100_000
"""Characters of an unusable answer that are kept."""
_QUOTED = 4000
"""Characters of an unusable answer that the model is shown when it is asked again."""


_PATIENCE = 10
"""An endpoint that merely wants to be asked less is tried this many times as often as one that fails."""


class GivenUpError(Exception):
    """No answer came in as many attempts as are allowed.

    Args:
        reason: why the last failed.
        final: whether another run would fare no better and might pay again.
        refused: whether the endpoint will not answer this question.
    """

    def __init__(self, reason: str, final: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final, self.refused = reason, final, refused


class Entry(NamedTuple):
    """A request in an account."""

    number: int
    bound: float
    """The most that it may cost, US dollars."""


@dataclass
class Account:
    """The accounting of one model in one campaign; ``again`` where failures of a finished one are asked again.

    Where a model is stopped before one answer could be used, its failures are marked: they are the model's rather than
    the items', so a later run asks again once an answer of it can be used.
    """

    store: AnswerStore
    budget: Budget
    campaign: str
    model: PromptedModel
    result: JobResult
    again: bool = False
    usability: Usability = field(init=False)
    _unproven: list[bytes] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.usability = Usability(self.model.config.max_unusable, lambda reason: advice(self.model, reason))

    async def begin(self, key: bytes, messages: list[Message], wait: bool = True) -> Entry:
        """Enters a request, as :meth:`Budget.reserve` allows."""
        config = self.model.config
        bound = cost_of(config, most_tokens(config, messages), config.max_output)
        await self.budget.reserve(bound, wait)
        self.result.requests += 1
        return Entry(self.store.begin(self.campaign, self.model.identity, key, bound), bound)

    def paid(self, entry: Entry, question: Question, completion: Completion) -> AnswerError | None:
        """Enters what an answer has cost, and keeps it if it can be used; both or, on a kill, neither.

        Returns:
            What is wrong with an answer that cannot be used.
        """
        cost = cost_of(self.model.config, completion.prompt_tokens, completion.completion_tokens)
        usable, problem = None, None
        try:
            usable = question.read(self.model, completion)
        except AnswerError as error:
            problem = error
        with self.store.transaction():
            self.store.paid(
                entry.number, completion.prompt_tokens, completion.completion_tokens, cost, completion.estimated
            )
            if usable is not None:
                identity, item_id = self.model.identity, question.evidence.item_id
                self.store.answered(identity, question.key, item_id, usable.text)
                if self.again:  # here, so that no kill leaves an answer that no later run looks for
                    self.store.count_retried(self.campaign, 1)
        self.result.tokens += completion.completion_tokens
        if usable is not None:
            self.result.usable(question, usable)
        self.result.estimated += completion.estimated
        self._settle(entry, cost)
        if problem is None:
            self.usability.usable()
        return problem

    def refused(self, entry: Entry) -> None:
        """Nothing was paid."""
        self.store.unpaid(entry.number)
        self._settle(entry, 0.0)

    def lost(self, entry: Entry) -> None:
        """Nobody knows."""
        self.store.unknown(entry.number)
        self._settle(entry, entry.bound)

    def unreadable(self, entry: Entry, usage: tuple[int, int]) -> None:
        """Nothing that could be read came, but what it took was told."""
        cost = cost_of(self.model.config, *usage)
        self.store.paid(entry.number, *usage, cost)
        self._settle(entry, cost)

    def give_up(self, question: Question, completion: Completion, problem: AnswerError) -> None:
        """Keeps an answer that is unusable for good."""
        failure = Failure(
            question.key, question.evidence.item_id, problem.reason, str(problem), completion.text[:_KEPT]
        )
        self.store.failed(self.model.identity, failure)
        self.result.failed[problem.reason] += 1
        self.usability.unusable(problem.reason, completion.text)
        if not self.usability.proven:
            self._unproven.append(question.key)
            if self.usability.stopped is not None:
                self.store.mark_unproven(self._unproven)
                self._unproven.clear()

    def to_ask(self, questions: Callable[[], Iterator[Question]], under_way: Collection[bytes]) -> Iterator[Question]:
        """What this run asks: what is unanswered, then what failed while no answer of the model could be used."""
        yield from unanswered(questions(), self.store, under_way, self.result, self.again)
        if self.again or not self.usability.proven:
            return
        if marked := self.store.unproven(self.model.identity):
            for question in questions():
                if question.key in marked:
                    marked.discard(question.key)
                    self.result.known -= 1
                    yield question

    def _settle(self, entry: Entry, cost: float) -> None:
        self.budget.settle(entry.bound, cost)
        self.result.cost += cost


def advice(model: PromptedModel, reason: str) -> str:
    """What a person may change where most answers are unusable for one reason."""
    key, config = f"mining.models.{model.name}", model.config
    if reason in ("cut short", "empty"):
        return f"raise {key}.max_output={config.max_output}, which counts what a model thinks, too"
    if reason == "too long a question":
        return "take a model with a longer context, or a shorter prompt"
    if reason.endswith("no choices"):
        return "ask its provider why, or take another model"
    if reason.startswith("unreadable"):
        return f"is {key}.base_url={config.base_url} where its chat completions are, up to and with /v1?"
    if reason == "refused":
        return "take another model or other words for the prompt"
    if reason.startswith("HTTP"):
        return f"see {key}.temperature, .format, .output_key and .extra for what it refuses"
    if config.format != "json_schema":
        where = "where its server holds a model to a schema" if config.kind == "openai" else "which holds it to one"
        return f"set {key}.format=json_schema {where}, or take a larger model"
    return "take a larger model, or a prompt with fewer demands"


def second_chance(
    model: PromptedModel, messages: list[Message], completion: Completion, error: AnswerError
) -> list[Message]:
    """The conversation in which a model is asked again."""
    said = Message("assistant", completion.text[:_QUOTED] or "(nothing)")
    return [*messages, said, Message("user", model.prompt.ask_again(str(error)))]


class Client:
    """Asks one endpoint.

    Args:
        account: where requests and answers are entered.
        endpoint: where they are sent.
    """

    def __init__(self, account: Account, endpoint: Endpoint) -> None:
        config = account.model.config
        self._told = False
        self.account, self.endpoint, self.usability = account, endpoint, account.usability
        self.rate_limiter = RateLimiter(config.requests_per_minute, config.tokens_per_minute)
        self.breaker = Breaker(config.breaker, 16 * config.backoff)

    async def answer(self, question: Question) -> None:
        """Asks until there is an answer, a second time where the first cannot be used, and keeps what came.
        Raises:
            EndpointStoppedError: the endpoint is not to be asked any more.
            BudgetSpentError: a limit is reached.
            GivenUpError: no answer came.
        """
        messages = question.messages(self.account.model)
        completion, problem = Completion("", 0, 0), AnswerError("empty", "the answer is empty")
        for chance in range(2):
            try:
                entry, answer = await self._complete(question.key, messages)
            except GivenUpError as error:
                if chance and error.refused:  # as too long a conversation is: the first answer is the last
                    self.account.give_up(question, completion, problem)
                    return
                if error.refused:
                    reason, _, said = error.reason.partition(": ")
                    self.usability.unusable(reason, said)
                if not error.final:
                    raise
                self.account.give_up(question, Completion("", 0, 0), AnswerError(error.reason, error.reason))
                return
            earlier = self.account.paid(entry, question, answer)
            if earlier is None:
                return
            completion, problem = answer, earlier
            if chance:
                self.account.give_up(question, completion, problem)
                return
            messages = second_chance(self.account.model, messages, completion, problem)

    async def _complete(self, key: bytes, messages: list[Message]) -> tuple[Entry, Completion]:
        config = self.account.model.config
        tokens = probable_tokens(config, messages) + config.max_output
        failures = refusals = 0
        while True:
            await self._turn(tokens)
            entry, result = await self._attempt(key, messages)
            if isinstance(result, Completion):
                self.breaker.reached()
                self.breaker.succeeded()
                return entry, result
            self._tell(result)
            self._note(result)
            busy = isinstance(result, RefusedError) and result.healthy
            failures, refusals = failures + (not busy), refusals + busy
            if not result.transient or failures > config.retries or refusals > _PATIENCE * config.retries:
                lost = isinstance(result, LostError)
                raise GivenUpError(result.reason, lost and not result.transient, not lost and not result.transient)
            await self._rest(pause_before(failures + refusals, config.backoff))

    async def _turn(self, tokens: float) -> None:
        """Waits until this endpoint may be asked."""
        if self.usability.stopped is not None:
            self.breaker.stop(self.usability.stopped)
        await self.breaker.admit()
        while wait := self.rate_limiter.wait(tokens):
            await self._rest(wait)

    async def _rest(self, seconds: float) -> None:
        """A pause, cut short where the endpoint is given up.

        Raises:
            EndpointStoppedError: nothing more is to be sent.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.breaker.stopped is None:
            await asyncio.sleep(min(left, 0.5))
        if self.breaker.stopped is not None:
            raise EndpointStoppedError(self.breaker.stopped)

    async def _attempt(
        self, key: bytes, messages: list[Message]
    ) -> tuple[Entry, Completion | RefusedError | LostError]:
        try:
            entry = await self.account.begin(key, messages)
        except BaseException:
            self.breaker.untold()
            raise
        try:
            return entry, await self.endpoint.complete(messages, f"dig-{entry.number}")
        except RefusedError as error:
            self.account.refused(entry)
            return entry, error
        except LostError as error:
            if error.usage is not None:
                self.account.unreadable(entry, error.usage)
            else:
                self.account.lost(entry)
            return entry, error
        except BaseException:  # cancelled: nobody knows what becomes of it
            self.account.lost(entry)
            raise

    def _tell(self, error: RefusedError | LostError) -> None:
        """Says at once, once, that an endpoint fails, and how long that is put up with."""
        if self._told or not error.transient:
            return
        self._told = True
        config, name = self.account.model.config, self.account.model.name
        if isinstance(error, RefusedError) and error.unreachable:
            how = f"it is given up after {self.breaker.patience:.0f} s"
        else:
            how = f"a question is asked again up to {config.retries:,} times, each for {config.timeout:g} s at most"
        warn(f"{name}: {error.reason}; {how} (further failures of it are counted, not told)")

    def _note(self, error: RefusedError | LostError) -> None:
        """What a failed attempt says of the endpoint."""
        if isinstance(error, RefusedError) and error.unreachable:
            self.breaker.unreachable(error.reason)
        else:
            self.breaker.reached()
        if isinstance(error, RefusedError):
            if error.fatal:
                self.breaker.stop(error.reason)
            if error.retry_after is not None and error.retry_after > LONGEST_ASKED:
                self.breaker.stop(
                    f"{error.reason}; it asks to be left alone for {error.retry_after / 3600:,.1f} h, "
                    "and the same command continues then"
                )
            elif error.retry_after is not None:
                self.rate_limiter.pause(error.retry_after)
            if error.healthy:
                self.breaker.untold()
                return
        elif error.excerpt is not None and error.transient:
            self.usability.unusable(error.reason, error.excerpt)
        self.breaker.failed(error.reason)
