"""Everything that is wrong or odd with a data set, at once; its numbers, distributions and sample records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from datamodules.preparation import Prepared, prepare
from datamodules.sources import known_items, rated, read_files, source_files, tables
from datamodules.sources.base import Problems, Tables, id_difference
from datamodules.sources.cells import plain_words
from dig.config import UserError
from dig.config.schema import DataConfig
from dig.engine.console import silenced

__all__ = [
    "Problem",
    "counted_problems",
    "find_problems",
    "Histogram",
    "Inspection",
    "inspect_data",
]


_SHOWN = 20
_TOO_LARGE = 1e11  # as seconds this is the year 5138
_FUTURE = 4_102_444_800  # 2100, in seconds
_MARKUP = r"&(?:[a-zA-Z]+|#\d+);|</?[a-zA-Z][^<>]*>"


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        kind: ``error`` costs rows or makes the data unusable, ``note`` is worth knowing, ``refusal`` says that the
            errors of a file are too many.
        where: file and line, or the table.
        text: what is wrong.
    """

    kind: str
    where: str
    text: str


def counted_problems(problems: Sequence[Problem]) -> str:
    """How many there are, such as ``2 errors, 1 note``."""
    kinds = [problem.kind for problem in problems]
    counts = {kind: kinds.count(kind) for kind in ("error", "note")}
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())


def find_problems(
    config: DataConfig, further: Callable[[Prepared], list[tuple[str, str]]] | None = None
) -> list[Problem]:
    """All problems that reading, checking and preparing the data of a configuration meets; nothing is printed.

    Args:
        config: the data.
        further: finds what later stages would refuse of the prepared data, stage and reason.
    """
    lenient = replace(config, max_bad_fraction=1.0, unknown_items="keep", min_rating=None)
    with silenced():
        try:
            read = read_files(lenient)
        except UserError as error:
            return [Problem("error", str(config.path), text) for text in _each_file(lenient, str(error))]
        whole = known_items(read, lenient)
        problems = [*_rows(whole, config), *_unknown(whole, read, config), *_items(whole, config)]
        problems += _interactions(whole, config)
        prepared, refusals = _prepared(read, config)
        problems += [Problem("error", "prepare", text) for text in refusals if not _said(problems, text)]
        if further is not None and prepared is not None:
            problems += [Problem("error", stage, text) for stage, text in further(prepared)]
    return problems


def _each_file(config: DataConfig, first: str) -> list[str]:
    """The reason why data cannot be read, and what is wrong with the other table of one's own."""
    texts = [first]
    if config.source != "tables":
        return texts
    try:
        files = source_files(config)
    except UserError:
        return texts
    for table, read in (("interactions", tables.read_interactions), ("items", tables.read_catalogue)):
        try:
            read(files[table], config, Problems(files[table]))
        except UserError as error:
            texts += [str(error)] if str(error) not in texts else []
    return texts


def _prepared(read: Tables, config: DataConfig) -> tuple[Prepared | None, list[str]]:
    """The data as training would prepare them, and every reason why it would not.

    Where one key leaves nothing, the others are looked at without it.
    """
    refusals: list[str] = []
    try:
        read = rated(read, config)
    except UserError as error:
        refusals.append(str(error))
    unknown: Literal["drop", "keep"] = "drop" if config.unknown_items == "drop" else "keep"
    read = known_items(read, replace(config, unknown_items=unknown))
    if read.interactions.is_empty():
        if config.unknown_items == "drop" and not refusals:
            refusals.append("data.unknown_items=drop leaves no interaction")
        return None, refusals
    least = 3 if config.split == "leave-one-out" else 1
    without_core = replace(config, k_core=0)
    prepared = None
    for each in (config, without_core, replace(without_core, min_interactions=least)):
        try:
            made = prepare(read, each)
        except UserError as error:
            refusals += [str(error)] if str(error) not in refusals else []
        else:
            prepared = made if each is config else None
            break
    return prepared, refusals


def _said(found: list[Problem], text: str) -> bool:
    """Whether a refusal repeats a finding: that no user has enough interactions."""
    return text.startswith("no user has ") and any(each.text == "no user has enough interactions" for each in found)


