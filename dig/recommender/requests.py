"""What callers hand over, read as they have it: histories, the number of answers, lists of items.

Lists, tuples, generators, arrays of numpy and torch, columns of polars and pandas are taken alike. Ids are texts; a
whole number stands for the id that is written like it. Everything else is one line that says where it is.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterable, KeysView, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dig.config import UserError, nearest_ids
from dig.engine.console import warn

__all__ = ["EMPTY", "UNKNOWN", "Rows", "read_count", "read_flag", "read_histories", "read_history", "read_items"]

Rows = Mapping[str, int]
"""The catalogue row of each item id."""
UNKNOWN = ("drop", "refuse")
"""What may be done about items that the catalogue lacks."""
EMPTY = ("skip", "refuse")
"""What may be done about histories without an item."""
_ALONE = "the history"
_ADVICE = "unknown=drop leaves such items out"
_MOST_COMPARED = 1_000_000  # ids, which takes half a second
_MOST = 10_000
"""Answers that may be asked for beyond the size of the catalogue."""


class _Unknown(NamedTuple):
    """An item that the catalogue lacks, and where it is."""

    where: str
    item: object


def read_histories(histories: Any, rows: Rows, unknown: str = "drop", empty: str = "skip") -> list[np.ndarray]:
    """The catalogue rows of each history.

    Args:
        histories: one sequence of item ids per customer, oldest first; a matrix has one in each row. No customers are
            no histories.
        rows: the catalogue.
        unknown: ``drop`` leaves out items that the catalogue lacks (missing values, too) and warns; ``refuse`` raises.
        empty: ``skip`` gives an empty array for a history without an item (left) and warns; ``refuse`` raises.

    Returns:
        (histories,) int64 arrays.

    Raises:
        UserError: what was given are not histories; or as the policies say; or not one item of any history is known.
    """
    _check_choice("unknown", unknown, UNKNOWN)
    _check_choice("empty", empty, EMPTY)
    rows_per_history, missing, given = [], [], 0
    for place, history in enumerate(_histories(histories)):
        where = f"histories[{place}]"
        items = [] if _is_missing(history) else _ordered(history, where)
        given += len(items)
        history_rows, lacking = _known(items, rows, where)
        missing += lacking
        if unknown == "refuse" and missing:
            raise _lacks(missing[0], rows, 0, _ADVICE)
        if empty == "refuse" and not history_rows:
            without = " without the items that the catalogue lacks" if lacking else ""
            advice = "there is nothing to recommend from (empty=skip gives it no answers)"
            raise UserError(f"{where} is empty{without}; {advice}", exit_code=2)
        rows_per_history.append(np.array(history_rows, dtype=np.int64))
    if missing and len(missing) == given:
        raise _lacks(missing[0], rows, given - 1)
    if missing:
        _warn_left_out(missing, given, "the histories", rows)
    nothing = [place for place, history_rows in enumerate(rows_per_history) if not len(history_rows)]
    if nothing:
        customers = f"{len(nothing):,} of {len(rows_per_history):,} customers have"
        warn(f"{customers} no item that the catalogue knows, and get no answers; the first: histories[{nothing[0]}]")
    return rows_per_history


def read_history(history: Any, rows: Rows, unknown: str = "drop") -> np.ndarray:
    """The catalogue rows of one history, (items,) int64.

    Raises:
        UserError: as :func:`read_histories`, or it has no item.
    """
    _check_choice("unknown", unknown, UNKNOWN)
    items = [] if _is_missing(history) else _ordered(history, _ALONE)
    if not items:
        raise UserError("the history is empty; there is nothing to tell from", exit_code=2)
    found_rows, missing = _known(items, rows, _ALONE)
    if missing and not found_rows:
        raise _lacks(missing[0], rows, len(items) - 1)
    if missing and unknown == "refuse":
        raise _lacks(missing[0], rows, 0, _ADVICE)
    if missing:
        _warn_left_out(missing, len(items), _ALONE, rows)
    return np.array(found_rows, dtype=np.int64)


def read_items(items: Any, rows: Rows, name: str) -> Tensor:
    """The catalogue rows of a list of items in which the order says nothing, what is in stock, say.

    Args:
        items: ids, in a set, too; those that the catalogue lacks are left out with a warning.
        rows: the catalogue.
        name: what the list is.

    Returns:
        (n,) int64, sorted.

    Raises:
        UserError: these are not ids, there are none, or the catalogue has none of them.
    """
    listed = list(items) if isinstance(items, AbstractSet) else _ordered(items, name)
    if not listed:
        raise UserError(f"{name} has no items; there is nothing to recommend", exit_code=2)
    item_rows, missing = _known(listed, rows, name)
    if not item_rows:
        raise _lacks(missing[0]._replace(where=name), rows, len(listed) - 1)
    if missing:
        _warn_left_out(missing, len(listed), name, rows)
    return torch.tensor(sorted(set(item_rows)))


def read_count(k: Any, items: int) -> int:
    """The number of answers.

    Args:
        k: a whole number above 0, as ``2.0``, too.
        items: size of the catalogue.

    Raises:
        UserError: it is another.
    """
    if isinstance(k, Tensor | np.ndarray) and k.ndim == 0:
        k = k.item()
    number = isinstance(k, int | float | np.integer | np.floating) and not isinstance(k, bool)
    if not number or not math.isfinite(k) or k != int(k) or k < 1:
        raise UserError(f"k={_shown(k)} must be a whole number above 0", exit_code=2)
    if k > max(items, _MOST):
        raise UserError(f"k={int(k):,} is more than the {items:,} items of the catalogue", exit_code=2)
    return int(k)


def read_flag(value: Any, name: str) -> bool | None:
    """True, false or None.

    Raises:
        UserError: it is something else.
    """
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    raise UserError(f"{name}={_shown(value)} must be True, False or None", exit_code=2)


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{name}={_shown(value)} must be one of {', '.join(map(repr, choices))}", exit_code=2)


def _histories(histories: Any) -> list[Any]:
    """One entry per customer; a single history is told from several."""
    if histories is None:
        raise UserError("histories is None; give one list of item ids for each customer, or [] for no customers", 2)
    listed = _ordered(histories, "histories")
    single = [_is_item(history) for history in listed]
    others = [history for alone, history in zip(single, listed, strict=True) if not alone]
    if any(single) and all(map(_is_missing, others)):
        shown = ", ".join(map(_shown, listed[:2])) + (", …" if listed[2:] else "")
        raise UserError(f"histories is one history, [{shown}]; give a list of histories: [[{shown}]]", exit_code=2)
    for place, alone in enumerate(single):
        if alone:
            raise UserError(f"histories[{place}] is {_shown(listed[place])} and not a list of item ids", exit_code=2)
    return listed


def _ordered(value: Any, where: str) -> list[Any]:
    """The elements of whatever holds them in an order."""
    if isinstance(value, str | bytes):
        raise UserError(f"{where} is {_shown(value)} and not a list of item ids", exit_code=2)
    if isinstance(value, AbstractSet) and not isinstance(value, KeysView | ItemsView):
        raise UserError(f"{where} is a {type(value).__name__}, which has no order; give a list, oldest first", 2)
    if isinstance(value, Mapping):
        advice = "values: list(….values())" if where.startswith("histories") else "ids as a list"
        raise UserError(f"{where} is a {type(value).__name__}; give its {advice}", exit_code=2)
    if hasattr(type(value), "columns"):  # the type is asked, since a lazy table would resolve its schema and warn
        raise UserError(f"{where} is a table; give its column of item ids", exit_code=2)
    if getattr(value, "ndim", 1) == 0:
        raise UserError(f"{where} is {_shown(value)} and not a list of item ids", exit_code=2)
    for method in ("to_list", "tolist", "to_pylist"):  # polars and pandas, numpy and torch, Arrow
        if callable(getattr(value, method, None)):
            elements: list[Any] = getattr(value, method)()
            return elements
    if not isinstance(value, Iterable):
        raise UserError(f"{where} is {_shown(value)} and not a list of item ids", exit_code=2)
    return list(value)


def _known(items: Sequence[Any], rows: Rows, where: str) -> tuple[list[int], list[_Unknown]]:
    """The rows of those that the catalogue has, and the others."""
    try:
        if set(map(type, items)) <= {str}:
            return [rows[item] for item in items], []
    except KeyError:
        pass
    row_numbers, missing = [], []
    for place, item in enumerate(items):
        at = f"{where}[{place}]" if where.endswith("]") else where
        row = rows.get(_id(item, at)) if not _is_missing(item) else None
        if row is None:
            missing.append(_Unknown(at, item))
        else:
            row_numbers.append(row)
    return row_numbers, missing


def _id(item: Any, where: str) -> str:
    """The id that an item is given by."""
    if isinstance(item, str):
        return str.__str__(item)
    if _is_number(item):
        if math.isfinite(item) and item == int(item):
            return str(int(item))
        raise UserError(f"{where} has {item}; item ids are texts, or whole numbers that stand for them", exit_code=2)
    if isinstance(item, bytes):
        raise UserError(f"{where} has the bytes {_shown(item)}; item ids are texts: decode them first", exit_code=2)
    raise UserError(f"{where} has {_shown(item)}; item ids are texts", exit_code=2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_item(value: Any) -> bool:
    """Whether it is what ids are, and nothing that holds some."""
    return isinstance(value, str | bytes | bool | np.bool_) or (_is_number(value) and not _is_missing(value))


def _is_missing(value: Any) -> bool:
    """None, NaN, and pandas' and NumPy's own words for nothing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def _lacks(unknown: _Unknown, rows: Rows, others: int, advice: str = "") -> UserError:
    """The catalogue lacks an item; ``others`` more were given, and it has none of them, where that is said."""
    where = "" if unknown.where == _ALONE else f"{unknown.where}: "
    nor = f", nor any of the {others:,} others" if others > 1 else ", nor the other one" if others else ""
    advice = f" ({advice})" if advice else ""
    line = f"{where}the catalogue has no item {_shown(unknown.item)}{nor}{_near(unknown.item, rows)}{advice}"
    return UserError(line, exit_code=2)


def _warn_left_out(missing: Sequence[_Unknown], given: int, of: str, rows: Rows) -> None:
    first, where = missing[0].item, missing[0].where
    place = f" in {where}" if where.endswith("]") else ""
    share = f"{len(missing):,} of the {given:,} items in {of}"
    warn(f"{share} are not in the catalogue and left out; the first: {_shown(first)}{place}{_near(first, rows)}")


def _near(item: Any, rows: Rows) -> str:
    """The ids that an unknown one may mean: one that is written otherwise, else the most alike."""
    if _is_missing(item):
        return ""
    text = str(item)
    same = _folded(text)
    alike = [item_id for item_id in rows if _folded(item_id) == same] if len(rows) <= _MOST_COMPARED else []
    if alike:
        return f"; did you mean {_shown(alike[0])}?"
    return nearest_ids(text, rows)


def _folded(text: str) -> str:
    """An id without what tables and programs change in passing: blanks, case, leading zeros, ``.0``."""
    plain = text.strip().casefold()
    return plain.removesuffix(".0").lstrip("0") or plain


def _shown(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    text = repr(str.__str__(plain)) if isinstance(plain, str) else repr(plain)
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
