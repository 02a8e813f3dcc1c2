"""``export`` and ``import``: interests as files, out of an experiment and into the store of answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import polars as pl

from dig.config import Config, UserError, nearest
from dig.engine.artifacts import atomic_path
from dig.engine.console import say
from dig.interest_commands.common import built, jobs_of
from dig.interests import read_interests
from dig.interests.asking.run import Job
from dig.stages.asking import open_store
from dig.stages.mining import all_askers
from dig.stages.prepare import load_catalogue

__all__ = ["export", "import_answers"]


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
        told = []
        for row in group:
            entry = {
                "text": row["text"],
                "confidence": row["confidence"],
                "label": row["label"],
                "score": row["score"],
                "votes": row["votes"],
                "miners": row["miners"],
            }
            told.append({key: value for key, value in entry.items() if value is not None})
        yield {"item_id": item_id, "miner": miner, "kind": kind, "interests": told}


def import_answers(config: Config, file: Path, name: str) -> int:
    """Keeps the interests of a file as the answers of a model, so that it is not asked about these items."""
    asker = next((each for each in all_askers(config) if each.name == name and each.purpose == "interests"), None)
    if asker is None:
        hint = nearest(name, config.mining.asked)
        raise UserError(f"--as {name}: mining.miners names no such model{f'; did you mean {hint}?' if hint else ''}", 2)
    context = built(config, "prepare")
    found = read_interests(file, set(load_catalogue(context)["item_id"]))
    say(found.log.summary())
    (job,) = (job for job in jobs_of(context) if job.asker == asker)
    with open_store() as store, store.asking():
        new = store.add(asker.identity, _entries(found.interests, job))
    say(f"{new:,} answers of {found.interests['item_id'].n_unique():,} items kept as {name}'s; the others were there")
    return 0


def _entries(interests: pl.DataFrame, job: Job) -> Iterator[tuple[bytes, str, str]]:
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
        if told := by_item.get(question.evidence.item_id):
            answer = {"ref": question.evidence.ref, "interests": told}
            yield question.key, question.evidence.item_id, json.dumps(answer, ensure_ascii=False)
