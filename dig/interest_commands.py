"""What `python -m dig.interests` does: plan, retry, export and import answers; show an item; label a sample by hand."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.markup import escape
from rich.table import Table

from dig.config import Config, UserError, nearest
from dig.engine.artifacts import atomic_path
from dig.engine.console import console, printable, say
from dig.engine.folding import fold
from dig.engine.pipeline import build_stages, find_stages
from dig.interests import read_interests
from dig.interests.asking.budget import Estimate, estimate
from dig.interests.asking.progress import in_words
from dig.interests.asking.run import AskingJob
from dig.interests.asking.store import AnswerStore
from dig.stages import StageContext
from dig.stages.asking import Pictures, campaign_of, command_line, open_store, pictures_for
from dig.stages.label import judge_model, judged_sample, judging_job
from dig.stages.mine import Mining, all_models, asked_items, load_captions, mining_jobs, named_captions
from dig.stages.prepare import load_catalogue

__all__ = [
    "built",
    "jobs_of",
    "judge_job",
    "sees",
    "plan",
    "retry",
    "export",
    "import_answers",
    "show",
    "label",
]

__path__: list[str] = []
"""Nothing lies below, but old paths did, and :mod:`dig.engine.moved` answers them only below a package."""


def built(config: Config, stage: str) -> StageContext:
    """The artifacts up to a stage, built where they are missing; artifacts of later stages are not looked at."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return build_stages(replace(config, stages=[stage]))[0]


def sees(config: Config) -> bool:
    """Whether a model of the experiment looks at pictures."""
    return any(model.config.vision for model in all_models(config))


def jobs_of(context: StageContext) -> list[AskingJob]:
    """What mining would ask; captions that are not there yet are left out of the evidence."""
    config = context.config
    if not all_models(config):
        return []
    catalogue = load_catalogue(context)
    captions = named_captions(config.mining, set(catalogue["item_id"]))
    catalogue = asked_items(context, catalogue)
    pictures: Pictures = pictures_for(context, catalogue) if sees(config) else {}
    first, others = mining_jobs(config, catalogue, captions, pictures)
    return [*([first] if first and first.total else []), *others]


def judge_job(context: StageContext) -> AskingJob:
    """What the judge is asked: about the merged interests, or while they are not there about the mined ones."""
    config = context.config
    stage = "label" if "label" in context.inputs else "mine"
    interests = pl.read_parquet(context.file(stage, "interests.parquet"), glob=False)
    return judging_job(context, interests[judged_sample(interests, config.labels.judge_sample, config.seed)])


# ``plan``: what asking will take, before anything is asked.


def plan(config: Config) -> int:
    """Prints what asking will take, and asks nothing."""
    context = built(config, "prepare")
    jobs = jobs_of(context)
    with open_store() as store:
        estimates = [estimate(job.model, job.questions, job.total, store) for job in jobs]
        estimates += _judging(config, store)
        spent = store.spending(campaign_of(config, all_models(config)))
    if not estimates:
        say(f"mining.miners={config.mining.miners} asks no model; there is nothing to pay")
        return 0
    console.print(_plan_table(estimates, jobs))
    for each in estimates:
        if each.failed:
            retried = command_line("dig.interests retry", config)
            say(f"{each.name} failed for good on {each.failed:,} more; {retried} asks them again")
    total = sum(each.cost or 0.0 for each in estimates)
    paid = spent.cost + spent.unknown_cost
    say(f"in all about ${total:,.2f}; spent so far ${paid:,.4f} in {spent.requests:,} requests")
    for key, limit in (("max_cost_usd", config.mining.max_cost_usd), ("max_requests", config.mining.max_requests)):
        say(f"mining.{key}: {'no limit' if limit is None else f'stops at {limit:,}'}")
    return 0


