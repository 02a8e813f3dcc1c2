"""Rankings of another program on a run's test: the same users, targets and items, and what was decided for that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dig.comparison.files import counted, frame_of, read_file, refused
from dig.comparison.lists import RankedLists, ranked_lists
from dig.comparison.rankings import Ranking, places, read_examples
from dig.comparison.runs import ComparedRun
from dig.config import nearest_ids
from dig.engine.console import printable
from dig.engine.proof import RunProof
from dig.received.tables import read_parquet_table

__all__ = ["Aligned", "Source", "read_source"]

_DECIMAL = re.compile(r"(-?\d+)\.0*")
_SHOWN = 60


@dataclass(frozen=True)
class Source:
    """Rankings that are not a run's.

    Attributes:
        label: name of the row.
        given: the file, or what stands for it in messages.
        table: the file, or a table in memory.
    """

    label: str
    given: str
    table: Any


@dataclass(frozen=True)
class Aligned:
    """Lists of another program on the examples of a run.

    Attributes:
        source: where they are from.
        like: a ranking of the run, whose examples these are.
        items: ``row`` (number of the example), ``item`` and ``seen`` (whether the history has it), best first.
        absent: (examples,) which have no list.
        histories: whether histories are known; without them nothing is ``seen``.
        notes: sentences on what was decided.
    """

    source: Source
    like: Ranking
    items: pl.DataFrame
    absent: np.ndarray
    histories: bool
    notes: tuple[str, ...]

    @property
    def repeats(self) -> bool:
        """Whether a list holds an item of its user's history."""
        return bool(self.items["seen"].any())

    def ranking(self, masked: bool) -> Ranking:
        """The lists as they are, or without the items of each history."""
        seen = self.items.filter("seen")
        items = self.items.filter(~pl.col("seen")) if masked else self.items
        lists = pl.DataFrame({"row": np.arange(len(self.absent), dtype=np.uint32)}).join(
            items.group_by("row", maintain_order=True).agg("item"), on="row", how="left", maintain_order="left"
        )
        rows = pl.DataFrame({"target": self.like.targets, "items": lists["item"].fill_null([])})
        ranks, lengths = places(rows)
        label, notes = self.source.label, list(self.notes)
        if masked and len(seen):
            notes.append(
                f"{label}: {counted(len(seen), 'place')} with items of the history are taken out of the lists of "
                f"{counted(self.like.users.gather(seen['row']).n_unique(), 'user')}"
            )
        elif len(seen):
            notes.append(f"{label}: items of the history are in {counted(len(seen), 'place')}, where they compete")
        elif not masked and self.histories and not len(seen) and len(items):
            notes.append(f"{label}: no list holds an item of its history, so they were masked; other rows are not")
        run = ComparedRun(
            self.source.given,
            Path(self.source.given),
            (label,),
            "",
            None,
            None,
            (),
            {},
            self.source.given,
            self.like.run.part,
            label,
        )
        return Ranking(
            run, label, self.like.users, self.like.targets, rows["items"], ranks, lengths, tuple(notes), self.absent
        )


def read_source(source: Source, like: Ranking) -> Aligned:
    """Reads rankings and aligns them with the examples that a run was tested on.

    Args:
        source: a file or a table with user and items.
        like: a ranking of the run.

    Raises:
        UserError: the table cannot be read, or is of other users, items or targets; one line says which.
    """
    catalogue = _catalogue(like.run)
    given = source.given
    if isinstance(source.table, str | Path):
        path = Path(source.table).expanduser()
        frame, trec = read_file(path), path.name.lower().removesuffix(".gz").endswith((".run", ".trec"))
    else:
        frame, trec = frame_of(source.table, given), False
    item_ids = set(like.targets.to_list()) if catalogue is None else set(catalogue.to_list())
    try:
        lists = ranked_lists(frame, given, item_ids, trec)
    except pl.exceptions.PolarsError as error:  # columns of a kind that no ranking has
        raise refused(given, f"it cannot be read as rankings ({printable(str(error), 120)})") from None
    rows, about_users = _example_numbers(lists, like)
    items = lists.items.join(rows, on="row", how="inner", maintain_order="left")
    items = items.select(pl.col("example").alias("row"), "item", "score")
    items, about_items = _with_known_items(given, items, catalogue, like)
    items, about_order = _ordered(items, lists.scored, catalogue)
    notes = [*lists.notes, *about_users, *about_items, *about_order]
    once = items.unique(["row", "item"], keep="first", maintain_order=True)
    if len(once) < len(items):
        notes.append(f"{counted(len(items) - len(once), 'place')} that repeat an item are taken out")
    histories = read_examples(like.run, like, "history")
    absent = np.ones(len(like.users), dtype=bool)
    absent[once["row"].to_numpy()] = False
    if absent.all():
        raise refused(given, "all its lists are empty")
    if histories is None:
        notes.append("the run does not tell histories, so whether the lists leave them out is not known")
    seen = _seen(once, histories)
    messages = tuple(f"{source.label}: {note}" for note in notes)
    return Aligned(source, like, seen, absent, histories is not None, messages)


