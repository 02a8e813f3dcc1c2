"""What ``dig.recommend`` finds and how it is shown, and the table for many users that it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from rich.markup import escape
from rich.table import Table

from dig.config import UserError, load_run_config, nearest_ids
from dig.engine.console import console, messages_to_stderr, printable, say, warn
from dig.engine.proof import RunProof
from dig.quantization.semantic_ids import SemanticIds
from dig.recommender import Recommender, read_ids, read_run_table
from dig.recommender.export import check_out, export, starts_formula
from dig.recommender.requests import read_history

__all__ = ["Asked", "answer", "answer_all", "show_answer"]

_TITLE, _PHRASE = 80, 60


class Asked(NamedTuple):
    """What every request names.

    Attributes:
        run: the run's folder.
        held_out: stop before the user's test item.
        k: answers.
        stage: whose; None takes the last that was trained.
        unseen: leave out the items of the history; None as :meth:`Recommender.recommend`, but where ``held_out`` is
            asked for as the run's evaluation did.
        stock: a file of the only items that may be recommended.
        unknown: what to do about items and users that the data lack, ``refuse`` or ``drop``.
    """

    run: Path
    held_out: bool = False
    k: int = 10
    stage: str | None = None
    unseen: bool | None = None
    stock: str | None = None
    unknown: str = "refuse"


def answer(asked: Asked, user: str | None, items: Sequence[str] | None, as_json: bool = False) -> dict[str, Any]:
    """Recommendations for a user of the data or after a list of items, with the interests that explain them.

    Args:
        asked: run, stage, number of answers and so on.
        user: an id of the data; None takes ``items``.
        items: a history, oldest first.
        as_json: say what there is to say to the standard error, since the standard output is JSON.

    Returns:
        Plain containers: ``history``, ``interests`` and ``recommendations``, each with ``rank, item, title, score,
        semantic_id, reasons``, ``unseen`` and, with ``held_out``, ``target``.

    Raises:
        UserError: there is no such run, stage, user or item, with the nearest.
    """
    with messages_to_stderr() if as_json else nullcontext():
        run = _checked(asked)
        history, target = _history(run, user, asked.held_out) if user is not None else (list(items or ()), None)
        stock = None if asked.stock is None else read_ids(asked.stock, "item_id")
        recommender = Recommender.from_run(run, asked.stage)
        history = [recommender.item_ids[row] for row in read_history(history, recommender.rows, asked.unknown)]
        unseen = _unseen(asked)
        ranked, scores = recommender.recommend([history], asked.k, unseen, stock=stock)
        titles = dict(read_run_table(run / "items.parquet", ["item_id", "title"]).iter_rows())
        explained = recommender.profiles is not None
        reasons = recommender.explain(history, ranked[0]) if explained else [[] for _ in ranked[0]]
        interests = [entry._asdict() for entry in recommender.interests(history)] if explained else None
        codes = _semantic_ids(run)
    answers = [
        {
            "rank": place,
            "item": item,
            "title": titles[item],
            "score": score if math.isfinite(score) else None,
            "semantic_id": codes.get(item),
            "reasons": [reason._asdict() for reason in why],
        }
        for place, (item, score, why) in enumerate(zip(ranked[0], scores[0].tolist(), reasons, strict=False), start=1)
    ]
    return {
        "run": str(run),
        "stage": recommender.stage,
        "user": user,
        "unseen": recommender.leaves_out_history if unseen is None else unseen,
        "history": [{"item": item, "title": titles[item]} for item in history],
        "interests": interests,
        "recommendations": answers,
    } | ({} if target is None else {"target": {"item": target, "title": titles[target]}})


def answer_all(asked: Asked, users: str, out: Path) -> None:
    """Writes the recommendations of many users to a table, and says what it did.

    Args:
        asked: run, stage, number of answers and so on.
        users: ``all``, or a file of their ids.
        out: the table, ``.csv`` or ``.parquet``.

    Raises:
        UserError: there is no such run, stage, user, file or item.
    """
    run = _checked(asked)
    check_out(out)
    stock = None if asked.stock is None else read_ids(asked.stock, "item_id")
    histories = _histories(run, users, asked)
    recommender = Recommender.from_run(run, asked.stage)
    question = recommender.question(asked.k, _unseen(asked), stock)
    what = "up to their test items" if asked.held_out else "all that is known of them, tests included"
    say(f"{recommender.stage} of {run}, {len(histories):,} users, {what}")
    titles = read_run_table(run / "items.parquet", ["title"])["title"]
    rows, short = export(recommender, histories, titles, out, question)
    if short:
        warn(recommender.told_short(short, len(histories), question))
    if out.suffix == ".csv":
        ids = pl.concat([histories["user"], pl.Series(recommender.item_ids, dtype=pl.String)])
        formulas = int(ids.to_frame("id").select(starts_formula(pl.col("id")).sum()).item())
        if formulas:
            warn(f"{formulas:,} ids begin like a formula of a spreadsheet; they are written as they are, unlike titles")
    say(f"{rows:,} recommendations: {out}")


def _checked(asked: Asked) -> Path:
    if not (asked.run / "config.yaml").is_file():
        raise UserError(f"{asked.run} is not a run: it has no config.yaml", exit_code=2)
    return asked.run


def _unseen(asked: Asked) -> bool | None:
    """With a test item held out the answers are those of the evaluation, unless told otherwise."""
    if asked.unseen is None and asked.held_out:
        return load_run_config(asked.run).evaluation.mask_history
    return asked.unseen


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
    users = _users(run)
    rows = users.filter(pl.col("user") == user)
    if not len(rows):
        raise UserError(f"the data have no user {user!r}{nearest_ids(user, users['user'])}", exit_code=2)
    items, tests = rows["items"][0].to_list(), rows["tests"][0]
    if not held_out:
        return items, None
    if not tests or tests >= len(items):
        raise UserError(f"user {user!r} has no test item with a history before it; leave out held_out", exit_code=2)
    return items[:-tests], items[-tests]


def _histories(run: Path, users: str, asked: Asked) -> pl.DataFrame:
    """``user`` and ``items`` of the users that are asked for and have a history."""
    table = _users(run)
    if users != "all":
        table = _listed(table, users, asked.unknown)
    if asked.held_out:
        before = pl.col("items").list.len().cast(pl.Int64) - pl.col("tests")
        items = pl.when(pl.col("tests") > 0).then(pl.col("items").list.head(pl.max_horizontal(before, 0)))
        table = table.with_columns(items.alias("items"))
    usable = table.filter(pl.col("items").list.len() > 0)
    if not len(usable):
        raise UserError("none of the users has a history to recommend from")
    if len(usable) < len(table):
        lacking = "a test item with a history before it" if asked.held_out else "a history"
        warn(f"{len(table) - len(usable):,} of {len(table):,} users are left out, who have not {lacking}")
    return usable.select("user", "items")


def _listed(table: pl.DataFrame, file: str, unknown: str) -> pl.DataFrame:
    """The users that a file lists, in its order, each once."""
    given = (user for user in read_ids(file, "user_id") if user is not None and user == user)  # NaN is nobody
    texts = (str(int(user)) if isinstance(user, float) and user.is_integer() else str(user) for user in given)
    ids = list(dict.fromkeys(texts))
    listed = pl.DataFrame({"user": pl.Series(ids, dtype=pl.String)})
    joined = listed.join(table, on="user", how="inner", maintain_order="left")
    if len(joined) < len(listed):
        first = listed.join(table, on="user", how="anti", maintain_order="left")["user"][0]
        count = f"{len(listed) - len(joined):,} of the {len(listed):,} users in {file}"
        line = f"the data have not {count}; the first: {first!r}{nearest_ids(first, table['user'])}"
        if unknown == "refuse" or not len(joined):
            raise UserError(line + (" (unknown=drop leaves such users out)" if len(joined) else ""), exit_code=2)
        warn(line)
    return joined


def _users(run: Path) -> pl.DataFrame:
    path = run / "users.parquet"
    if not path.is_file():
        raise UserError(f"{run} has no users.parquet; the same dig.train command writes it again from what is kept")
    return read_run_table(path, ["user", "items", "tests"])


def _semantic_ids(run: Path) -> dict[str, list[int]]:
    path = run / "semantic_ids.parquet"
    RunProof(run).require(path.name)
    if not path.is_file():
        return {}
    ids = SemanticIds.load(path)
    return {
        item: [code for code in codes if code >= 0]
        for item, codes in zip(ids.item_ids, ids.codes.tolist(), strict=True)
    }