def _plan_table(estimates: list[Estimate], jobs: list[AskingJob]) -> Table:
    table = Table(title="to be asked", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("for", "items", "known", "requests", "read", "written", "US $", "time"):
        table.add_column(heading, justify="left" if heading == "for" else "right", no_wrap=True)
    purposes = [job.model.purpose for job in jobs] + ["judge"]
    for each, purpose in zip(estimates, purposes, strict=False):
        cost = "no price" if each.cost is None else f"{each.cost:,.2f}"
        table.add_row(
            escape(each.name),
            purpose,
            f"{each.total:,}",
            f"{each.known:,}",
            f"{each.requests:,}",
            _short(each.tokens_in),
            _short(each.tokens_out),
            cost,
            "" if each.seconds is None else in_words(max(each.seconds, 1.0)),
        )
    return table


def _short(tokens: float) -> str:
    """Tokens in the unit that people read."""
    if tokens >= 1e9:
        return f"{tokens / 1e9:,.1f} G"
    return f"{tokens / 1e6:,.1f} M" if tokens >= 1e6 else f"{tokens / 1e3:,.1f} k"


def _judging(config: Config, store: AnswerStore) -> list[Estimate]:
    """The judge's part, as far as the interests are mined."""
    if config.labels.source != "judge" or not config.labels.enabled:
        return []
    context = find_stages(replace(config, stages=["label"]))
    if "mine" not in context.inputs:
        say("the judge is asked about what is mined; his part can be told after mining")
        return []
    job = judge_job(context)
    return [estimate(job.model, job.questions, job.total, store)]


# ``retry``: asks again what failed for good.


def retry(config: Config) -> int:
    """Asks again what failed for good; a run that has these interests then builds on the new answers."""
    if not all_models(config) and config.labels.source != "judge":
        raise UserError(f"mining.miners={config.mining.miners} asks no model; there is nothing to ask again")
    context = built(config, "prepare")
    if all_models(config):
        catalogue = load_catalogue(context)
        captions = named_captions(config.mining, set(catalogue["item_id"]))
        with open_store() as store:
            mining = Mining(context, asked_items(context, catalogue), captions, store, again=True)
            mining.ask()
        say(f"mining: {sum(result.answered for result in mining.results.values()):,} more answers")
    if config.labels.enabled and config.labels.source == "judge":
        model = judge_model(config)
        with open_store() as store, store.asking(), store.transaction():
            forgotten = store.forget_failures(model.identity)
            if forgotten:
                store.count_retried(campaign_of(config, [model]), forgotten)
        say(f"judging: {forgotten:,} failures forgotten; the next run asks {model.name} again")
    return 0


# ``export`` and ``import``: interests as files, out of an experiment and into the store of answers.


def export(config: Config, out: Path) -> int:
    """Writes the interests in the format that ``mining.imports`` reads, labels and scores beside them."""
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError(f"--out {out} must end in .jsonl or .jsonl.gz", exit_code=2)
    context = built(config, "label")
    interests = pl.read_parquet(context.file("label", "interests.parquet"), glob=False)
    lines = 0
    with atomic_path(out) as temporary:
        opened = gzip.open if out.suffix == ".gz" else open
        with opened(temporary, "wt", encoding="utf-8") as stream:
            for record in _records(interests):
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
                lines += 1
    say(f"{len(interests):,} interests in {lines:,} lines of {out}")
    return 0


def _records(interests: pl.DataFrame) -> Iterator[dict[str, object]]:
    rows = interests.iter_rows(named=True)
    for (item_id, miner, kind), group in groupby(rows, lambda row: (row["item_id"], row["miner"], row["kind"])):
        entries = []
        for row in group:
            entry = {
                "text": row["text"],
                "confidence": row["confidence"],
                "label": row["label"],
                "score": row["score"],
                "votes": row["votes"],
                "miners": row["miners"],
            }
            entries.append({key: value for key, value in entry.items() if value is not None})
        yield {"item_id": item_id, "miner": miner, "kind": kind, "interests": entries}


def import_answers(config: Config, file: Path, name: str) -> int:
    """Keeps the interests of a file as the answers of a model, so that it is not asked about these items."""
    model = next((each for each in all_models(config) if each.name == name and each.purpose == "interests"), None)
    if model is None:
        hint = nearest(name, config.mining.asked)
        raise UserError(f"--as {name}: mining.miners names no such model{f'; did you mean {hint}?' if hint else ''}", 2)
    context = built(config, "prepare")
    imported = read_interests(file, set(load_catalogue(context)["item_id"]))
    say(imported.log.summary())
    (job,) = (job for job in jobs_of(context) if job.model == model)
    with open_store() as store, store.asking():
        new = store.add(model.identity, _entries(imported.interests, job))
    say(
        f"{new:,} answers of {imported.interests['item_id'].n_unique():,} items kept as {name}'s; the others were there"
    )
    return 0


def _entries(interests: pl.DataFrame, job: AskingJob) -> Iterator[tuple[bytes, str, str]]:
    """Key, item and text of each item's answer, as the model would have given it."""
    by_item: dict[str, list[dict[str, object]]] = {}
    for item_id, text, kind, confidence in interests.select("item_id", "text", "kind", "confidence").iter_rows():
        entry = {
            "interest": text,
            "confidence": 1.0 if confidence is None else confidence,
            "source": "picture" if kind == "visual" else "text",
        }
        by_item.setdefault(item_id, []).append(entry)
    for question in job.questions():
        if interests_given := by_item.get(question.evidence.item_id):
            answer = {"ref": question.evidence.ref, "interests": interests_given}
            yield question.key, question.evidence.item_id, json.dumps(answer, ensure_ascii=False)


_TEXT = 500  # characters of an item's text that are shown


def show(config: Config, item: str) -> int:
    """Prints what is known of an item."""
    context = built(config, "prepare")
    catalogue = load_catalogue(context)
    rows = catalogue.filter(pl.col("item_id") == item)
    if rows.is_empty():
        hint = nearest(item, catalogue["item_id"])
        raise UserError(f"the catalogue has no item {item!r}{f'; did you mean {hint}?' if hint else ''}")
    for name, value in rows.row(0, named=True).items():
        if value:
            say(f"{name}: {printable(str(value), _TEXT)}")
    finished = find_stages(replace(config, stages=["label"]))
    captions = load_captions(finished) if "mine" in finished.inputs else named_captions(config.mining, {item})
    if item in captions:
        say(f"caption: {printable(captions[item], _TEXT)}")
    _show_answers(context, rows, captions)
    stage = next((name for name in ("label", "mine") if name in finished.inputs), None)
    if stage is None:
        say(f"its interests are not mined yet ({command_line('dig.train', config)} stages=[label])")
        return 0
    interests = pl.read_parquet(finished.file(stage, "interests.parquet"), glob=False).filter(pl.col("item_id") == item)
    console.print(_interest_table(interests))
    if stage == "label":
        quality = pl.read_parquet(finished.file("label", "quality.parquet"), glob=False).filter(
            pl.col("item_id") == item
        )
        say(f"quality q: {quality['quality'][0]:.3f}")
    return 0


def _show_answers(context: StageContext, item: pl.DataFrame, captions: dict[str, str]) -> None:
    """Each model's answer about one item, as it is kept."""
    pictures = pictures_for(context, item) if sees(context.config) else {}
    named = named_captions(context.config.mining, set(item["item_id"]))
    first, _ = mining_jobs(context.config, item, named, pictures)
    _, others = mining_jobs(context.config, item, captions, pictures)
    with open_store() as store:
        for job in [*([first] if first and first.total else []), *others]:
            (question,) = job.questions()
            answers, failures = store.answers([question.key]), store.failures([question.key])
            state = "not asked"
            if answers:
                state = printable(answers[question.key], 2000)
            elif failures:
                state = f"failed ({failures[0].reason}: {printable(failures[0].problem, 200)}): " + printable(
                    failures[0].text or "(nothing)", 1000
                )
            say(f"{job.model.name} ({job.model.purpose}): {state}")


def _interest_table(interests: pl.DataFrame) -> Table:
    table = Table(title="interests", title_justify="left")
    for heading in ("interest", "kind", "confidence", "votes", "miners", "label", "score"):
        table.add_column(heading, overflow="fold")
    for row in interests.iter_rows(named=True):
        miners = row["miners"] or [row["miner"]]
        wordings = row["wordings"] or [row["text"]]
        interests_shown = ", ".join(
            miner if fold(words) == fold(row["text"]) else f"{miner} “{words}”"
            for miner, words in zip(miners, wordings, strict=True)
        )
        cells = [
            row["text"],
            row["kind"],
            _shown(row["confidence"]),
            str(row["votes"]),
            interests_shown,
            _shown(row["label"]),
            _shown(row["score"]),
        ]
        table.add_row(*(escape(printable(cell, 200)) for cell in cells))
    return table


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


# ``label``: a person labels a sample of interests at the terminal.


def label(config: Config, out: Path, count: int) -> int:
    """Shows interests one by one; every answer is written at once, and labelled ones are not shown again."""
    context = built(config, "mine")
    interests = pl.read_parquet(context.file("mine", "interests.parquet"), glob=False)
    done = _labelled(out)
    order = np.random.default_rng(config.seed).permutation(len(interests)).tolist()
    waiting = (interests.row(row, named=True) for row in order)
    fresh = [row for row in waiting if (row["item_id"], fold(row["text"])) not in done][:count]
    texts = {row["item_id"]: row for row in load_catalogue(context).iter_rows(named=True)}
    captions = load_captions(context)
    say("Is the phrase specific, actionable and borne out by the item? 1 yes, 0 no, s skip, q quit")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if not out.stat().st_size:
            writer.writerow(["item_id", "interest", "label"])
        given = 0
        for row, answer in _answers(fresh, texts, captions):
            writer.writerow([row["item_id"], row["text"], answer])
            stream.flush()
            given += 1
    say(f"{given:,} labels given, {len(done) + given:,} in {out}; use them: labels.source=file labels.file={out}")
    return 0


def _answers(
    rows: Sequence[dict[str, Any]], items: Mapping[str, dict[str, Any]], captions: Mapping[str, str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """The interests that were given a label, with it; skipped ones are left out."""
    for place, row in enumerate(rows, start=1):
        item = items[row["item_id"]]
        console.print()
        for name in ("title", "brand", "categories", "description"):
            if item.get(name):
                say(f"  {name}: {printable(str(item[name]), _TEXT)}")
        if row["item_id"] in captions:
            say(f"  caption: {printable(captions[row['item_id']], _TEXT)}")
        answer = _answer(f"{place}/{len(rows)}  {printable(row['text'], 200)}  [1/0/s/q] ")
        if answer == "q":
            return
        if answer != "s":
            yield row, answer


def _answer(question: str) -> str:
    while True:
        try:
            answer = input(question).strip().lower()
        except EOFError:
            return "q"
        if answer in ("0", "1", "s", "q"):
            return answer
        say("1, 0, s or q, please")


def _labelled(path: Path) -> set[tuple[str, str]]:
    if not path.is_file() or not path.stat().st_size:
        return set()
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if not {"item_id", "interest", "label"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} is not a file of labels: its columns must be item_id,interest,label")
        return {(row["item_id"], fold(row["interest"] or "")) for row in rows}