def _catalogue(run: ComparedRun) -> pl.Series | None:
    path = run.folder / "items.parquet"
    RunProof(run.folder).require(path.name)
    if not path.is_file():
        return None
    return read_parquet_table(path, {"item_id": pl.String}, advice=run.again)["item_id"]


def _example_numbers(lists: RankedLists, like: Ranking) -> tuple[pl.DataFrame, list[str]]:
    """``row`` of the file and number of the ``example`` that it answers."""
    name, rows = lists.name, lists.rows
    spelling, notes = _spelling(rows["user"].unique(), set(like.users.to_list()), "user id")
    rows = rows.with_columns(pl.col("user").replace(spelling))
    ours = pl.DataFrame({"user": like.users, "own_target": like.targets}).with_row_index("example_row")
    strange = rows.filter(~pl.col("user").is_in(like.users.unique().implode()))
    mine = rows.filter(pl.col("user").is_in(like.users.unique().implode()))
    part = "test" if like.run.part == "test" else "validation"
    if mine.is_empty():
        raise refused(
            name,
            f"none of its {counted(rows['user'].n_unique(), 'user')} is among those of the {part} of "
            f"{like.run.given}{_unlike(strange['user'], like.users)}",
        )
    if len(strange):
        number, example = counted(strange["user"].n_unique(), "user"), printable(strange["user"][0], _SHOWN)
        notes.append(f"{number} not in the {part} left out, such as {example}")
        notes += _own_numbers(rows["user"].unique(), like.users.unique())
    if "target" in mine.columns:
        spelling, _ = _spelling(mine["target"].unique(), set(like.targets.to_list()), "targets")
        mine = mine.with_columns(pl.col("target").replace(spelling))
    keys = ["user"]
    if len(ours) > like.users.n_unique():
        if "target" not in mine.columns:
            raise refused(
                name,
                f"users have several examples in the {part} of {like.run.given}; a column target must "
                "say which of them each list answers",
            )
        ours = ours.with_columns(pl.int_range(pl.len()).over("user", "own_target").alias("nth"))
        if "example" in mine.columns:
            order = pl.col("example").cast(pl.Int64, strict=False)
            mine = mine.with_columns(order.rank("ordinal").over("user", "target").cast(pl.Int64).sub(1).alias("nth"))
        else:
            mine = mine.with_columns(pl.lit(0, dtype=pl.Int64).alias("nth"))
        mine, ours, keys = mine.with_columns(own_target=pl.col("target")), ours, ["user", "own_target", "nth"]
    twice = mine.filter(pl.struct(keys).is_duplicated())
    if len(twice):
        raise refused(
            name,
            f"user {printable(twice['user'][0], _SHOWN)} has several lists"
            f"{_lists_by(twice, keys)}; one per {'user' if keys == ['user'] else 'example'}",
        )
    both = mine.join(ours, on=keys, how="left", maintain_order="left")
    _require_targets(both, like, name)
    return both.select("row", pl.col("example_row").cast(pl.UInt32).alias("example")), notes


def _lists_by(twice: pl.DataFrame, keys: Sequence[str]) -> str:
    """What the lists of one user differ in, if that can be seen."""
    return " with different targets" if keys == ["user"] and "target" in twice.columns else ""


def _require_targets(both: pl.DataFrame, like: Ranking, name: str) -> None:
    if "target" not in both.columns:
        return
    odd = both.filter(pl.col("example_row").is_null() | (pl.col("target") != pl.col("own_target")))
    if odd.is_empty():
        return
    user, theirs = odd["user"][0], odd["target"][0]
    ours = ", ".join(like.targets.filter(like.users == user).to_list())
    raise refused(
        name,
        f"{len(odd):,} of {len(both):,} targets are not those of {like.run.given}, such as "
        f"{printable(theirs, _SHOWN)} and not {printable(ours, _SHOWN)} for user "
        f"{printable(user, _SHOWN)}; the data or the split are others. Without the column, its lists "
        "are measured on the run's targets",
    )


