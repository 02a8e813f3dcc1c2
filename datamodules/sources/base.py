"""The two tables that every source ends as, the problems of reading them, their files and their values."""

from __future__ import annotations

import errno
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from datamodules.sources.streams import COMPRESSIONS
from dig.config import UserError, nearest
from dig.config.schema import DataConfig
from dig.engine.artifacts import atomic_path
from dig.engine.console import warn

__all__ = [
    "CATALOGUE_SCHEMA",
    "INTERACTION_SCHEMA",
    "Problems",
    "Tables",
    "category_of",
    "data_folder",
    "find",
    "find_one",
    "named_file",
    "Ratings",
    "id_difference",
    "read_ratings",
    "write_tables",
]


CATALOGUE_SCHEMA = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
    "price": pl.Float64,
    "image": pl.String,
}
# Beside these, interactions may have ``ticks`` (Int64): the same times as whole numbers, where seconds do not tell all
# apart (see :mod:`datamodules.sources.times`).
INTERACTION_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
_SHOWN_PROBLEMS = 5
_FEW_BROKEN, _BROKEN_SHARE = 4, 0.1  # records with bytes of another encoding above which it is the file's


@dataclass
class Tables:
    """What a source delivers.

    Attributes:
        interactions: ``INTERACTION_SCHEMA``, timestamps in seconds, rows in file order; perhaps ``rating`` (Float64),
            ``ticks`` (Int64) where seconds do not tell all times apart, and where the publisher fixed a split ``part``
            (UInt8): 0 train, 1 valid, 2 test.
        catalogue: one row per item, columns of ``CATALOGUE_SCHEMA``, in file order.
        problems: what could not be read, a record per file.
    """

    interactions: pl.DataFrame
    catalogue: pl.DataFrame
    problems: list[Problems] = field(default_factory=list)

    @property
    def bad_rows(self) -> int:
        """Rows that were left out because they could not be read."""
        return sum(len(problems.rows) for problems in self.problems)


@dataclass
class Problems:
    """What became of every row of one file: bad rows, and oddities that cost no row.

    Attributes:
        path: the file.
        total: rows that the reader met, bad ones included.
        rows: line number and reason of each row that is left out.
        notes: what was mended or ignored without losing a row, by its description.
        in_file: rows in the file, counted without the reader.
        delivered: rows that the reader handed on; None until it has.
        left_out: rows that are good and repeat another.
        broken_texts: records with bytes that are not UTF-8.
    """

    path: Path
    total: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    in_file: int = 0
    delivered: int | None = None
    left_out: int = 0
    broken_texts: int = 0

    def add(self, line: int, reason: str) -> None:
        """Records a row that is left out."""
        self.rows.append((line, reason))

    def note(self, description: str, count: int = 1) -> None:
        """Counts something that was mended or ignored."""
        self.notes[description] = self.notes.get(description, 0) + count

    def note_broken_text(self) -> None:
        """Counts a record whose text has bytes that are not UTF-8."""
        self.broken_texts += 1
        self.note("item with bytes that are not UTF-8; they are replaced by U+FFFD (see data.encoding)")

    def settle(self, max_fraction: float) -> None:
        """Says what was wrong, once every row is accounted for.

        Raises:
            UserError: when rows are missing, when more than ``max_fraction`` of them cannot be read, or when the file
                is in another encoding.
        """
        self._account()
        if self.broken_texts > _FEW_BROKEN and self.broken_texts > _BROKEN_SHARE * self.total:
            raise UserError(
                f"{self.path}: {self.broken_texts:,} of {self.total:,} rows have bytes that are not UTF-8; "
                "name the file's encoding, such as data.encoding=cp1252 (Windows) or latin-1"
            )
        for description, count in self.notes.items():
            warn(f"{self.path.name}: {count:,} × {description}")
        if not self.rows:
            return
        self.rows.sort()
        for line, reason in self.rows[:_SHOWN_PROBLEMS]:
            warn(f"{self.path.name}:{line}: {reason}; the row is left out")
        count, share = len(self.rows), len(self.rows) / max(self.total, 1)
        if share > max_fraction:
            line, reason = self.rows[0]
            raise UserError(
                f"{self.path}: {count} of {self.total} rows ({share:.1%}) cannot be read, more than "
                f"data.max_bad_fraction={max_fraction:.1%}; the first is line {line}: {reason}"
            )
        warn(f"{self.path.name}: {count} of {self.total} rows ({share:.2%}) could not be read and were left out")

    def _account(self) -> None:
        if self.delivered is None:
            raise RuntimeError(f"{self.path}: its reader has not said how many rows it delivers")
        if self.in_file != self.delivered + len(self.rows) + self.left_out:
            raise UserError(
                f"{self.path}: {self.in_file:,} rows are in the file, but {self.delivered:,} were read, "
                f"{len(self.rows):,} are bad and {self.left_out:,} left out; nothing is used of a file whose rows are "
                "not all accounted for: please report this, it is a defect of the reader"
            )


