"""``show ITEM``: what is known of an item."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
from rich.markup import escape
from rich.table import Table

from dig.config import Config, UserError, nearest
from dig.engine.console import console, printable, say
from dig.engine.folding import fold
from dig.engine.pipeline import find_stages
from dig.interest_commands.common import built, sees
from dig.stages import StageContext
from dig.stages.asking import open_store, pictures_for
from dig.stages.mine import load_captions, named_captions
from dig.stages.mining import mining_jobs
from dig.stages.prepare import load_catalogue

__all__ = ["show"]

_TEXT = 500  # characters of an item's text that are shown


def show(config: Config, item: str) -> int:
    """Prints what is known of an item."""
    context = built(config, "prepare")
    catalogue = load_catalogue(context)
    found = catalogue.filter(pl.col("item_id") == item)
    if found.is_empty():
        hint = nearest(item, catalogue["item_id"])
        raise UserError(f"the catalogue has no item {item!r}{f'; did you mean {hint}?' if hint else ''}")
    for name, value in found.row(0, named=True).items():
        if value:
            say(f"{name}: {printable(str(value), _TEXT)}")
    finished = find_stages(replace(config, stages=["label"]))
    captions = load_captions(finished) if "mine" in finished.inputs else named_captions(config.mining, {item})
    if item in captions:
        say(f"caption: {printable(captions[item], _TEXT)}")
    _show_answers(context, found, captions)
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


def _show_answers(context: StageContext, found: pl.DataFrame, captions: dict[str, str]) -> None:
    """Each model's answer about one item, as it is kept."""
    pictures = pictures_for(context, found) if sees(context.config) else {}
    named = named_captions(context.config.mining, set(found["item_id"]))
    first, _ = mining_jobs(context.config, found, named, pictures)
    _, others = mining_jobs(context.config, found, captions, pictures)
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
