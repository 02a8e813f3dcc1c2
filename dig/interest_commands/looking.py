"""``show`` and ``label``: what is known of an item, and a person's labels of a sample of interests."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.markup import escape
from rich.table import Table

from dig.config import Config, UserError, nearest
from dig.engine.console import console, printable, say
from dig.engine.folding import fold
from dig.engine.pipeline import find_stages
from dig.interest_commands.asking import built, sees
from dig.stages import StageContext
from dig.stages.asking import open_store, pictures_for
from dig.stages.mine import load_captions, mining_jobs, named_captions
from dig.stages.prepare import load_catalogue

__all__ = ["show", "label"]


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
        say("its interests are not mined yet (python -m dig.train … stages=[label])")
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
            say(f"{job.asker.name} ({job.asker.purpose}): {state}")


def _interest_table(interests: pl.DataFrame) -> Table:
    table = Table(title="interests", title_justify="left")
    for heading in ("interest", "kind", "confidence", "votes", "miners", "label", "score"):
        table.add_column(heading, overflow="fold")
    for row in interests.iter_rows(named=True):
        miners = row["miners"] or [row["miner"]]
        wordings = row["wordings"] or [row["text"]]
        told = ", ".join(
            miner if fold(words) == fold(row["text"]) else f"{miner} “{words}”"
            for miner, words in zip(miners, wordings, strict=True)
        )
        cells = [
            row["text"],
            row["kind"],
            _shown(row["confidence"]),
            str(row["votes"]),
            told,
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
            raise UserError(f"{path} is no file of labels: its columns must be item_id,interest,label")
        return {(row["item_id"], fold(row["interest"] or "")) for row in rows}