# Finding a source's files in a folder.


def data_folder(config: DataConfig) -> Path:
    """``data.path``.

    Raises:
        UserError: if it is not a folder.
    """
    folder = Path(config.path or "").expanduser()
    try:
        folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
            raise UserError(f"data.path={folder}: symbolic links run in a circle") from None
    if not folder.is_dir():
        what = "no folder but a file" if folder.is_file() else "no such folder"
        raise UserError(
            f"data.path={folder}: {what}; set it, or DIG_DATA_ROOT above it, or let data.download=true "
            "fetch published data"
        )
    return folder


def find(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of the names that are there, plain or compressed.

    Raises:
        UserError: if a file is a symbolic link that runs in a circle.
    """
    paths = []
    for name in names:
        for suffix in COMPRESSIONS:
            path = folder / f"{name}{suffix}"
            try:
                path.stat()
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise UserError(f"{path}: symbolic links run in a circle") from None
                continue
            if path.is_file():
                paths.append(path)
    return paths


def find_one(folder: Path, what: str, names: Sequence[str]) -> Path:
    """The one file of a table.

    Raises:
        UserError: if there is none (with the nearest file that is there), or more than one.
    """
    paths = find(folder, names)
    if not paths:
        looked = ", ".join(names)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        hint = next((near for name in names if (near := nearest(name, files))), None)
        advice = f"; did you mean {hint}?" if hint else f"; it has: {', '.join(files[:8]) or 'nothing'}"
        raise UserError(f"{folder} has no {what}; looked for {looked}, plain, .gz or .zst{advice}")
    if len(paths) > 1:
        raise UserError(f"{folder} has {paths[0].name} and {paths[1].name}; keep one of them")
    return paths[0]


def named_file(folder: Path, key: str, name: str, names: Sequence[str]) -> Path:
    """The file that a key names, inside the folder.

    Raises:
        UserError: if it is not there (with the nearest that is), lies elsewhere, or is of a kind that cannot be read.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{key}={name}: the file must lie in data.path={folder}", exit_code=2)
    if not path.is_file():
        files = sorted(file.name for file in folder.iterdir() if file.is_file())
        hint = nearest(name, files)
        advice = f"did you mean {hint}?" if hint else f"it has: {', '.join(files[:8]) or 'nothing'}"
        raise UserError(f"{key}={name}: there is no such file in {folder}; {advice}")
    endings = [f"{Path(each).suffix}{packed}" for each in names for packed in COMPRESSIONS]
    if not path.name.endswith(tuple(endings)):
        kinds = ", ".join(dict.fromkeys(Path(each).suffix for each in names))
        raise UserError(f"{key}={name}: its name must end in {kinds}, perhaps with .gz or .zst behind it", exit_code=2)
    return path


def category_of(folder: Path, config: DataConfig, suffix: str) -> str:
    """``data.category``, or the only one whose metadata file ``meta_<category><suffix>`` lies there.

    Raises:
        UserError: if none or several do.
    """
    if config.category:
        return config.category
    categories = set()
    for compression in COMPRESSIONS:
        ending = f"{suffix}{compression}"
        categories |= {path.name.removeprefix("meta_").removesuffix(ending) for path in folder.glob(f"meta_*{ending}")}
    if len(categories) == 1:
        return categories.pop()
    if not categories:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} has no metadata file meta_<category>{suffix}, plain, .gz or .zst; it has: {names}")
    raise UserError(f"{folder} has several categories: {', '.join(sorted(categories))}; name one with data.category=…")


# Ratings in any spelling to numbers, and ids that two tables spell in two ways.


