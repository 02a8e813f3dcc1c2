"""``plan``: what asking will take, before anything is asked."""

from __future__ import annotations

from dataclasses import replace

from rich import box
from rich.markup import escape
from rich.table import Table

from dig.config import Config
from dig.engine.console import console, say
from dig.engine.pipeline import find_stages
from dig.interest_commands.common import built, jobs_of, judge_job
from dig.interests.asking.budget import Estimate, estimate
from dig.interests.asking.run import Job
from dig.interests.asking.store import AnswerStore
from dig.stages.asking import campaign_of, open_store
from dig.stages.mining import all_askers

__all__ = ["plan"]


def plan(config: Config) -> int:
    """Prints what asking will take, and asks nothing."""
    context = built(config, "prepare")
    jobs = jobs_of(context)
    with open_store() as store:
        found = [estimate(job.asker, job.questions(), job.total, store) for job in jobs]
        found += _judging(config, store)
        spent = store.spending(campaign_of(config, all_askers(config)))
    if not found:
        say(f"mining.miners={config.mining.miners} asks no model; there is nothing to pay")
        return 0
    console.print(_plan_table(found, jobs))
    for each in found:
        if each.failed:
            say(f"{each.name} failed for good on {each.failed:,} more; python -m dig.interests retry asks them again")
    total = sum(each.cost or 0.0 for each in found)
    paid = spent.cost + spent.unknown_cost
    say(f"in all about ${total:,.2f}; spent so far ${paid:,.4f} in {spent.requests:,} requests")
    for key, limit in (("max_cost_usd", config.mining.max_cost_usd), ("max_requests", config.mining.max_requests)):
        say(f"mining.{key}: {'no limit' if limit is None else f'stops at {limit:,}'}")
    return 0


def _plan_table(found: list[Estimate], jobs: list[Job]) -> Table:
    table = Table(title="to be asked", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "for", "items", "known", "requests", "read", "written", "US $", "time"):
        table.add_column(heading, justify="left" if heading in ("model", "for") else "right", no_wrap=True)
    purposes = [job.asker.purpose for job in jobs] + ["judge"]
    for each, purpose in zip(found, purposes, strict=False):
        cost = "no price" if each.cost is None else f"{each.cost:,.2f}"
        time = "" if each.seconds is None else f"{each.seconds / 60:,.0f} min"
        table.add_row(
            escape(each.name),
            purpose,
            f"{each.total:,}",
            f"{each.known:,}",
            f"{each.requests:,}",
            _short(each.tokens_in),
            _short(each.tokens_out),
            cost,
            time,
        )
    return table


def _short(tokens: float) -> str:
    """Tokens in the unit that people read."""
    if tokens >= 1e6:
        return f"{tokens / 1e6:,.1f} M"
    return f"{tokens / 1e3:,.1f} k"


def _judging(config: Config, store: AnswerStore) -> list[Estimate]:
    """The judge's part, as far as the interests are mined."""
    if config.labels.source != "judge" or not config.labels.enabled:
        return []
    context = find_stages(replace(config, stages=["label"]))
    if "mine" not in context.inputs:
        say("the judge is asked about what is mined; his part can be told after mining")
        return []
    job = judge_job(context)
    return [estimate(job.asker, job.questions(), job.total, store)]
