"""The part of `mine` that asks models: pictures are described first, then all miners are asked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dig.config import Config, UserError
from dig.engine.artifacts import ArtifactStore
from dig.engine.console import warn
from dig.engine.stage import StageContext
from dig.interests.asking.progress import Outcome
from dig.interests.asking.question import Asker, asker_of, load_prompt
from dig.interests.asking.run import Job, read_captions_of, read_interests_of
from dig.interests.asking.store import AnswerStore, store_path
from dig.stages.asking import Pictures, ask_jobs, campaign_of, check_missing, item_job, open_store, pictures_for
from dig.stages.prepare import picture_fingerprint

__all__ = ["Mining", "all_askers", "mining_jobs", "reads_of_models"]


def all_askers(config: Config) -> list[Asker]:
    """The models of `mine`: the one that describes pictures, then the miners."""
    mining = config.mining
    askers = []
    if mining.captioner is not None:
        prompt = load_prompt(mining.caption_prompt, "mining.caption_prompt")
        askers.append(asker_of(mining.captioner, mining.models[mining.captioner], prompt, "caption"))
    if mining.asked:
        prompt = load_prompt(mining.interests_prompt, "mining.interests_prompt")
        askers += [
            asker_of(name, mining.models[name], prompt, "interests", mining.max_interests) for name in mining.asked
        ]
    return askers


def reads_of_models(config: Config) -> dict[str, Any]:
    """What of the models decides the stage's result; answers that a retry has brought are a part of it."""
    askers = all_askers(config)
    if not askers:
        return {}
    read: dict[str, Any] = {
        "asked": [[asker.name, asker.purpose, asker.origin] for asker in askers],
        "mining.max_missing": config.mining.max_missing,
    }
    if any(asker.config.vision for asker in askers):
        read["pictures"] = picture_fingerprint(config)
    if store_path(ArtifactStore().root.parent).is_file():
        with open_store() as store:
            if retried := store.retried(campaign_of(config, askers)):
                read["retried"] = retried
    return read


def mining_jobs(
    config: Config, catalogue: pl.DataFrame, captions: dict[str, str], pictures: Pictures
) -> tuple[Job | None, list[Job]]:
    """What is asked: for captions of the pictures that have none, and for interests.

    Args:
        config: the experiment.
        catalogue: the items.
        captions: item id → caption; the miners' questions hold what is in it when they are made.
        pictures: item id → file and hash.
    """
    first, others = None, []
    for asker in all_askers(config):
        if asker.purpose == "caption":
            bare = catalogue.filter(pl.col("item_id").is_in(list(pictures.keys() - captions.keys())))
            first = item_job(asker, bare, {}, pictures)
        else:
            others.append(item_job(asker, catalogue, captions, pictures))
    return first, others


@dataclass
class Mining:
    """Asks the models of an experiment and reads what they said.

    Attributes:
        context: the stage's.
        catalogue: the items.
        captions: item id → caption; those of the captioner join.
        store: the answers.
        again: ask again what failed for good.
        outcomes: of what was asked, by the model's name and purpose.
    """

    context: StageContext
    catalogue: pl.DataFrame
    captions: dict[str, str]
    store: AnswerStore
    again: bool = False
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def ask(self) -> list[Job]:
        """Asks all of them; returns the miners' jobs.

        Raises:
            UserError: too many pictures are left without a caption, or asking cannot go on.
        """
        config = self.context.config
        askers = all_askers(config)
        pictures: Pictures = {}
        if any(asker.config.vision for asker in askers):
            pictures = pictures_for(self.context, self.catalogue)
            if not pictures:
                self._without_pictures()
        first, _ = mining_jobs(config, self.catalogue, self.captions, pictures)
        if first is not None and first.total:
            self._ask([first])
            missing: Counter[str] = Counter()
            self.captions |= read_captions_of(first.asker, first.questions(), self.store, missing)
            self._check(first, missing)
        _, jobs = mining_jobs(config, self.catalogue, self.captions, pictures)
        self._ask(jobs)
        return jobs

    def frames(self, jobs: list[Job]) -> Iterator[pl.DataFrame]:
        """The interests that the miners gave, some thousand items a frame.

        Raises:
            UserError: a miner has left too much unanswered.
        """
        for job in jobs:
            missing: Counter[str] = Counter()
            yield from read_interests_of(job.asker, job.questions(), self.store, missing)
            self._check(job, missing)

    @property
    def campaign(self) -> str:
        """What spending and limits are counted by."""
        return campaign_of(self.context.config, all_askers(self.context.config))

    def _ask(self, jobs: list[Job]) -> None:
        if jobs:
            outcomes = ask_jobs(jobs, self.store, self.context.config, self.campaign, self.again)
            for job, outcome in zip(jobs, outcomes, strict=False):  # none where nothing was left to ask
                self.outcomes[outcome.name, job.asker.purpose] = outcome

    def _check(self, job: Job, missing: Counter[str]) -> None:
        outcome = self.outcomes.get((job.asker.name, job.asker.purpose))
        check_missing("mine", job.asker, missing, job.total, outcome, self.context.config)

    def _without_pictures(self) -> None:
        mining = self.context.config.mining
        if mining.captioner is not None:
            raise UserError(
                f"mining.captioner={mining.captioner} is to describe pictures, but no picture that an item "
                "names (column `image`) is there; see visual.folder and data.pictures.fetch"
            )
        warn("mine: models with vision are asked, but the items have no pictures; they read the text alone")