_ABSENT = ("", "na", "n/a", "nan", "null", "none", "-", "\\n", "<na>")
"""What programs write, in lower case, for a rating that nobody gave."""
_DECIMAL_COMMA = r"^([+-]?\d+),(\d{1,2})$"


@dataclass(frozen=True)
class Ratings:
    """A column of ratings.

    Attributes:
        values: (rows,) Float64; null where there is none.
        unreadable: rows whose rating is there and is not a number.
        notes: what was mended, with its count.
    """

    values: pl.Series
    unreadable: list[int] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)


def read_ratings(column: pl.Series) -> Ratings:
    """Numbers as they are, with a point or a comma; a word that says that there is none is noted."""
    if column.dtype.is_numeric():
        values = column.cast(pl.Float64)
        return Ratings(values.set(values.is_nan(), None), values.is_infinite().arg_true().to_list())
    text = column.cast(pl.String)
    values = _finite(text)
    if values.null_count() == text.null_count():
        return Ratings(values)
    text = text.str.strip_chars()
    comma = values.is_null() & text.str.contains(_DECIMAL_COMMA).fill_null(value=False)
    values = _finite(text.str.replace(_DECIMAL_COMMA, "$1.$2"))
    absent = text.str.to_lowercase().is_in(_ABSENT)
    said = absent & (text != "") & values.is_null()
    notes = {"rating with a decimal comma": comma.sum(), "rating that says that there is none": said.sum()}
    unreadable = values.is_null() & text.is_not_null() & ~absent
    return Ratings(
        values, unreadable.arg_true().to_list(), {text: int(count) for text, count in notes.items() if count}
    )


def id_difference(unknown: pl.Series, known: pl.Series) -> str | None:
    """How ids that the catalogue lacks are spelt there, if one change makes most of them known.

    Args:
        unknown: ids of interactions, each once.
        known: ids of the catalogue.
    """
    ways = {
        "a trailing '.0'": r"\.0+$",
        "leading zeros": r"^0+",
        "blanks": r"\s+",
        "upper and lower case": "",
    }
    for way, pattern in ways.items():
        ours, theirs = _without(unknown, pattern), _without(known, pattern)
        same = ours.is_in(theirs.implode())
        if same.sum() * 2 > len(unknown):
            place = int(same.arg_true()[0])
            other = known.filter(theirs == ours[place])[0]
            return f"ids differ by {way}: the interactions have {unknown[place]!r}, the items {other!r}"
    return None


def _without(ids: pl.Series, pattern: str) -> pl.Series:
    return ids.str.replace_all(pattern, "") if pattern else ids.str.to_lowercase()


def _finite(text: pl.Series) -> pl.Series:
    values = text.cast(pl.Float64, strict=False)
    if values.is_finite().all():  # but for nulls
        return values
    return values.set(~values.is_finite().fill_null(value=False), None)


# Writes the interchange format.


_PARTS = ("train", "valid", "test")


def write_tables(tables: Tables, folder: Path) -> None:
    """Writes ``interactions.csv.gz`` and ``items.jsonl.gz``, atomically; equal tables give equal bytes.

    Whole seconds are written without a fraction, times that seconds do not tell apart as the whole numbers that do,
    fields that an item lacks are left out, and a publisher's split is the column ``part`` (train, valid, test), which
    ``data.split=published`` reads back.
    """
    names = [
        name for name in ("user_id", "item_id", "timestamp", "rating", "part") if name in tables.interactions.columns
    ]
    interactions = tables.interactions
    if "ticks" in interactions.columns:
        interactions = interactions.with_columns(pl.col("ticks").alias("timestamp"))
    interactions = interactions.select(names)
    whole = [name for name in ("timestamp", "rating") if name in names and (interactions[name] % 1 == 0).all()]
    if "part" in names:
        interactions = interactions.with_columns(pl.col("part").replace_strict(dict(enumerate(_PARTS))))
    content = interactions.with_columns(pl.col(whole).cast(pl.Int64)).write_csv().encode()
    lines = (
        json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False)
        for row in tables.catalogue.iter_rows(named=True)
    )
    _write(folder / "items.jsonl.gz", "".join(f"{line}\n" for line in lines).encode())
    _write(folder / "interactions.csv.gz", content)


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=6, mtime=0))
