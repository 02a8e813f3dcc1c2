"""What the stages that ask models share: what is asked, what it will take, what came of it, when that is too little."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from datamodules.fetching import named_pictures
from dig.config import Config, UserError
from dig.engine.artifacts import ArtifactStore, fingerprint
from dig.engine.console import say, track, warn
from dig.engine.entry import given_settings
from dig.engine.secrets import hidden
from dig.engine.stage import StageContext
from dig.interests.asking.budget import Estimate, estimate
from dig.interests.asking.client import advice
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, item_evidence, picture_digest, questions_of
from dig.interests.asking.run import AWAITED, AskingJob, Limits, ask
from dig.interests.asking.store import AnswerStore, store_path
from dig.stages.prepare import STAGE as PREPARE
from dig.stages.prepare import picture_folder

__all__ = [
    "Pictures",
    "ask_jobs",
    "campaign_of",
    "check_missing",
    "command_line",
    "item_job",
    "open_store",
    "pictures_for",
    "say_estimates",
    "what_helps",
]

_ANSWERED = frozenset(
    {
        "another item",
        "broken JSON",
        "cut short",
        "empty",
        "no JSON",
        "nothing said",
        "refused",
        "too long a question",
        "too long for its context",
        "wrong shape",
    }
)
"""Reasons that a change of the model's settings may mend."""
Pictures = Mapping[str, tuple[Path, str]]
"""Item id → file and hash of its picture."""


def campaign_of(config: Config, models: Sequence[PromptedModel]) -> str:
    """What spending and limits are counted by: the data and everybody that is asked about them."""
    return fingerprint({"data": PREPARE.config_keys(config), "askers": [model.origin for model in models]})


def open_store() -> AnswerStore:
    """The store of answers under ``DIG_HOME``.

    Raises:
        UserError: it cannot be opened.
    """
    return AnswerStore(store_path(ArtifactStore().root.parent))


def pictures_for(context: StageContext, catalogue: pl.DataFrame) -> Pictures:
    """The pictures of all items that have one."""
    pictures = named_pictures(catalogue, picture_folder(context))
    item_ids = catalogue["item_id"].to_list()
    paths = track(
        zip(pictures.rows.tolist(), pictures.paths, strict=True), "mine: reading pictures", len(pictures.paths)
    )
    return {item_ids[row]: (path, picture_digest(path)) for row, path in paths}


def item_job(
    model: PromptedModel, catalogue: pl.DataFrame, captions: Mapping[str, str], pictures: Pictures
) -> AskingJob:
    """A question per item of the catalogue; its picture goes along if the model sees."""
    seen = pictures if model.config.vision else {}
    return AskingJob(
        model,
        lambda: questions_of(model, ((evidence, "") for evidence in item_evidence(catalogue, captions, seen))),
        len(catalogue),
    )


def say_estimates(jobs: Sequence[AskingJob], store: AnswerStore, config: Config) -> list[Estimate]:
    """Prints what asking will take, before the first request."""
    estimates = [estimate(job.model, job.questions, job.total, store) for job in jobs]
    for each in estimates:
        say(f"asking {each.line()}")
    limit = config.mining.max_cost_usd
    total = sum(each.cost or 0.0 for each in estimates)
    if limit is not None and total > limit:
        warn(f"about ${total:,.2f} is more than mining.max_cost_usd={limit}; asking will stop there")
    return estimates


def ask_jobs(
    jobs: Sequence[AskingJob], store: AnswerStore, config: Config, campaign: str, again: bool = False
) -> list[JobResult]:
    """Asks within the limits of the configuration, and prints what came of it."""
    if not any(each.requests or again for each in say_estimates(jobs, store, config)):
        return []
    limits = Limits(config.mining.max_cost_usd, config.mining.max_requests)
    results = ask(jobs, store, campaign, limits, again)
    for result in results:
        say(result.summary())
    spent = store.spending(campaign)
    line = f"asked: ${spent.cost:.4f} for {spent.paid:,} answers in all"
    if spent.estimated:
        line += f", of which {spent.estimated:,} by an estimate of their tokens"
    if spent.unknown:
        line += f", and at most ${spent.unknown_cost:.4f} for {spent.unknown:,} requests whose end is unknown"
    say(line)
    return results


def command_line(command: str, config: Config) -> str:
    """A command of ``dig`` for the same experiment and settings as the one that runs, to be pasted into a shell.

    Args:
        command: the words in front, such as ``dig.interests retry``.
        config: the experiment, where no command runs.
    """
    given = [word for word in given_settings() if not word.startswith("stages=")]
    if not any(word.startswith("experiment=") for word in given):
        given = given if given or config.experiment == "custom" else [f"experiment={config.experiment}"]
    return hidden(" ".join([f"python -m {command}", *map(shlex.quote, given)]))


def check_missing(
    stage: str, model: PromptedModel, missing: Counter[str], total: int, result: JobResult | None, config: Config
) -> None:
    """Stops the stage when a model has left too much unanswered, and says what was left in any case.

    Raises:
        UserError: more than ``mining.max_missing`` is missing.
    """
    if not missing.total():
        return
    stopped = result.stopped if result is not None else None
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in missing.most_common())
    line = f"{stage}: {model.name} has no usable answer for {missing.total():,} of {total:,} items ({reasons})"
    line += f"; stopped: {stopped}" if stopped else ""
    then = what_helps(model, missing, stopped, config)
    if missing.total() > config.mining.max_missing * total:
        raise UserError(f"{line}; that is more than mining.max_missing={config.mining.max_missing:g}. {then}")
    warn(f"{line}. {then}")


def what_helps(model: PromptedModel, missing: Counter[str], stopped: str | None, config: Config) -> str:
    """What a person may do about items without an answer: change a setting, give the same command, or ``retry``."""
    waiting = missing["not asked"] + missing[AWAITED]
    failed = missing.total() - waiting
    advised: list[str] = []
    if waiting:
        limit = (stopped or "").partition("=")[0] if (stopped or "").startswith("mining.max_") else None
        begin = f"Raise {limit}, then the same" if limit else "The same"
        advised.append(f"{begin} command continues with the {waiting:,} that no answer has come for")
    if failed:
        worst = next(reason for reason, _ in missing.most_common() if reason not in ("not asked", AWAITED))
        worst = worst.partition(" from a model")[0]
        if not stopped and worst in _ANSWERED:  # a model that was stopped has told it
            hint = advice(model, worst)
            advised.append(hint[0].upper() + hint[1:])
        retry = command_line("dig.interests retry", config)
        advised.append(f"{retry} asks for the {failed:,} that failed again")
    return "; ".join(advised)
