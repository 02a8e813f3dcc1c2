"""``retry``: asks again what failed for good."""

from __future__ import annotations

from dataclasses import replace

from dig.config import Config, UserError
from dig.console import say
from dig.interest_commands.common import built, judge_job
from dig.pipeline import find_stages
from dig.stages.asking import ask_jobs, campaign_of, open_store
from dig.stages.mine import named_captions
from dig.stages.mining import Mining, all_askers
from dig.stages.prepare import load_catalogue

__all__ = ["retry"]


def retry(config: Config) -> int:
    """Asks again what failed for good; a run that has these interests then builds on the new answers."""
    if not all_askers(config) and config.labels.source != "judge":
        raise UserError(f"mining.miners={config.mining.miners} asks no model; there is nothing to ask again")
    context = built(config, "prepare")
    if all_askers(config):
        catalogue = load_catalogue(context)
        captions = named_captions(config.mining, set(catalogue["item_id"]))
        with open_store() as store:
            mining = Mining(context, catalogue, captions, store, again=True)
            mining.ask()
            answered = sum(outcome.answered for outcome in mining.outcomes.values())
            if answered:
                store.count_retried(mining.campaign, answered)
            say(f"mining: {answered:,} more answers")
    finished = find_stages(replace(config, stages=["label"]))
    if config.labels.enabled and config.labels.source == "judge" and "mine" in finished.inputs:
        job = judge_job(finished)
        campaign = campaign_of(config, [job.asker])
        with open_store() as store:
            answered = sum(outcome.answered for outcome in ask_jobs([job], store, config, campaign, again=True))
            if answered:
                store.count_retried(campaign, answered)
            say(f"judging: {answered:,} more verdicts")
    return 0
