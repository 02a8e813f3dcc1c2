"""From another program's table to ranked lists: which column is what, in which order, and ids as text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from dig.comparison.files import counted, refused
from dig.config import nearest
from dig.engine.console import printable

__all__ = ["RankedLists", "ranked_lists"]

_NAMES: dict[str, tuple[str, ...]] = {
    "user": (
        "user",
        "userid",
        "uid",
        "useridx",
        "userindex",
        "query",
        "queryid",
        "qid",
        "customer",
        "customerid",
        "visitor",
        "visitorid",
        "reviewerid",
    ),
    "item": (
        "item",
        "itemid",
        "iid",
        "itemidx",
        "itemindex",
        "doc",
        "docid",
        "docno",
        "document",
        "product",
        "productid",
        "movie",
        "movieid",
        "asin",
        "parentasin",
        "sku",
        "recommendeditem",
        "recommendeditemid",
    ),
    "items": (
        "items",
        "itemids",
        "itemlist",
        "recommendations",
        "recommendation",
        "recs",
        "ranking",
        "rankings",
        "ranked",
        "rankeditems",
        "topk",
        "topitems",
        "recommendeditems",
        "predictions",
    ),
    "target": ("target", "targetid", "targetitem", "targetitemid", "groundtruth", "testitem", "heldout", "truth"),
    "rank": ("rank", "place", "position"),
    "score": ("score", "scores", "rating", "ratings", "relevance", "prediction", "est", "predictedrating"),
    "example": ("example",),
    "source": ("tag", "stage", "model", "algorithm", "method", "system"),
}
_SAID = {"user": "users (user, user_id)", "item": "items (items: a list each; or item_id, with rank or score)"}
_SEPARATORS = ("|", ";", ",", " ")
_TOKEN = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,\[\]()'"]+)""")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_EXACT = {pl.Float32: 2**24, pl.Float64: 2**53}
"""Whole numbers below these are exact in a float."""
_SHOWN = 60


@dataclass(frozen=True)
class RankedLists:
    """Lists as a file has them, ids as text.

    Attributes:
        name: of the file, for messages.
        rows: ``row``, ``user``, and ``target`` and ``example`` where the file has them; a row a list.
        items: ``row``, ``item`` and ``score`` (null without scores), best first within a row; where scores decide,
            the order of equal ones is still open.
        scored: whether the order comes from scores.
        notes: sentences on what was decided.
    """

    name: str
    rows: pl.DataFrame
    items: pl.DataFrame
    scored: bool
    notes: tuple[str, ...]


def ranked_lists(frame: pl.DataFrame, name: str, items: Collection[str], by_score: bool = False) -> RankedLists:
    """Reads a table with a list of items per user, or with a user and an item per row.

    Args:
        frame: the columns of the file.
        name: of the file, for messages.
        items: ids that the catalogue has, by which the separator of lists in text is known.
        by_score: scores decide even where there are ranks, as for TREC's runs.

    Raises:
        UserError: a column is missing or ambiguous, or holds what is not an id, rank or score; one line says where.
    """
    frame = _unnested(frame)
    columns = _roles(frame, name)
    if not len(frame):
        raise refused(name, "it holds no user")
    wrong = next((column for column in columns.values() if frame[column].dtype == pl.Object), None)
    if wrong is not None:
        raise refused(name, f"{printable(wrong, _SHOWN)} mixes values of different kinds; write ids as text")
    _require_one_source(frame, columns, name)
    wide = "items" in columns or _holds_lists(frame[columns["item"]])
    if wide:
        return _wide(frame, columns, name, items)
    return _long(frame, columns, name, by_score)


