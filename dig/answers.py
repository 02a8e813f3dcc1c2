"""What ``dig.recommend`` finds and how it is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.markup import escape
from rich.table import Table
from transformers.utils import logging as transformers_logging

from dig.config import UserError, nearest_ids
from dig.console import console, printable, say
from dig.quantization import SemanticIds
from dig.recommender import Recommender, read_run_table

__all__ = ["answer", "show_answer"]

_TITLE, _PHRASE = 80, 60


def answer(
    run: Path, user: str | None, items: Sequence[str] | None, held_out: bool, k: int, stage: str | None, unseen: bool
) -> dict[str, Any]:
    """Recommendations for a user of the data or after a list of items, with the interests that explain them.

    Args:
        run: the run's folder.
        user: an id of the data; None takes ``items``.
        items: a history, oldest first.
        held_out: stop before the user's test item.
        k: answers.
        stage: whose; None takes the last that was trained.
        unseen: leave out the items of the history.

    Returns:
        Plain containers: ``history``, ``interests`` and ``recommendations``, each with ``rank, item, title, score,
        semantic_id, reasons`` and, with ``held_out``, ``target``.

    Raises:
        UserError: there is no such run, stage, user or item, with the nearest.
    """
    transformers_logging.disable_progress_bar()
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run: it has no config.yaml", exit_code=2)
    history, target = _history(run, user, held_out) if user is not None else (list(items or ()), None)
    recommender = Recommender.from_run(run, stage)
    titles = dict(read_run_table(run / "items.parquet", ["item_id", "title"]).iter_rows())
    found, scores = recommender.recommend([history], k, unseen)
    explained = recommender.profiles is not None
    reasons = recommender.explain(history, found[0]) if explained else [[] for _ in found[0]]
    codes = _semantic_ids(run)
    answers = [
        {"rank": place, "item": item, "title": titles[item], "score": score if math.isfinite(score) else None,
         "semantic_id": codes.get(item), "reasons": [reason._asdict() for reason in why]}
        for place, (item, score, why) in enumerate(zip(found[0], scores[0].tolist(), reasons, strict=False), start=1)
    ]  # fmt: skip
    return {
        "run": str(run),
        "stage": recommender.stage,
        "user": user,
        "history": [{"item": item, "title": titles[item]} for item in history],
        "interests": [entry._asdict() for entry in recommender.interests(history)] if explained else None,
        "recommendations": answers,
    } | ({} if target is None else {"target": {"item": target, "title": titles[target]}})


def show_answer(found: dict[str, Any], as_json: bool) -> None:
    """Prints an answer for people, or as JSON."""
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    who = f"user {printable(found['user'], _PHRASE)}" if found["user"] is not None else "a history of your own"
    say(f"{found['stage']} of {found['run']}, {who}, {len(found['history'])} items, the latest last:")
    for entry in found["history"][-10:]:
        say(f"  {printable(entry['item'], _PHRASE)}  {_titled(entry)}")
    if found["interests"]:
        phrases = ", ".join(
            f"{printable(entry['text'], _PHRASE)} ({entry['share']:.0%})" for entry in found["interests"]
        )
        say(f"after: {phrases}")
    elif found["interests"] is None:
        say("this run has no interests to explain by (stages mine and label)")
    target = found.get("target", {}).get("item")
    table = Table("", "item", "title", "score", "because of", title="recommendations", title_justify="left")
    for entry in found["recommendations"]:
        hit = " [bold]← bought next[/bold]" if entry["item"] == target else ""
        score = "—" if entry["score"] is None else f"{entry['score']:.3f}"
        why = "; ".join(printable(reason["interest"], _PHRASE) for reason in entry["reasons"])
        item = escape(printable(entry["item"], _PHRASE))
        table.add_row(str(entry["rank"]), item, escape(_titled(entry)) + hit, score, escape(why))
    console.print(table)
    if target is not None and all(entry["item"] != target for entry in found["recommendations"]):
        say(f"bought next and not among them: {printable(target, _PHRASE)}  {_titled(found['target'])}")


def _titled(entry: dict[str, Any]) -> str:
    return printable(entry["title"] or "(no title)", _TITLE)


def _history(run: Path, user: str, held_out: bool) -> tuple[list[str], str | None]:
    """A user's items, and the test item that ``held_out`` stops before."""
    path = run / "users.parquet"
    if not path.is_file():
        raise UserError(f"{run} has no users.parquet; the same dig.train command writes it again from what is kept")
    users = read_run_table(path)
    rows = users.filter(pl.col("user") == user)
    if not len(rows):
        raise UserError(f"the data have no user {user!r}{nearest_ids(user, users['user'])}", exit_code=2)
    items, tests = rows["items"][0].to_list(), rows["tests"][0]
    if not held_out:
        return items, None
    if not tests or tests >= len(items):
        raise UserError(f"user {user!r} has no test item with a history before it; leave out held_out", exit_code=2)
    return items[:-tests], items[-tests]


def _semantic_ids(run: Path) -> dict[str, list[int]]:
    path = run / "semantic_ids.parquet"
    if not path.is_file():
        return {}
    ids = SemanticIds.load(path)
    return {item: [code for code in codes if code >= 0]
            for item, codes in zip(ids.item_ids, ids.codes.tolist(), strict=True)}  # fmt: skip