def _rows(tables: Tables, config: DataConfig) -> Iterator[Problem]:
    for file in tables.problems:
        for line, reason in sorted(file.rows)[:_SHOWN]:
            yield Problem("error", f"{file.path.name}:{line}", reason)
        if len(file.rows) > _SHOWN:
            yield Problem("error", file.path.name, f"{len(file.rows) - _SHOWN:,} more rows cannot be read")
        share = len(file.rows) / max(file.total, 1)
        if share > config.max_bad_fraction:
            text = f"{len(file.rows):,} of {file.total:,} rows ({share:.1%}) cannot be read, more than "
            yield Problem("refusal", file.path.name, f"{text}data.max_bad_fraction={config.max_bad_fraction:.1%}")
        for description, count in file.notes.items():
            yield Problem("note", file.path.name, f"{count:,} × {description}")


def _unknown(tables: Tables, read: Tables, config: DataConfig) -> Iterator[Problem]:
    """Items that ``unknown_items=keep`` put at the end of the catalogue have nothing but an id."""
    fields = [name for name in tables.catalogue.columns if name != "item_id"]
    bare = tables.catalogue.filter(pl.all_horizontal(pl.col(fields).is_null()))["item_id"]
    if bare.is_empty():
        return
    all_listed = bare.is_in(read.catalogue["item_id"].implode()).all()
    kind = "error" if config.unknown_items == "refuse" and not all_listed else "note"
    unknown = bare.filter(~bare.is_in(read.catalogue["item_id"].implode()))
    difference = id_difference(unknown, read.catalogue["item_id"]) if len(unknown) else None
    yield Problem(
        kind,
        "items",
        f"{len(bare):,} items have interactions but no record, or a record without any text, "
        f"for example {bare[0]!r}{f'; {difference}' if difference else ''}",
    )


def _items(tables: Tables, config: DataConfig) -> Iterator[Problem]:
    catalogue = tables.catalogue
    untitled = catalogue["title"].null_count()
    if untitled:
        yield Problem("note", "items", f"{untitled:,} of {len(catalogue):,} items have no title")
    markup = catalogue.filter(pl.col("title").str.contains(_MARKUP))["item_id"]
    if len(markup):
        yield Problem(
            "note", "items", f"{len(markup):,} titles hold markup or HTML entities, for example of {markup[0]!r}"
        )
    titled = catalogue.drop_nulls("title")
    duplicates = len(titled) - titled.select("title", "brand").n_unique() if len(titled) else 0
    if duplicates:
        yield Problem(
            "note", "items", f"{duplicates:,} items have title and brand of another; only their ids tell them apart"
        )
    unseen = len(catalogue) - tables.interactions["item_id"].n_unique()
    if unseen:
        yield Problem("note", "items", f"{unseen:,} items have no interaction")
    folder = Path(config.path or "")
    local = [image for image in catalogue["image"].drop_nulls() if "://" not in image]
    missing = [image for image in local if not (folder / image).is_file()]
    if missing:
        yield Problem("error", "items", f"{len(missing):,} pictures are not there, for example {missing[0]!r}")


def _interactions(tables: Tables, config: DataConfig) -> Iterator[Problem]:
    frame = tables.interactions
    if frame.is_empty():
        yield Problem("error", "interactions", "there is no interaction that can be read")
        return
    for name in ("user_id", "item_id"):
        for word, count in frame[name].value_counts(sort=True).iter_rows():
            if count > 1 and plain_words(word):
                yield Problem(
                    "note",
                    "interactions",
                    f"{word!r} is the {name} of {count:,} rows; where it stands for a missing id, leave the cell empty",
                )
    users = frame["user_id"].unique(maintain_order=True)
    bare = users.str.strip_chars().str.replace(r"^(\d+)\.0$", "$1")
    variants = users.filter((bare != users) & bare.is_in(users.implode()))
    if len(variants):
        text = (
            f"{len(variants):,} users' ids are those of others but for blanks or a trailing '.0', "
            f"for example {variants[0]!r}"
        )
        yield Problem("note", "interactions", f"{text}; they are users of their own")
    times = frame["timestamp"]
    if float(times.max() or 0) > _TOO_LARGE:
        count = int((times > _TOO_LARGE).sum())
        text = f"{count:,} timestamps are too large for seconds; they are in no unit that is known"
        yield Problem("error", "interactions", text)
    elif int((times > _FUTURE).sum()):
        yield Problem("error", "interactions", f"{int((times > _FUTURE).sum()):,} timestamps lie after the year 2100")
    lengths = frame.group_by("user_id").len()["len"]
    short = int((lengths < config.min_interactions).sum())
    if short:
        text = f"{short:,} of {len(lengths):,} users have fewer than {config.min_interactions} interactions and will be"
        yield Problem("note", "interactions", f"{text} left out (data.min_interactions)")
    if short == len(lengths):
        yield Problem("error", "interactions", "no user has enough interactions")
    repeated = len(frame) - frame.select("user_id", "item_id").n_unique()
    if repeated:
        yield Problem("note", "interactions", f"{repeated:,} repeat an item of the same user (data.duplicates)")
    time = "ticks" if "ticks" in frame.columns else "timestamp"
    tied = len(frame) - frame.select("user_id", time).n_unique()
    if tied:
        text = f"{tied:,} share their time with another of the user; row order decides"
        yield Problem("note", "interactions", text)


