"""Your own table of items: what its columns mean is decided once for the table, and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datamodules.sources.base import Problems
from datamodules.sources.catalogue import Row, catalogue_frame, category_names, known_id, text_of
from datamodules.sources.cells import (
    Separators,
    decimal_mark,
    find_separators,
    is_missing,
    list_of,
    plain_words,
    price_of,
    quoted_list,
)
from datamodules.sources.csv_table import check_columns, csv_records
from datamodules.sources.lines import json_lines, not_utf8
from datamodules.sources.streams import blocks, count_records
from dig.config import UserError
from dig.config.schema import ITEM_COLUMNS, DataConfig

__all__ = ["ignored_columns", "read_items", "read_parquet"]

_NAMED = 20  # ignored columns that are named


@dataclass(frozen=True)
class _Decisions:
    """How the cells of a table are read.

    Attributes:
        separators: what stands between categories.
        mark: the mark before a price's fraction; None is decided by each price.
        titles: words for a missing value that are kept as a title, since they stand there once.
    """

    separators: Separators
    mark: str | None
    titles: frozenset[str]


def read_items(path: Path, config: DataConfig, problems: Problems) -> pl.DataFrame:
    """Reads the catalogue; of items with one id the first stays, and another that differs from it is a bad row.

    Raises:
        UserError: for a column that is missing, mapped ones included, or a damaged file.
    """
    given = config.columns_of("items")
    columns = {name: given.get(name, name) for name in ITEM_COLUMNS}
    further = [*given.values(), *config.text_columns]
    records: list[tuple[int, dict[str, Any]]] = []
    present: dict[str, None] = {}
    for line, record in _records(path, [columns["item_id"], columns["title"], *further], problems, config.encoding):
        if isinstance(record, dict):
            records.append((line, record))
            present.update(dict.fromkeys(record))
        else:
            problems.add(line, f"holds a {type(record).__name__}, not an item")
    if records and columns["item_id"] not in present:
        raise UserError(f"{path}: column {columns['item_id']} is missing (data.columns maps names)")
    if records:
        check_columns(path, list(present), further)
        ignored_columns(list(present), [*columns.values(), *config.text_columns], problems)
    used = {ours: theirs for ours, theirs in columns.items() if theirs in present}
    decisions = _decide([record for _, record in records], used, config, problems)
    return _rows(path, records, used, config.text_columns, decisions, problems)


def ignored_columns(present: Sequence[str], used: Sequence[str], problems: Problems) -> None:
    """Notes by name the columns that nothing reads."""
    extra = [repr(str(name)) for name in present if name not in used]
    more = f" and {len(extra) - _NAMED} more" if len(extra) > _NAMED else ""
    if extra:
        problems.note(f"column ignored: {', '.join(extra[:_NAMED])}{more}")


def read_parquet(path: Path, problems: Problems) -> pl.DataFrame:
    """The whole table; its rows are counted by what the file says of itself.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        problems.in_file += pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _records(path: Path, required: Sequence[str], problems: Problems, encoding: str) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".parquet":
        frame = read_parquet(path, problems)
        check_columns(path, frame.columns, required)
        problems.total += len(frame)
        yield from enumerate(frame.iter_rows(named=True), start=1)
    elif ".jsonl" in path.suffixes:
        for block in blocks(path, encoding):
            problems.in_file += count_records(block.data)
            yield from json_lines(block, problems)
    else:
        yield from csv_records(path, list(dict.fromkeys(required)), problems, encoding)


def _decide(
    records: Sequence[Mapping[str, Any]], columns: Mapping[str, str], config: DataConfig, problems: Problems
) -> _Decisions:
    """Looks at the whole table before a cell of it is read, and notes what was decided."""
    cells = {ours: [record.get(theirs) for record in records] for ours, theirs in columns.items()}
    categories = Counter(
        cell
        for cell in cells.get("categories", [])
        if isinstance(cell, str) and not is_missing(cell) and list_of(cell, bare=True) is None
    )
    words = {ours: Counter(filter(None, map(plain_words, values))) for ours, values in cells.items()}
    words.pop("item_id", None)
    titles = words.get("title", Counter())
    names = frozenset(word for word, count in titles.items() if count == 1 and not is_missing(word, sure=True))
    for name, counts in words.items():
        for word, count in counts.items():
            if name != "title" or word not in names:
                problems.note(f"{word!r} in the column {columns[name]!r}, taken for a missing value", count)
    for word in names:
        problems.note(f"title {word!r}, kept: it may be a name, since it stands there once")
    separators = find_separators(categories, config.category_separator)
    _note_separators(separators, categories, problems)
    prices = cells.get("price", [])
    mark = decimal_mark(prices)
    _note_prices(prices, mark, problems)
    return _Decisions(separators, mark, names)


def _note_separators(separators: Separators, cells: Counter[str], problems: Problems) -> None:
    split = sum(count for text, count in cells.items() if separators.splits(text))
    if split:
        names = " and ".join(repr(name) for name in separators.patterns)
        problems.note(f"cell of categories split at {names} (data.category_separator='' keeps cells whole)", split)
    for name, different in separators.doubtful.items():
        problems.note(
            f"category with {name!r} in its name, which is not taken for a separator "
            f"(data.category_separator='{name}' splits there)",
            different,
        )


