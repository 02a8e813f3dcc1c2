"""What the commands share: artifacts up to a stage, and what mining would ask."""

from __future__ import annotations

import os
from dataclasses import replace

import polars as pl

from dig.config import Config
from dig.engine.pipeline import build_stages
from dig.interests.asking.run import Job
from dig.stages import StageContext
from dig.stages.asking import Pictures, pictures_for
from dig.stages.judging import judged_sample, judging_job
from dig.stages.mine import named_captions
from dig.stages.mining import all_askers, mining_jobs
from dig.stages.prepare import load_catalogue

__all__ = ["built", "jobs_of", "judge_job", "sees"]


def built(config: Config, stage: str) -> StageContext:
    """The artifacts up to a stage, built where they are missing; artifacts of later stages are not looked at."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return build_stages(replace(config, stages=[stage]))[0]


def sees(config: Config) -> bool:
    """Whether a model of the experiment looks at pictures."""
    return any(asker.config.vision for asker in all_askers(config))


def jobs_of(context: StageContext) -> list[Job]:
    """What mining would ask; captions that are not there yet are left out of the evidence."""
    config = context.config
    if not all_askers(config):
        return []
    catalogue = load_catalogue(context)
    captions = named_captions(config.mining, set(catalogue["item_id"]))
    pictures: Pictures = pictures_for(context, catalogue) if sees(config) else {}
    first, others = mining_jobs(config, catalogue, captions, pictures)
    return [*([first] if first and first.total else []), *others]


def judge_job(context: StageContext) -> Job:
    """What the judge is asked: about the merged interests, or while they are not there about the mined ones."""
    config = context.config
    stage = "label" if "label" in context.inputs else "mine"
    interests = pl.read_parquet(context.file(stage, "interests.parquet"), glob=False)
    return judging_job(context, interests[judged_sample(interests, config.labels.judge_sample, config.seed)])