_YEAR_2000, _YEAR_2100 = 946_684_800, 4_102_444_800  # seconds
_SAMPLES = 3
_SHOWN_HISTORY = 8


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins.

    Attributes:
        title: what is counted.
        unit: what the values are.
        labels: (bins,) of each bin.
        counts: (bins,).
    """

    title: str
    unit: str
    labels: list[str]
    counts: list[int]


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect_data` found.

    Attributes:
        facts: numbers by name, for people.
        histograms: distributions.
        samples: records as they came, by kind.
    """

    facts: dict[str, str]
    histograms: list[Histogram]
    samples: list[tuple[str, str]]


def inspect_data(tables: Tables, prepared: Prepared) -> Inspection:
    """Describes tables as read, and what preparation makes of them."""
    sequences = prepared.sequences
    histograms = [
        _binned("interactions a user", "interactions", sequences.rows.lengths),
        _binned(
            "interactions an item", "interactions", np.bincount(sequences.items, minlength=len(prepared.catalogue))
        ),
        _binned("title length", "characters", prepared.catalogue["title"].str.len_chars().fill_null(0).to_numpy()),
    ]
    times = tables.interactions["timestamp"].to_numpy()
    if _clock(tables) == "calendar":
        histograms.insert(2, _by_year(times))
    return Inspection(_facts(tables, prepared), histograms, _samples(prepared))


def _facts(tables: Tables, prepared: Prepared) -> dict[str, str]:
    stats, catalogue = prepared.statistics, prepared.catalogue
    users, lengths = stats["users"], prepared.sequences.rows.lengths
    bought = np.bincount(prepared.sequences.items, minlength=len(catalogue))
    facts = {
        "users": f"{users:,}",
        "items": f"{stats['items']:,}",
        "interactions": f"{stats['interactions']:,} of {stats['rows_read'] + stats['bad_rows']:,} rows",
        "interactions a user": f"mean {lengths.mean():.2f}, median {np.median(lengths):.0f}, most {lengths.max():,}",
        "interactions an item": f"mean {bought.mean():.2f}, median {np.median(bought):.0f}, most {bought.max():,}",
        "density": f"{stats['density']:.3%}",
        "split": f"{stats['split']}: {stats['examples']['valid']:,} validations, {stats['examples']['test']:,} tests",
        "times": _time_range(tables),
        "same-day last pairs": _share(stats["same_day_last_pairs"], users, "of users"),
        "last pairs at one moment": _share(stats["tied_last_pairs"], users, "of users; row order decides"),
        "ties in all": _share(stats["tied_pairs"], stats["interactions"] - users, "of neighbours"),
        "repeated items": f"{stats['duplicates']['repeated']:,} (policy: {stats['duplicates']['policy']})",
        "rows not read": f"{stats['bad_rows']:,}",
        "users left out": f"{stats['short_users'] + stats['k_core']['users']:,}",
        "items without interactions": f"{int((bought == 0).sum()):,}",
    }
    for column in ("title", "brand", "categories", "description", "price", "image"):
        facts[f"items with {column}"] = _share(len(catalogue) - catalogue[column].null_count(), len(catalogue), "")
    return facts | _slice_facts(prepared.slices)


