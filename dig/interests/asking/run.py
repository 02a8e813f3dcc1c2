"""Asks any number of models about any number of items, stops where it must, and turns answers into interests."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import polars as pl

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.engine.console import say, warn
from dig.engine.signals import Preempted, current_watch, signals_call
from dig.interests.asking.answers import AnswerError, Caption, MinedInterests
from dig.interests.asking.budget import Budget, BudgetSpentError
from dig.interests.asking.client import Account, Client, Entry, GivenUpError, second_chance
from dig.interests.asking.limits import EndpointStoppedError
from dig.interests.asking.progress import JobProgress, JobResult, job_progress
from dig.interests.asking.question import PromptedModel, Question
from dig.interests.asking.schema import answer_schema
from dig.interests.asking.store import AnswerStore, asked_anew
from dig.interests.grounding import Dropped
from dig.interests.interest import MinedRow, mined_frame, without_duplicates
from dig.interests.models import local_model
from dig.interests.models.endpoint import Endpoint, check_credentials
from dig.interests.models.response import Completion, LocalModel, Message

__all__ = ["AWAITED", "AskingJob", "Limits", "ask", "answers_to", "read_captions_of", "read_interests_of"]


HOMEWARD = 6.0
"""Seconds after an interrupt in which requests under way may be answered; what is not counts as a cost unknown."""
AWAITED = "asked for again"
"""What is missing of a question that the next run asks again by itself, as a second chance or under other settings."""
_SECONDS_A_CALL = 30.0
_VLLM_FEWEST, _VLLM_MOST = 32, 1000
"""Questions of one call of vLLM."""
_AHEAD = 4
"""Batches of a local model whose questions are sorted by length together."""
_BEAT = 5.0
"""Seconds between two looks whether a line is due."""


@dataclass(frozen=True)
class AskingJob:
    """One model and what it is asked.

    Attributes:
        model: the model with its prompt.
        questions: makes all of its questions, from the first on.
        total: how many there are.
    """

    model: PromptedModel
    questions: Callable[[], Iterator[Question]]
    total: int


@dataclass(frozen=True)
class Limits:
    """Hard stops of a campaign: US dollars and requests, earlier runs of it included; None knows no limit."""

    max_cost: float | None = None
    max_requests: int | None = None


def ask(
    jobs: Sequence[AskingJob], store: AnswerStore, campaign: str, limits: Limits, again: bool = False
) -> list[JobResult]:
    """Asks all models side by side until every question has an answer or a reason why not.

    Every answer is kept the moment it arrives. An interrupt (Ctrl-C, SIGTERM) lets what is under way come home within
    :data:`HOMEWARD` seconds; a second one does not.

    Args:
        jobs: models and their questions.
        store: where answers are found and kept.
        campaign: what limits and spending are counted by.
        limits: hard stops.
        again: ask again what failed for good.

    Returns:
        A result per job, in order.

    Raises:
        UserError: a key is missing, a local model cannot be loaded, or the disk is full.
        KeyboardInterrupt: after an interrupt, when everything is kept.
        Preempted: the same, after a signal that somebody watches for.
    """
    for job in jobs:
        if job.model.config.kind == "openai":
            check_credentials(job.model.name, job.model.config)
    with store.asking():
        spent = store.spending(campaign)
        budget = Budget(limits.max_cost, limits.max_requests, spent.cost + spent.unknown_cost, spent.requests)
        accounts = [
            Account(store, budget, campaign, job.model, JobResult(job.model.name, job.total), again) for job in jobs
        ]
        try:
            asyncio.run(_Run(jobs, accounts, again).run())
        except sqlite3.OperationalError as error:
            raise UserError(
                f"answers can no longer be kept in {store.path} ({error}), so asking has stopped; free "
                "some space, then the same command resumes"
            ) from error
    return [account.result for account in accounts]


class _Turn(NamedTuple):
    """A question to a local model, with what is said to it."""

    question: Question
    messages: list[Message]


class _Batches:
    """How many questions a local model is asked at once.

    transformers answers row by row, and every row is kept when it ends. vLLM batches by itself and answers a call as a
    whole, so as many go into one as it answers in about :data:`_SECONDS_A_CALL`: that much a kill may lose.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._grows = config.kind == "vllm"
        self.size = _VLLM_FEWEST if self._grows else config.batch_size

    @property
    def questions(self) -> int:
        """Questions that are taken up together, the batches of which are about equally long."""
        return self.size if self._grows else _AHEAD * self.size

    def took(self, count: int, seconds: float) -> None:
        """So many were answered in so many seconds."""
        if self._grows and count == self.size:
            wanted = int(count * _SECONDS_A_CALL / max(seconds, 1e-3))
            self.size = max(_VLLM_FEWEST, min(wanted, 2 * self.size, _VLLM_MOST))