def _unnested(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists of records, such as LensKit's and RecTools' nested tables have, with a row per record."""
    for column, kind in frame.schema.items():
        if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
            rows = frame.filter(pl.col(column).list.len() > 0).explode(column)
            others = set(rows.columns) - {column}
            fields = [field.name for field in kind.inner.fields if field.name not in others]
            return rows.with_columns(pl.col(column).struct.field(field) for field in fields).drop(column)
    return frame


def _roles(frame: pl.DataFrame, name: str) -> dict[str, str]:
    """Columns by what they are."""
    plain = {column: re.sub(r"[^a-z0-9]", "", column.partition(":")[0].lower()) for column in frame.columns}
    roles = {}
    for role, aliases in _NAMES.items():
        columns = [column for column in frame.columns if plain[column] in aliases]
        if len(columns) > 1 and role != "source":
            both = " and ".join(printable(column, _SHOWN) for column in columns)
            raise refused(name, f"{both} could each be its {role}; leave one out")
        if columns:
            roles[role] = columns[0]
    if "item" in roles and "items" in roles:
        raise refused(name, f"{roles['items']} and {roles['item']} could each hold its items; leave one out")
    for role in ("user", "item"):
        if role not in roles and not (role == "item" and "items" in roles):
            choices = {plain[column]: column for column in frame.columns if column not in roles.values()}
            hint = nearest(role, choices)
            near = f"; is it {printable(choices[hint], _SHOWN)}? then rename it" if hint else ""
            column_names = printable(", ".join(frame.columns), 2 * _SHOWN)
            raise refused(name, f"no column of {_SAID[role]} among its columns {column_names}{near}")
    return roles


def _require_one_source(frame: pl.DataFrame, columns: Mapping[str, str], name: str) -> None:
    if "source" not in columns or frame[columns["source"]].dtype.is_nested():
        return
    if frame[columns["source"]].n_unique() > 1:
        names = frame[columns["source"]].cast(pl.String).unique(maintain_order=True).fill_null("").to_list()
        some = printable(", ".join(names[:3]), _SHOWN)
        raise refused(
            name, f"it holds {len(names)} recommenders by {columns['source']} ({some}); write a file for each"
        )


def _holds_lists(values: pl.Series) -> bool:
    if isinstance(values.dtype, pl.List | pl.Array):
        return True
    text = values.drop_nulls() if values.dtype == pl.String else pl.Series([], dtype=pl.String)
    return len(text) > 0 and bool(text.str.strip_chars().str.starts_with("[").all())


def _wide(frame: pl.DataFrame, columns: Mapping[str, str], name: str, known: Collection[str]) -> RankedLists:
    rows = _keys(frame, columns, name).with_row_index("row")
    values = frame[columns.get("items") or columns["item"]]
    if isinstance(values.dtype, pl.Array):
        values = values.cast(pl.List(values.dtype.inner))
    if values.dtype == pl.String:
        values = _cells(values, name, known)
    if not isinstance(values.dtype, pl.List):
        raise refused(
            name,
            f"{values.name} holds one {values.dtype} per row, not a list; a table with an item per row "
            "calls it item_id, beside rank or score",
        )
    lengths = values.list.len().fill_null(0)
    if "score" in columns:
        _require_falling(frame[columns["score"]], values, rows, name)
    items = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(frame), dtype=np.uint32), lengths.to_numpy()),
            "item": _ids(values.filter(lengths > 0).explode(), "item", name),
        }
    ).with_columns(score=pl.lit(None, dtype=pl.Float64))
    return RankedLists(name, rows, items, False, ())


def _require_falling(scores: pl.Series, items: pl.Series, rows: pl.DataFrame, name: str) -> None:
    """Scores beside a list say whether it is best first."""
    if scores.dtype == pl.String and _holds_lists(scores):
        scores = _cells(scores, name, ())
    if not isinstance(scores.dtype, pl.List | pl.Array):
        return
    number = pl.element().cast(pl.Float64, strict=False)
    ranked = pl.DataFrame({"user": rows["user"], "items": items, "scores": scores.cast(pl.List(scores.dtype.inner))})
    odd = ranked.filter(pl.col("scores").list.len() != pl.col("items").list.len())
    if len(odd):
        raise refused(
            name, f"user {_user(odd)} has {odd['items'].list.len()[0]} items and {odd['scores'].list.len()[0]} scores"
        )
    odd = ranked.filter(pl.col("scores").list.eval(number.is_nan() | number.is_null()).list.any())
    if len(odd):
        raise refused(name, f"user {_user(odd)} has an item whose score is not a number")
    odd = ranked.filter(pl.col("scores").list.eval(number.diff().fill_null(0.0) > 0).list.any())
    if len(odd):
        raise refused(name, f"the list of user {_user(odd)} is not best first: a score is higher than one before it")


def _long(frame: pl.DataFrame, columns: Mapping[str, str], name: str, by_score: bool) -> RankedLists:
    keys = _keys(frame, columns, name)
    rows = keys.unique(maintain_order=True).with_row_index("row")
    items = keys.join(rows, on=keys.columns, how="left", maintain_order="left").select(
        "row", "user", item=_ids(frame[columns["item"]], "item", name)
    )
    by_rank = "rank" in columns and not (by_score and "score" in columns)
    numbers = [
        _numbers(frame[columns[role]], role, items["user"], name, strict=role == "score" or by_rank)
        for role in ("score", "rank")
        if role in columns
    ]
    items = items.with_columns(numbers)
    notes = _contradictions(items, by_rank) if len(numbers) == 2 else []
    if by_rank:
        items = items.sort("row", "rank", maintain_order=True)
        _require_places(items, name)
    elif "score" in columns:
        items = items.sort("row", -pl.col("score"), maintain_order=True)
    else:
        items = items.sort("row", maintain_order=True)
        notes.append("its rows have neither rank nor score, so items are ranked in the order of the rows")
    if "score" not in columns:
        items = items.with_columns(score=pl.lit(None, dtype=pl.Float64))
    listed = items.filter(pl.col("score").fill_null(0.0) != float("-inf"))
    if len(listed) < len(items):
        notes.append(f"{counted(len(items) - len(listed), 'item')} with a score of -inf not ranked")
    scored = "score" in columns and not by_rank
    return RankedLists(name, rows, listed.select("row", "item", "score"), scored, tuple(notes))


def _require_places(items: pl.DataFrame, name: str) -> None:
    """Ranks start at 0 or 1 and leave nothing out, so that a place is what the file says it is."""
    base = items["rank"].min()
    if base not in (0.0, 1.0):
        raise refused(name, f"its ranks start at {base:g}; ranks start at 0 or 1")
    expected = base + pl.int_range(pl.len()).over("row")
    odd = items.with_columns(expected=expected).filter(pl.col("rank") != pl.col("expected"))
    if len(odd):
        rank, place = odd["rank"][0], odd["expected"][0]
        problem = f"two items at rank {rank:g}" if rank < place and rank.is_integer() else f"no item at rank {place:g}"
        raise refused(
            name,
            f"user {_user(odd)} has {problem}, and ranks start at {base:g}; number each user's items "
            "without gaps, or leave the column out so that scores decide",
        )


def _contradictions(items: pl.DataFrame, by_rank: bool) -> list[str]:
    """How many lists have scores that say another order than their ranks."""
    ordered = items.filter(pl.col("rank").n_unique().over("row") == pl.len().over("row")).sort("row", "rank")
    users = ordered.filter((pl.col("score").diff() > 0).over("row"))["user"].n_unique()
    which = "ranks" if by_rank else "scores"
    return [f"ranks and scores disagree for {counted(users, 'user')}, and the {which} count"] if users else []


def _numbers(values: pl.Series, role: str, users: pl.Series, name: str, strict: bool) -> pl.Series:
    if values.dtype.is_nested():
        raise refused(name, f"{values.name} holds lists, while there is one item per row")
    numbers = values.cast(pl.Float64, strict=False)
    odd = (numbers.is_null() | numbers.is_nan()).arg_true()
    if strict and len(odd):
        row = int(odd[0])
        value = printable(str(values[row]), _SHOWN)
        raise refused(name, f"the {role} {value} of user {printable(users[row], _SHOWN)} is not a number")
    return numbers.alias(role)


def _keys(frame: pl.DataFrame, columns: Mapping[str, str], name: str) -> pl.DataFrame:
    keys = {role: _ids(frame[columns[role]], role, name) for role in ("user", "target", "example") if role in columns}
    return pl.DataFrame(keys)


def _ids(values: pl.Series, role: str, name: str) -> pl.Series:
    """Ids as text, whole numbers without a decimal point."""
    kind = values.dtype
    if values.null_count():
        raise refused(
            name,
            f"{values.null_count():,} rows have no {role} in {printable(values.name or role, _SHOWN)}"
            if role != "item"
            else f"{values.null_count():,} of its items are empty",
        )
    if kind.is_float():
        odd = values.filter(~values.is_finite() | (values != values.floor()) | (values.abs() >= _EXACT.get(kind, 0)))
        if len(odd):
            raise refused(
                name,
                f"the {role} {odd[0]} is a float, and may be another id rounded; write ids as text or whole numbers",
            )
        values = values.cast(pl.Int64)
    elif not (kind.is_integer() or kind in (pl.String, pl.Null) or isinstance(kind, pl.Categorical | pl.Enum)):
        raise refused(name, f"its {role}s are {kind}; write ids as text or whole numbers")
    text = values.cast(pl.String).alias(role)
    if (text.str.strip_chars() == "").any():
        raise refused(name, f"{int((text.str.strip_chars() == '').sum()):,} rows have no {role}")
    return text


def _cells(values: pl.Series, name: str, known: Collection[str]) -> pl.Series:
    """Lists from text: JSON, Python's and NumPy's way to print a list, or ids with a separator between them."""
    cells = [(value or "").strip() for value in values.to_list()]
    if all(cell.startswith(("[", "(")) for cell in cells if cell):
        return pl.Series(
            values.name, [_bracketed(cell, row, name) for row, cell in enumerate(cells)], dtype=pl.List(pl.String)
        )
    if all(cell.startswith(("{", "frozenset(")) for cell in cells if cell):
        raise refused(name, f"{values.name} holds sets or objects, which have no order; write lists, best first")
    split = {
        separator: [[part.strip() for part in cell.split(separator) if part.strip()] for cell in cells]
        for separator in _SEPARATORS
    }
    hits = {separator: sum(part in known for parts in lists for part in parts) for separator, lists in split.items()}
    best = max(_SEPARATORS, key=lambda separator: hits[separator])
    return pl.Series(values.name, split[best], dtype=pl.List(pl.String))


def _bracketed(cell: str, row: int, name: str) -> list[str]:
    if not cell:
        return []
    try:
        parsed = json.loads(cell, parse_int=str, parse_float=str)
        if isinstance(parsed, list) and all(isinstance(element, str) for element in parsed):
            return parsed
    except (ValueError, RecursionError):
        parsed = []
    bare = _QUOTED.sub("", cell)
    if "..." in bare or cell[-1] not in ")]":
        raise refused(
            name,
            f"the list in row {row + 1} was cut short when it was printed; write it as a whole, such "
            "as with json.dumps",
        )
    if parsed or bare.count("[") + bare.count("(") > 1:
        raise refused(name, f"the list in row {row + 1} holds something else than ids: {printable(cell, _SHOWN)}")
    if re.search(r"\b(?:nan|none|null)\b", bare, re.IGNORECASE):
        raise refused(name, f"the list in row {row + 1} holds an empty item: {printable(cell, _SHOWN)}")
    return [re.sub(r"\\(.)", r"\1", next(filter(None, groups), "")) for groups in _TOKEN.findall(cell)]


def _user(rows: pl.DataFrame) -> str:
    return printable(rows["user"][0], _SHOWN)