def _slice_facts(slices: pl.DataFrame) -> dict[str, str]:
    tests = slices.filter(pl.col("part") == "test")
    facts = {}
    for column, name in (("target_slice", "tests by target"), ("history_slice", "tests by history")):
        counts: Mapping[str, int] = dict(tests[column].value_counts(sort=True).iter_rows())
        facts[name] = ", ".join(f"{value} {count:,}" for value, count in counts.items())
    return facts


def _share(part: int, whole: int, of: str) -> str:
    return f"{part:,} ({part / max(whole, 1):.0%}{f' {of}' if of else ''})"


def _clock(tables: Tables) -> str:
    """What timestamps count: ``calendar`` seconds, seconds ``relative`` to each user's start, or ``other``."""
    times = tables.interactions["timestamp"]
    firsts = tables.interactions.group_by("user_id").agg(pl.col("timestamp").min())["timestamp"]
    if times.is_between(_YEAR_2000 / 2, _YEAR_2100).all():
        return "calendar"
    return "relative" if len(firsts) > 1 and firsts.n_unique() == 1 else "other"


def _time_range(tables: Tables) -> str:
    times = tables.interactions["timestamp"]
    low, high = float(times.min() or 0), float(times.max() or 0)
    kind = _clock(tables)
    if kind == "calendar":
        days = [datetime.fromtimestamp(moment, UTC).date().isoformat() for moment in (low, high)]
        return f"{days[0]} to {days[1]}"
    if kind == "relative":
        return f"relative to each user's first interaction, up to {high:g}; no calendar, so no global-time split"
    return f"{low:g} to {high:g}, no calendar seconds"


def _binned(title: str, unit: str, values: np.ndarray) -> Histogram:
    """Bins that double in width, since shops have long tails."""
    edges = [0, 1, 2, 3, 5, 9]
    while edges[-1] <= (values.max() if len(values) else 0):
        edges.append((edges[-1] - 1) * 2 + 1)
    counts = np.histogram(values, bins=[*edges, np.inf])[0]
    bins = []
    for low, high, count in zip(edges, [*edges[1:], edges[-1] + 1], counts.tolist(), strict=True):
        bins.append((str(low) if high - low == 1 else f"{low}-{high - 1}", count))
    while bins and not bins[-1][1]:
        bins.pop()
    while bins and not bins[0][1]:
        bins.pop(0)
    return Histogram(title, unit, [label for label, _ in bins], [count for _, count in bins])


def _by_year(times: np.ndarray) -> Histogram:
    years = pl.from_epoch(pl.Series(times).cast(pl.Int64), time_unit="s").dt.year()
    counts: dict[int, int] = dict(years.value_counts().iter_rows())
    span = range(min(counts), max(counts) + 1)
    return Histogram(
        "interactions a year", "year", [str(year) for year in span], [counts.get(year, 0) for year in span]
    )


def _samples(prepared: Prepared) -> list[tuple[str, str]]:
    """An item, a history, a held-out target; the same ones every time."""
    catalogue, sequences = prepared.catalogue, prepared.sequences
    tests = sequences.held_out("test")
    samples = []
    for place in np.linspace(0, len(tests) - 1, _SAMPLES).astype(int).tolist():
        history = [_named(catalogue, int(row)) for row in tests.histories[place][-_SHOWN_HISTORY:]]
        user, target = sequences.user_ids[int(tests.users[place])], _named(catalogue, int(tests.targets[place]))
        samples.append((f"user {user}", " → ".join([*history, f"test: {target}"])))
    for row in np.linspace(0, len(catalogue) - 1, _SAMPLES).astype(int).tolist():
        item: dict[str, Any] = catalogue.row(row, named=True)
        text = "; ".join(f"{key}: {value}" for key, value in item.items() if value is not None and key != "item_id")
        samples.append((f"item {item['item_id']}", text))
    return samples


def _named(catalogue: pl.DataFrame, row: int) -> str:
    title, item_id = catalogue["title"][row], catalogue["item_id"][row]
    return f"{item_id} ({title[:40]})" if title else str(item_id)
