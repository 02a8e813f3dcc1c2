"""One question from the first word to an answer that is kept: attempts, a second chance, and what is paid.

A first answer that cannot be used is kept the moment it is paid, as a failure whose second chance is to come. Whatever
ends a run before that, the next one sends the second request alone and never pays for the first again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dig.engine.console import printable, say, warn
from dig.interests.asking.answers import AnswerError
from dig.interests.asking.budget import Budget, BudgetSpentError, cost_of, most_tokens
from dig.interests.asking.limits import (
    AWAY_REST,
    LONGEST_ASKED,
    Breaker,
    Concurrency,
    EndpointStoppedError,
    RateLimiter,
    Slot,
    Usability,
    pause_before,
)
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, Question
from dig.interests.asking.schema import answer_schema
from dig.interests.asking.store import (
    SECOND_CHANCE,
    AnswerStore,
    Failure,
    asked_anew,
    context_state,
    length_state,
    unanswered,
)
from dig.interests.models.endpoint import Endpoint, LostError, RefusedError
from dig.interests.models.response import Completion, Message, probable_tokens

__all__ = ["Entry", "Client", "GivenUpError", "Account", "advice", "second_chance"]

_KEPT = 100_000
"""Characters of an unusable answer that are kept."""
_QUOTED = 4000
"""Characters of an unusable answer that the model is shown when it is asked again."""


_PATIENCE = 10
"""An endpoint that merely wants to be asked less is tried this many times as often as one that fails."""


_TOO_LONG = "too long for its context"
"""Reason of a question that an endpoint refuses for its length."""
_NOT_ASKED = "too long a question"
"""Reason of a question that a local model is not asked for its length."""
_FORMS = ("no JSON", "broken JSON", "wrong shape")
"""What is wrong with an answer that an endpoint did not hold to ``response_format``."""


class GivenUpError(Exception):
    """No answer came in as many attempts as are allowed.

    Args:
        reason: why the last failed.
        final: whether another run would fare no better and might pay again.
        refused: whether the endpoint will not answer this question.
        too_long: whether that is because the question has more tokens than its context.
    """

    def __init__(self, reason: str, final: bool = False, refused: bool = False, too_long: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final, self.refused, self.too_long = reason, final, refused, too_long


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
    _anew: dict[bytes, str] = field(init=False, default_factory=dict)

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
        """Enters what an answer has cost, and keeps it, as a failure where it cannot be used; both or, on a kill,
        neither.

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
            elif problem is not None and problem.reason != _NOT_ASKED:
                self._keep(question, completion, problem, SECOND_CHANCE)
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
        """Keeps an answer that is unusable for good, or as long as the settings are those of today."""
        config = self.model.config
        first = self.store.failures([question.key]) if problem.reason == _NOT_ASKED else []
        if first:  # too long for its second chance: the first answer is the last
            completion, problem = Completion(first[0].text, 0, 0), AnswerError(first[0].reason, first[0].problem)
        states = {"cut short": length_state(config), _TOO_LONG: context_state(config)}
        self._keep(question, completion, problem, states.get(problem.reason, ""))
        self.result.failed[problem.reason] += 1
        self.usability.unusable(problem.reason, completion.text or str(problem))
        if not self.usability.proven:
            if problem.reason != _TOO_LONG:  # which is no fault of the model
                self._unproven.append(question.key)
            if self.usability.stopped is not None:
                self.store.mark_unproven(self._unproven)
                self._unproven.clear()

    def first_answer(self, question: Question) -> tuple[Completion, AnswerError] | None:
        """An earlier run's answer whose second chance is to come, and what is wrong with it."""
        if self._anew.get(question.key) != SECOND_CHANCE:
            return None
        (failure,) = self.store.failures([question.key])
        return Completion(failure.text, 0, 0), AnswerError(failure.reason, failure.problem)

    def to_ask(self, questions: Callable[[], Iterator[Question]], under_way: Collection[bytes]) -> Iterator[Question]:
        """What this run asks: what is unanswered, then what failed but is asked again by itself, then what failed while
        no answer of the model could be used."""
        self._anew = asked_anew(self.store, self.model)
        yield from unanswered(questions(), self.store, under_way, self.result, self.again)
        if self.again:
            return
        yield from self._failed_before(questions, set(self._anew))
        if self.usability.proven:  # some of those before are under way, with their old failure still in the store
            yield from self._failed_before(questions, self.store.unproven(self.model.identity) - self._anew.keys())

    def _failed_before(self, questions: Callable[[], Iterator[Question]], keys: set[bytes]) -> Iterator[Question]:
        for question in questions() if keys else ():
            if question.key in keys:
                keys.discard(question.key)
                self.result.known -= 1
                yield question

    def _keep(self, question: Question, completion: Completion, problem: AnswerError, state: str) -> None:
        text = completion.text[:_KEPT]
        failure = Failure(question.key, question.evidence.item_id, problem.reason, str(problem), text)
        self.store.failed(self.model.identity, failure, state)

    def _settle(self, entry: Entry, cost: float) -> None:
        self.budget.settle(entry.bound, cost)
        self.result.cost += cost


