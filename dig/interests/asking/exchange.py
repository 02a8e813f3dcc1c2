"""One question from the first word to an answer that is kept: attempts, a second chance, and the books."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from dig.interests.asking.answers import AnswerError
from dig.interests.asking.budget import Budget, cost_of, most_tokens, probable_tokens
from dig.interests.asking.conversation import Completion, Message
from dig.interests.asking.limits import Breaker, Pace, pause_before
from dig.interests.asking.outcome import Outcome
from dig.interests.asking.question import Asker, Question
from dig.interests.asking.store import AnswerStore, Failure
from dig.interests.models.endpoint import Endpoint, LostError, RefusedError

__all__ = ["Entry", "Exchange", "GivenUpError", "Ledger", "second_chance"]

_KEPT = 100_000
"""Characters of an unusable answer that are kept."""
_QUOTED = 4000
"""Characters of an unusable answer that the model is shown when it is asked again."""


_PATIENCE = 10
"""An endpoint that merely wants to be asked less is tried so many times as often as one that fails."""


class GivenUpError(Exception):
    """No answer came in as many attempts as are allowed.

    Args:
        reason: why the last failed.
        final: whether another run would fare no better and might pay again.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


class Entry(NamedTuple):
    """A request in the books."""

    number: int
    bound: float
    """The most that it may cost, US dollars."""


class Ledger(NamedTuple):
    """The books of one model in one campaign; ``again`` where failures of a finished one are asked again."""

    store: AnswerStore
    budget: Budget
    campaign: str
    asker: Asker
    outcome: Outcome
    again: bool = False

    async def begin(self, key: bytes, messages: list[Message], wait: bool = True) -> Entry:
        """Enters a request, as :meth:`Budget.reserve` allows."""
        config = self.asker.config
        bound = cost_of(config, most_tokens(config, messages), config.max_output)
        await self.budget.reserve(bound, wait)
        self.outcome.requests += 1
        return Entry(self.store.begin(self.campaign, self.asker.identity, key, bound), bound)

    def paid(self, entry: Entry, question: Question, completion: Completion) -> AnswerError | None:
        """Enters what an answer has cost, and keeps it if it can be used; both or, on a kill, neither.

        Returns:
            What is wrong with an answer that cannot be used.
        """
        cost = cost_of(self.asker.config, completion.prompt_tokens, completion.completion_tokens)
        problem = _problem(self.asker, question, completion)
        with self.store.transaction():
            self.store.paid(entry.number, completion.prompt_tokens, completion.completion_tokens, cost)
            if problem is None:
                identity, item_id = self.asker.identity, question.evidence.item_id
                self.store.answered(identity, question.key, item_id, completion.text)
                if self.again:  # here, so that no kill leaves an answer that no later run looks for
                    self.store.count_retried(self.campaign, 1)
        self.outcome.answered += problem is None
        self._settle(entry, cost)
        return problem

    def refused(self, entry: Entry) -> None:
        """Nothing was paid."""
        self.store.unpaid(entry.number)
        self._settle(entry, 0.0)

    def lost(self, entry: Entry) -> None:
        """Nobody knows."""
        self.store.unknown(entry.number)
        self._settle(entry, entry.bound)

    def give_up(self, question: Question, completion: Completion, problem: AnswerError) -> None:
        """Keeps an answer that is unusable for good."""
        failure = Failure(
            question.key, question.evidence.item_id, problem.reason, str(problem), completion.text[:_KEPT]
        )
        self.store.failed(self.asker.identity, failure)
        self.outcome.failed[problem.reason] += 1

    def _settle(self, entry: Entry, cost: float) -> None:
        self.budget.settle(entry.bound, cost)
        self.outcome.cost += cost


