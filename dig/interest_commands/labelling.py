"""``label``: a person labels a sample of interests at the terminal."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dig.config import Config, UserError
from dig.engine.console import console, printable, say
from dig.engine.folding import fold
from dig.interest_commands.common import built
from dig.stages.mine import load_captions
from dig.stages.prepare import load_catalogue

__all__ = ["label"]

_TEXT = 500  # characters of an item's text that are shown


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