class _Run:
    """A run of several models, each with workers of its own."""

    def __init__(self, jobs: Sequence[AskingJob], accounts: Sequence[Account], again: bool) -> None:
        self.jobs, self.accounts, self.again = jobs, accounts, again
        self.over: str | None = None
        """Why nothing more is asked at all."""
        self.interrupted = False
        self._clients: list[Client] = []

    async def run(self) -> None:
        with job_progress([account.result for account in self.accounts]) as shown, self._interrupts():
            beats = asyncio.create_task(_beats(shown))
            try:
                await _all_or_none(
                    (self._remote if job.model.config.kind == "openai" else self._local)(job, account, shown)
                    for job, account in zip(self.jobs, self.accounts, strict=True)
                )
            finally:
                beats.cancel()
        watch = current_watch()
        if watch is not None and watch.name is not None:
            raise Preempted(f"asking stopped by {watch.name}")
        if self.interrupted:
            raise KeyboardInterrupt

    async def _remote(self, job: AskingJob, account: Account, shown: JobProgress) -> None:
        endpoint = Endpoint(job.model.name, job.model.config)
        client = Client(account, endpoint)
        self._clients.append(client)
        shown.waits[job.model.name] = lambda: client.concurrency.under_way
        if self.interrupted:
            client.breaker.stop("interrupted")
        under_way: set[bytes] = set()
        questions = account.to_ask(job.questions, under_way)
        try:
            await _all_or_none(
                self._work(client, questions, under_way, shown) for _ in range(job.model.config.concurrency)
            )
        finally:
            self._clients.remove(client)
            await endpoint.close()
        self._ended(account.result, client.usability.stopped or client.breaker.stopped)

    async def _work(
        self, client: Client, questions: Iterator[Question], under_way: set[bytes], shown: JobProgress
    ) -> None:
        result = client.account.result
        while True:
            await client.usability.admit()
            try:
                stopped = self.over or client.usability.stopped or client.breaker.stopped
                question = None if stopped else next(questions, None)
                if question is None:
                    return
                await self._one(client, question, under_way)
            except EndpointStoppedError:
                return
            finally:
                client.usability.ended()
            shown.show(result)

    async def _one(self, client: Client, question: Question, under_way: set[bytes]) -> None:
        under_way.add(question.key)
        try:
            await client.answer(question)
        except GivenUpError as error:
            client.account.result.left[error.reason] += 1
        except BudgetSpentError as error:
            self.over = self.over or str(error)
        finally:
            under_way.discard(question.key)

    def _ended(self, result: JobResult, stopped: str | None) -> None:
        """A model is not asked any more; says so at once where others are."""
        result.stopped = stopped or self.over
        if stopped is not None and len(self.jobs) > 1 and not self.interrupted:
            warn(f"{result.name} is not asked any more: {stopped}; the others continue")

    async def _local(self, job: AskingJob, account: Account, shown: JobProgress) -> None:
        """A model of this process, in a thread of its own: batches, and second chances as batches, too."""
        questions = account.to_ask(job.questions, ())
        model: LocalModel | None = None
        usability = account.usability
        batch = _Batches(job.model.config)
        while self.over is None and usability.stopped is None:
            some = list(islice(questions, min(batch.questions, usability.at_once or batch.questions)))
            if not some:
                break
            if model is None:
                model = await asyncio.to_thread(local_model, job.model.name, job.model.config)
                shown.begin(account.result)
            some.sort(
                key=lambda question: len(question.evidence.text), reverse=True
            )  # so that a batch has little to pad
            waiting = [_Turn(question, question.messages(account.model)) for question in some]
            try:
                for last in (False, True):
                    waiting = await self._local_turns(model, account, waiting, batch, shown, last)
            except BudgetSpentError as error:
                self.over = self.over or str(error)
        shown.show(account.result)
        self._ended(account.result, usability.stopped)

    async def _local_turns(
        self,
        model: LocalModel,
        account: Account,
        turns: Sequence[_Turn],
        batch: _Batches,
        shown: JobProgress,
        last: bool,
    ) -> list[_Turn]:
        """Asks, batch by batch, and keeps every answer when it ends; the turns of those that are asked again.

        Raises:
            BudgetSpentError: the limits do not allow all of them.
        """
        again: list[_Turn] = []
        left = list(turns)
        while left and self.over is None and account.usability.stopped is None:
            some, left = left[: batch.size], left[batch.size :]
            entries: list[Entry] = []
            over: BudgetSpentError | None = None
            try:
                for question, messages in some:
                    entries.append(await account.begin(question.key, messages, wait=False))
            except BudgetSpentError as error:
                over = error
            some = some[: len(entries)]
            schemas = [answer_schema(account.model, turn.question.evidence) for turn in some]
            began = time.monotonic()
            async for place, completion in _each(model.answers([turn.messages for turn in some], schemas)):
                turn = some[place]
                problem = account.paid(entries[place], turn.question, completion)
                if problem is not None and last:
                    account.give_up(turn.question, completion, problem)
                elif problem is not None:
                    again.append(_Turn(turn.question, second_chance(account.model, turn.messages, completion, problem)))
                shown.show(account.result)
            batch.took(len(some), time.monotonic() - began)
            if over is not None:
                raise over
        return again

    def _say_what_is_waited_for(self) -> None:
        """Says what an interrupt does not end at once."""
        waits = [client.concurrency.under_way for client in self._clients]
        count = sum(map(len, waits))
        parts = []
        if count:
            longest = max(wait[0] for wait in waits if wait)
            parts.append(
                f"waiting up to {HOMEWARD:g} s for {count:,} request{'s' * (count > 1)} under way (the longest for "
                f"{longest:.0f} s), whose answers are paid and kept"
            )
        if any(job.model.config.kind != "openai" for job in self.jobs):
            parts.append(f"a local model keeps what it has answered {HOMEWARD:g} s from now, the rest is asked again")
        if parts:
            say(f"interrupted: {'; '.join(parts)}; a second Ctrl-C ends at once")

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """The first interrupt ends the run gently, the second at once."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            if task is not None and self.interrupted:
                task.cancel()
            elif task is not None:
                loop.call_later(HOMEWARD, task.cancel)
                self._say_what_is_waited_for()
            self.interrupted, self.over = True, self.over or "interrupted"
            for client in self._clients:  # nobody waits for a next attempt
                client.breaker.stop("interrupted")

        with signals_call(stop):
            try:
                yield
            except asyncio.CancelledError:
                if not self.interrupted:
                    raise


async def _beats(shown: JobProgress) -> None:
    """A line now and then, also while no answer comes."""
    while True:
        await asyncio.sleep(_BEAT)
        shown.beat()


async def _each(answers: Iterator[tuple[int, Completion]]) -> AsyncIterator[tuple[int, Completion]]:
    """What an iterator gives, which works in a thread of its own."""
    while (each := await asyncio.to_thread(next, answers, None)) is not None:
        yield each


async def _all_or_none(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs coroutines side by side; when one fails the others are cancelled and its error is raised as it is."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


# From kept answers to interests and captions, some thousands of items at a time.


_CHUNK = 5000


def read_interests_of(
    model: PromptedModel,
    questions: Iterator[Question],
    store: AnswerStore,
    missing: Counter[str],
    dropped: Dropped | None = None,
) -> Iterator[pl.DataFrame]:
    """The interests in the answers to the questions, a frame a few thousand items, in order.

    Args:
        model: who was asked.
        questions: one per item.
        store: the answers.
        missing: counts items without an answer that can be used, by reason.
        dropped: takes out what the item does not bear out, and counts it; None keeps all.
    """
    for chunk in _chunks(questions):
        rows: list[MinedRow] = []
        for question, answer in answers_to(model, chunk, store, missing):
            assert isinstance(answer, MinedInterests)  # noqa: S101 - tells the type checker what was asked for
            interests = answer.interests
            sure = any(mined.confidence for mined in interests)  # 0 for all says nothing, such as an example's, copied
            if dropped is not None:
                interests = dropped.kept(interests, question.evidence, model.prompt.examples)
            for mined in interests[: model.limit]:
                kind = "visual" if mined.source == "picture" else "text"
                confidence = mined.confidence if sure else None
                rows.append((question.evidence.item_id, mined.interest, kind, confidence, model.name))
        yield without_duplicates(mined_frame(rows))


def read_captions_of(
    model: PromptedModel, questions: Iterator[Question], store: AnswerStore, missing: Counter[str]
) -> dict[str, str]:
    """Item id → caption."""
    captions = {}
    for chunk in _chunks(questions):
        for question, answer in answers_to(model, chunk, store, missing):
            assert isinstance(answer, Caption)  # noqa: S101 - tells the type checker what was asked for
            captions[question.evidence.item_id] = answer.caption
    return captions


def _chunks(questions: Iterator[Question]) -> Iterator[list[Question]]:
    while chunk := list(islice(questions, _CHUNK)):
        yield chunk


def answers_to(
    model: PromptedModel, chunk: Iterable[Question], store: AnswerStore, missing: Counter[str]
) -> Iterator[tuple[Question, object]]:
    """The questions with a usable answer, and it; the others are counted by reason."""
    questions = list(chunk)
    answers = store.answers([question.key for question in questions])
    lost = []
    for question in questions:
        text = answers.get(question.key)
        try:
            if text is not None:
                yield question, question.check(model, text)
                continue
        except AnswerError:  # kept by a version of dig that asked less of an answer
            missing["an answer of an older form"] += 1
            continue
        lost.append(question.key)
    reasons = {failure.key: failure.reason for failure in store.failures(lost)} if lost else {}
    reasons |= {key: AWAITED for key, state in asked_anew(store, model).items() if key in reasons} if reasons else {}
    missing.update(reasons.get(key, "not asked") for key in lost)