def _problem(asker: Asker, question: Question, completion: Completion) -> AnswerError | None:
    """What is wrong with an answer, None with a usable one."""
    try:
        if completion.note == "no UTF-8":
            raise AnswerError("no UTF-8", "the answer is no UTF-8")
        question.check(asker, completion.text)
    except AnswerError as error:
        if completion.note == "cut short":
            return AnswerError("cut short", "the answer was cut at the limit of its length; be shorter")
        return error
    return None


def second_chance(asker: Asker, messages: list[Message], completion: Completion, error: AnswerError) -> list[Message]:
    """The conversation in which a model is asked again."""
    said = Message("assistant", completion.text[:_QUOTED] or "(nothing)")
    return [*messages, said, Message("user", asker.prompt.ask_again(str(error)))]


class Exchange:
    """Asks one endpoint.

    Args:
        ledger: the books.
        endpoint: the client.
    """

    def __init__(self, ledger: Ledger, endpoint: Endpoint) -> None:
        config = ledger.asker.config
        self.ledger, self.endpoint = ledger, endpoint
        self.pace = Pace(config.requests_per_minute, config.tokens_per_minute)
        self.breaker = Breaker(config.breaker, 16 * config.backoff)

    async def answer(self, question: Question) -> None:
        """Asks until there is an answer, a second time where the first cannot be used, and keeps what came.

        Raises:
            EndpointStoppedError: the endpoint is not to be asked any more.
            BudgetSpentError: a limit is reached.
            GivenUpError: no answer came.
        """
        messages = question.messages(self.ledger.asker)
        for chance in range(2):
            try:
                entry, completion = await self._complete(question.key, messages)
            except GivenUpError as error:
                if not error.final:
                    raise
                self.ledger.give_up(question, Completion("", 0, 0), AnswerError(error.reason, error.reason))
                return
            problem = self.ledger.paid(entry, question, completion)
            if problem is None:
                return
            if chance:
                self.ledger.give_up(question, completion, problem)
            messages = second_chance(self.ledger.asker, messages, completion, problem)

    async def _complete(self, key: bytes, messages: list[Message]) -> tuple[Entry, Completion]:
        config = self.ledger.asker.config
        tokens = probable_tokens(config, messages) + config.max_output
        failures = refusals = 0
        while True:
            await self._turn(tokens)
            entry, outcome = await self._attempt(key, messages)
            if isinstance(outcome, Completion):
                self.breaker.succeeded()
                return entry, outcome
            self._note(outcome)
            busy = isinstance(outcome, RefusedError) and outcome.healthy
            failures, refusals = failures + (not busy), refusals + busy
            if not outcome.transient or failures > config.retries or refusals > _PATIENCE * config.retries:
                raise GivenUpError(outcome.reason, isinstance(outcome, LostError) and not outcome.transient)
            await asyncio.sleep(pause_before(failures + refusals, config.backoff))

    async def _turn(self, tokens: float) -> None:
        """Waits until this endpoint may be asked."""
        await self.breaker.admit()
        while wait := self.pace.wait(tokens):
            await asyncio.sleep(wait)

    async def _attempt(
        self, key: bytes, messages: list[Message]
    ) -> tuple[Entry, Completion | RefusedError | LostError]:
        try:
            entry = await self.ledger.begin(key, messages)
        except BaseException:
            self.breaker.untold()
            raise
        try:
            return entry, await self.endpoint.complete(messages, f"dig-{entry.number}")
        except RefusedError as error:
            self.ledger.refused(entry)
            return entry, error
        except LostError as error:
            self.ledger.lost(entry)
            return entry, error
        except BaseException:  # cancelled: nobody knows what becomes of it
            self.ledger.lost(entry)
            raise

    def _note(self, error: RefusedError | LostError) -> None:
        """What a failed attempt says of the endpoint."""
        if isinstance(error, RefusedError):
            if error.fatal:
                self.breaker.stop(error.reason)
            if error.retry_after is not None:
                self.pace.pause(error.retry_after)
            if error.healthy:
                self.breaker.untold()
                return
        self.breaker.failed(error.reason)