def _note_prices(prices: Sequence[Any], mark: str | None, problems: Problems) -> None:
    texts = [price for price in prices if isinstance(price, str) and not is_missing(price)]
    unread = [text for text in texts if price_of(text, mark) is None]
    if unread:
        problems.note(f"price that says no amount, left out, for example {unread[0][:40]!r}", len(unread))
    doubtful = [text for text in texts if price_of(text, ".") != price_of(text, ",")]
    if doubtful:
        problems.note(
            f"price whose mark may be a decimal or thousands; {doubtful[0]!r} is read as "
            f"{price_of(doubtful[0], mark):g}",
            len(doubtful),
        )
    negative = sum(isinstance(price, (int, float)) and price < 0 for price in prices)
    if negative:
        problems.note("price below 0, left out", negative)


def _rows(
    path: Path,
    records: Sequence[tuple[int, dict[str, Any]]],
    columns: Mapping[str, str],
    text_columns: Sequence[str],
    decisions: _Decisions,
    problems: Problems,
) -> pl.DataFrame:
    rows: dict[str, Row] = {}
    lines: dict[str, int] = {}
    lists = 0
    for line, record in records:
        cells = {ours: record.get(theirs) for ours, theirs in columns.items()}
        listed = cells.get("categories")
        lists += isinstance(listed, str) and list_of(listed, bare=True) is not None
        try:
            row = _row(cells, {name: record.get(name) for name in text_columns}, decisions)
        except ValueError as error:
            reason = str(error)
            problems.add(
                line,
                f"no {columns['item_id']}"
                if reason == "no item id"
                else reason.replace("item id", columns["item_id"], 1),
            )
            continue
        if not_utf8(row[0]):
            problems.add(line, f"{columns['item_id']} is not UTF-8")
        elif row[0] not in rows:
            if any(not_utf8(text) for text in _texts(record.values())):
                problems.note_broken_text()
            rows[row[0]] = _with_safe_image(row, path.parent, problems)
            lines[row[0]] = line
        elif _with_safe_image(row, path.parent, Problems(path)) == rows[row[0]]:
            problems.note("item repeated word for word, one is kept")
            problems.left_out += 1
        else:
            problems.add(line, f"item {row[0]!r} stands in line {lines[row[0]]} already, with other words")
    if lists:
        problems.note("list in a cell of categories, written as text", lists)
    problems.delivered = len(rows)
    return catalogue_frame(list(rows.values()))


def _row(cells: Mapping[str, Any], further: Mapping[str, Any], decisions: _Decisions) -> Row:
    """A catalogue row of a table's cells.

    Raises:
        ValueError: without an id.
    """
    image = cells.get("image")
    listed = list_of(image)
    return (
        known_id(cells.get("item_id")),
        _text(cells.get("title"), decisions.titles),
        _text(cells.get("brand")),
        _categories(cells.get("categories"), decisions.separators),
        _described(_text(cells.get("description")), further),
        _price(cells.get("price"), decisions.mark),
        _text(image) if listed is None else next(filter(None, map(text_of, listed)), None),
    )


def _text(value: Any, kept: frozenset[str] = frozenset()) -> str | None:
    """A text; of texts that a cell lists, all of them, and ``[]`` is nothing."""
    if is_missing(value, sure=isinstance(value, str) and value.strip() in kept):
        return None
    listed = quoted_list(value)
    if listed is not value:
        return text_of([part for part in listed if not is_missing(part)])
    if isinstance(value, (list, tuple, dict)):
        return text_of(list_of(value))
    return text_of(value)


def _categories(value: Any, separators: Separators) -> list[str] | None:
    if is_missing(value):
        return None
    listed = list_of(value, bare=True)
    if listed is not None:
        return category_names([name for name in listed if not is_missing(name, sure=True)])
    return category_names(separators.split(value) if isinstance(value, str) else [value])


def _price(value: Any, mark: str | None) -> float | None:
    listed = list_of(value)
    return price_of(next(iter(listed), None) if listed is not None else value, mark)


def _described(description: str | None, further: Mapping[str, Any]) -> str | None:
    """The description, and further columns behind it: ``material: wool; year: 1999``."""
    said = []
    for name, value in further.items():
        listed = list_of(value)
        text = ", ".join(filter(None, map(text_of, listed))) if listed is not None else _text(value)
        said += [f"{name}: {text}"] if text else []
    if not said:
        return description
    end = "" if not description or description[-1] in ".!?…" else "."
    return " ".join(filter(None, [f"{description or ''}{end}", "; ".join(said)]))


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(value)


def _with_safe_image(row: Row, folder: Path, problems: Problems) -> Row:
    """Keeps an address on the web and a path inside the folder; item data are untrusted."""
    image = row[-1]
    if image is None or image.startswith(("http://", "https://")):
        return row
    if "://" in image:
        problems.note("image with an address that is neither http nor https, left out")
        return (*row[:-1], None)
    try:
        inside = (folder / image).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, a name too long, a null byte
        inside = False
    if inside:
        return row
    problems.note("image path that leaves the data folder, left out")
    return (*row[:-1], None)