def advice(model: PromptedModel, reason: str) -> str:
    """What a person may change where most answers are unusable for one reason."""
    key, config = f"mining.models.{model.name}", model.config
    if reason in ("cut short", "empty"):
        return f"raise {key}.max_output={config.max_output}, which counts what a model thinks, too"
    if reason == _TOO_LONG:
        return (
            f"start its server with a longer context, or lower {key}.max_output={config.max_output}, which is a part "
            "of it; a shorter mining.interests_prompt helps, too"
        )
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
    if config.kind == "openai":
        return "take a server that holds a model to a schema, as vLLM and llama.cpp do, or a larger model"
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
        self._told: set[str] = set()
        self.account, self.endpoint, self.usability = account, endpoint, account.usability
        self.rate_limiter = RateLimiter(config.requests_per_minute, config.tokens_per_minute)
        self.breaker = Breaker(config.breaker, 16 * config.backoff)
        self.concurrency = Concurrency(config.concurrency, config.timeout)

    async def answer(self, question: Question) -> None:
        """Asks until there is an answer, a second time where the first cannot be used, and keeps what came.

        Raises:
            EndpointStoppedError: the endpoint is not to be asked any more.
            BudgetSpentError: a limit is reached.
            GivenUpError: no answer came.
        """
        first = self.account.first_answer(question) or await self._first(question)
        if first is None:
            return
        completion, problem = first
        model, left = self.account.model, self.account.result.left
        messages = second_chance(model, question.messages(model), completion, problem)
        try:
            entry, answer = await self._complete(question, messages)
        except GivenUpError as error:
            if self.breaker.stopped is not None or not (error.refused or error.final):
                raise  # no quota, key or model says nothing of the question; its second chance is still to come
            self.account.give_up(question, completion, problem)  # as for too long a conversation: the first is the last
            return
        except (EndpointStoppedError, BudgetSpentError):
            left[f"{problem.reason}, its {SECOND_CHANCE} to come"] += 1
            raise
        again = self.account.paid(entry, question, answer)
        if again is not None:
            self.account.give_up(question, answer, again)

    async def _first(self, question: Question) -> tuple[Completion, AnswerError] | None:
        """Asks once; an answer that cannot be used, and what is wrong with it, None where that was all."""
        try:
            entry, answer = await self._complete(question, question.messages(self.account.model))
        except GivenUpError as error:
            if error.final or error.too_long:
                reason = _TOO_LONG if error.too_long else error.reason
                self.account.give_up(question, Completion("", 0, 0), AnswerError(reason, error.reason))
                return None
            if error.refused:
                reason, _, said = error.reason.partition(": ")
                self.usability.unusable(reason, said)
            raise
        problem = self.account.paid(entry, question, answer)
        if problem is None:
            return None
        self._tell_format(answer, problem)
        return answer, problem

    async def _complete(self, question: Question, messages: list[Message]) -> tuple[Entry, Completion]:
        config = self.account.model.config
        tokens = probable_tokens(config, messages) + config.max_output
        failures = refusals = 0
        while True:
            slot = await self._turn(tokens)
            entry, result = await self._attempt(question, messages, slot)
            if isinstance(result, Completion):
                self._back()
                self.breaker.succeeded()
                return entry, result
            self._tell(result)
            self._note(result)
            if isinstance(result, RefusedError) and result.unreachable:
                await self._rest(pause_before(1, min(config.backoff, AWAY_REST)))
                continue  # it says nothing of the question; the breaker knows how long that may last
            busy = isinstance(result, RefusedError) and result.healthy
            failures, refusals = failures + (not busy), refusals + busy
            if not result.transient or failures > config.retries or refusals > _PATIENCE * config.retries:
                lost = isinstance(result, LostError)
                too_long = isinstance(result, RefusedError) and result.too_long
                raise GivenUpError(
                    result.reason, lost and not result.transient, not lost and not result.transient, too_long
                )
            await self._rest(pause_before(failures + refusals, config.backoff))

    async def _turn(self, tokens: float) -> Slot:
        """Waits until this endpoint may be asked; a place among the requests under way."""
        slot = await self.concurrency.admit(lambda: self._stopped() is not None)
        try:
            if (stopped := self._stopped()) is not None:
                self.breaker.stop(stopped)
            await self.breaker.admit()
            while wait := self.rate_limiter.wait(tokens):
                await self._rest(wait)
        except BaseException:
            if slot is not None:
                self.concurrency.leave(slot)
            raise
        assert slot is not None  # noqa: S101 - the breaker raises where nothing was admitted
        return slot

    def _stopped(self) -> str | None:
        return self.usability.stopped or self.breaker.stopped

    async def _rest(self, seconds: float) -> None:
        """A pause, cut short where the endpoint is given up.

        Raises:
            EndpointStoppedError: nothing more is to be sent.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._stopped() is None:
            await asyncio.sleep(min(left, 0.5))
        if (stopped := self._stopped()) is not None:
            self.breaker.stop(stopped)
            raise EndpointStoppedError(stopped)

    async def _attempt(
        self, question: Question, messages: list[Message], slot: Slot
    ) -> tuple[Entry, Completion | RefusedError | LostError]:
        try:
            entry = await self.account.begin(question.key, messages)
        except BaseException:
            self.breaker.untold()
            self.concurrency.leave(slot)
            raise
        self.concurrency.begin(slot)
        asks_for_it = self.endpoint.format == "json_schema"
        schema = answer_schema(self.account.model, question.evidence) if asks_for_it else {}
        try:
            completion = await self.endpoint.complete(messages, f"dig-{entry.number}", schema, slot.timeout)
        except RefusedError as error:
            self.account.refused(entry)
            self._leave(slot, error)
            return entry, error
        except LostError as error:
            if error.usage is not None:
                self.account.unreadable(entry, error.usage)
            else:
                self.account.lost(entry)
            self._leave(slot, error)
            return entry, error
        except BaseException:  # cancelled: nobody knows what becomes of it
            self.account.lost(entry)
            self.concurrency.leave(slot)
            raise
        self.concurrency.answered(slot, completion.completion_tokens)
        return entry, completion

    def _leave(self, slot: Slot, error: RefusedError | LostError) -> None:
        """What a failed attempt says of how much may be asked for at once."""
        if isinstance(error, LostError) and error.timed_out:
            self.concurrency.overloaded(slot, given_up=True)
        elif isinstance(error, RefusedError) and error.overloaded:
            self.concurrency.overloaded(slot)
        else:
            self.concurrency.leave(slot)

    def _tell(self, error: RefusedError | LostError) -> None:
        """Says at once, once, that an endpoint fails in some way, and how long that is put up with."""
        config, name = self.account.model.config, self.account.model.name
        key = f"mining.models.{name}"
        away = isinstance(error, RefusedError) and error.unreachable
        late = isinstance(error, LostError) and error.timed_out
        kind = "away" if away else "late" if late else "other"
        if kind in self._told or not error.transient:
            return
        self._told.add(kind)
        if away:
            how = f"it is given up after {self.breaker.patience:.0f} s"
        elif late:
            how = (
                f"from now on {self.concurrency.size:,} at once; raise {key}.timeout where an answer takes longer, "
                f"lower {key}.max_output or .concurrency where it need not"
            )
        else:
            how = f"a question is asked again up to {config.retries:,} times, each for {config.timeout:g} s at most"
        warn(f"{name}: {error.reason}; {how} (further failures of it are counted, not told)")

    def _tell_format(self, answer: Completion, problem: AnswerError) -> None:
        """Says once that an endpoint takes a format and answers in another."""
        form, name = self.endpoint.format, self.account.model.name
        held = _FORMS if form == "json_schema" else _FORMS[:2]
        if form == "none" or problem.reason not in held or "format" in self._told:
            return
        self._told.add("format")
        warn(
            f"{name}: its endpoint was asked for format={form} and answers otherwise ({problem.reason}: {problem}), "
            f"such as {printable(answer.text, 60)!r}, so it does not hold its model to it; "
            f"{advice(self.account.model, problem.reason)}"
        )

    def _note(self, error: RefusedError | LostError) -> None:
        """What a failed attempt says of the endpoint."""
        if isinstance(error, RefusedError) and error.unreachable:
            self.breaker.unreachable(error.reason, listens=error.listens)
        else:
            self._back()
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

    def _back(self) -> None:
        """A connection stood, perhaps after some time without one."""
        away = self.breaker.reached()
        if away and "away" in self._told:
            self._told.discard("away")
            say(f"{self.account.model.name}: its endpoint is there again after {away:.0f} s")