def _with_known_items(
    name: str, items: pl.DataFrame, catalogue: pl.Series | None, like: Ranking
) -> tuple[pl.DataFrame, list[str]]:
    """Items spelled as the catalogue spells them; what it lacks keeps its place."""
    item_ids = set((like.targets if catalogue is None else catalogue).to_list())
    spelling, notes = _spelling(items["item"].unique(), item_ids, "item id")
    items = items.with_columns(pl.col("item").replace(spelling))
    if catalogue is None:
        return items, notes
    strange = items.filter(~pl.col("item").is_in(catalogue.implode()))
    if len(strange) == len(items) and len(items):
        number = counted(items["item"].n_unique(), "item")
        raise refused(
            name, f"none of its {number} is in the catalogue of {like.run.given}{_unlike(strange['item'], catalogue)}"
        )
    if len(strange):
        number, places = counted(strange["item"].n_unique(), "item"), counted(len(strange), "place")
        example = printable(strange["item"][0], _SHOWN)
        notes.append(f"{number} that the catalogue does not have, such as {example}, in {places}")
    return items, notes


def _spelling(ids: pl.Series, known: set[str], what: str) -> tuple[dict[str, str], list[str]]:
    """How ids that are known but for a decimal point or blanks around them are spelled here."""
    spelling = {}
    for each in ids.to_list():
        if each in known:
            continue
        bare = each.strip()
        whole = _DECIMAL.fullmatch(bare)
        for other in (bare, whole[1] if whole else bare):
            if other in known:
                spelling[each] = other
                break
    example = min(spelling, default="")
    notes = (
        [
            f"{counted(len(spelling), what)} are read without decimals or blanks, such as "
            f"{printable(example, _SHOWN)} as {printable(spelling[example], _SHOWN)}"
        ]
        if spelling
        else []
    )
    return spelling, notes


def _own_numbers(theirs: pl.Series, ours: pl.Series) -> list[str]:
    """A doubt where users are counted from 0 or 1 and the run's go beyond: numbers may be ids by accident."""
    numbers, own = (each.cast(pl.Int64, strict=False) for each in (theirs, ours))
    if numbers.null_count() or own.null_count():
        return []
    first, last = int(numbers.min()), int(numbers.max())
    counted_through = first in (0, 1) and last - first + 1 == len(numbers)
    if not counted_through or last >= int(own.max()):
        return []
    return [
        f"its users are {first} to {last} without a gap, and the run's continue to {own.max()}: if these are numbers "
        "that the other program gave them, they are other users"
    ]


def _unlike(theirs: pl.Series, ours: pl.Series) -> str:
    """What may be the difference between ids of which not one is the same."""
    example, own = printable(theirs[0], _SHOWN), printable(ours[0], _SHOWN)
    example_text = f": {example} there, {own} here"
    for way, plain in _PLAINER:
        mine = {plain(each): each for each in ours.to_list()}
        same = next((each for each in theirs.to_list() if plain(each) in mine), None)
        if same is not None:
            return f": ids differ by {way}, such as {printable(same, _SHOWN)} there and {mine[plain(same)]} here"
    if theirs.str.contains(r"^\d+$").all() and not ours.str.contains(r"^\d+$").all():
        return f"{example_text}; numbers such as these are another program's own, map them back to the ids of the data"
    return example_text + nearest_ids(theirs[0], ours.to_list())


_PLAINER = (
    ("leading zeros", lambda each: each.lstrip("0")),
    ("capital letters", lambda each: each.casefold()),
    ("a prefix or other signs around a number", lambda each: re.sub(r"\D", "", each).lstrip("0") or each),
)


def _ordered(items: pl.DataFrame, scored: bool, catalogue: pl.Series | None) -> tuple[pl.DataFrame, list[str]]:
    """By example, best first; equal scores by the catalogue, as in the rankings of a run."""
    if not scored:
        return items.sort("row", maintain_order=True), []
    tied = items.filter(pl.struct("row", "score").is_duplicated())["row"].n_unique()
    if catalogue is None:
        items = items.with_columns(at=pl.lit(0))
    else:
        places = pl.DataFrame({"item": catalogue}).with_row_index("at")
        items = items.join(places, on="item", how="left", maintain_order="left")
    ordered = items.sort("row", -pl.col("score"), "at", "item", nulls_last=True, maintain_order=True)
    order = "by id" if catalogue is None else "in the order of the catalogue"
    notes = [f"equal scores of {counted(tied, 'user')} are ranked {order}"] if tied else []
    return ordered.drop("at"), notes


def _seen(items: pl.DataFrame, histories: pl.Series | None) -> pl.DataFrame:
    items = items.select("row", "item")
    if histories is None:
        return items.with_columns(seen=pl.lit(False))
    rows = pl.DataFrame({"row": np.arange(len(histories), dtype=np.uint32), "item": histories})
    bought = rows.filter(pl.col("item").list.len() > 0).explode("item").unique().with_columns(seen=pl.lit(True))
    return items.join(bought, on=["row", "item"], how="left", maintain_order="left").with_columns(
        pl.col("seen").fill_null(False)
    )
