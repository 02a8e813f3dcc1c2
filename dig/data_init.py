"""``python -m dig.data init``: an experiment's YAML file from two tables, with every guess said."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from datamodules.problems import counted_problems, find_problems
from datamodules.sources.base import Problems
from datamodules.sources.csv_table import check_form, csv_records, read_header, separator_of
from datamodules.sources.guessing import Guess, TableGuess, guess_tables
from datamodules.sources.lines import json_lines, not_utf8
from datamodules.sources.own_items import read_parquet
from datamodules.sources.streams import COMPRESSIONS, blocks, read_whole
from dig.config import UserError, load_config
from dig.engine.artifacts import atomic_path
from dig.engine.console import say, silenced

__all__ = ["init"]

_ROWS = 50_000  # rows of a table that are looked at
_KINDS = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv", ".jsonl", ".parquet") for packed in COMPRESSIONS)


def init(files: Sequence[str], out: Path, overwrite: bool, dry_run: bool, encoding: str = "utf-8") -> int:
    """Writes the YAML file, or prints it; returns the exit code.

    Args:
        files: the two tables, in any order.
        out: the file to write.
        overwrite: whether it may be there already.
        dry_run: whether to print it only.
        encoding: of text tables.

    Raises:
        UserError: for a table that cannot be read, or a guess that cannot be made.
    """
    if out.exists() and not overwrite and not dry_run:
        raise UserError(f"{out} is there already; --overwrite replaces it, or name another --out")
    paths = [_table(name) for name in files]
    frames = [_sample(path, encoding) for path in paths]
    guess = guess_tables(frames, [path.name for path in paths])
    bought, catalogue = paths[guess.interactions_at], paths[1 - guess.interactions_at]
    if ".jsonl" in bought.suffixes:
        raise UserError(f"{bought}: the interactions must be .csv, .tsv or .parquet")
    text = _yaml(guess, bought, catalogue, encoding)
    if dry_run:
        print(text, end="")
        return 0
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _say_guess(bought.name, guess.interactions)
    _say_guess(catalogue.name, guess.items)
    with silenced():
        problems = find_problems(load_config(out).data)
    say(f"{out} is written: {counted_problems(problems)} in the data")
    say(f"next: python -m dig.data validate {out}, then python -m dig.train experiment={out}")
    return 0


def _table(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{name}: there is no such file", exit_code=2)
    if not path.name.endswith(_KINDS):
        raise UserError(
            f"{name}: tables end in .csv, .tsv, .parquet or (items) .jsonl, perhaps with .gz or .zst behind",
            exit_code=2,
        )
    return path.resolve()


def _sample(path: Path, encoding: str) -> pl.DataFrame:
    """The first rows as text; cells without content are null."""
    if path.suffix == ".parquet":
        rows: Iterator[dict[str, Any]] = read_parquet(path, Problems(path)).head(_ROWS).iter_rows(named=True)
    elif ".jsonl" in path.suffixes:
        lines = (record for block in blocks(path, encoding) for _, record in json_lines(block, Problems(path)))
        rows = (record for record in lines if isinstance(record, dict))
    else:
        _check_separator(path, encoding)
        rows = (record for _, record in csv_records(path, [], Problems(path), encoding))
    texts = [{str(name): _cell(value) for name, value in row.items()} for row in islice(rows, _ROWS)]
    if not texts:
        raise UserError(f"{path}: there are no rows")
    if any(not_utf8(text) for row in texts for text in (*row, *row.values()) if text):
        raise UserError(
            f"{path}: there are bytes that are not UTF-8; name the file's encoding, such as "
            "data.encoding=cp1252 (Windows) or latin-1"
        )
    columns = list(dict.fromkeys(name for row in texts for name in row))
    return pl.DataFrame({name: pl.Series([row.get(name) for row in texts], dtype=pl.String) for name in columns})


def _cell(value: Any) -> str | None:
    if value is None or value == "" or value != value:  # NaN
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_separator(path: Path, encoding: str) -> None:
    """Names the separator of a file that has another than its name says."""
    content = read_whole(path, encoding)
    header = read_header(path, content)
    if len(header) == 1:
        for other in ",;\t|":
            first, _, rest = header[0].partition(other)
            if other != separator_of(path) and rest:
                check_form(path, content, [first.strip('" ')])
    check_form(path, content, header[:1] if not _is_number(header[0]) else [])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml(guess: Guess, bought: Path, catalogue: Path, encoding: str) -> str:
    folder = Path(os.path.commonpath([bought.parent, catalogue.parent]))
    lines = [
        f"# Guessed by python -m dig.data init {bought.name} {catalogue.name}; look it over.",
        "extends: own",
        "data:",
        f"  path: {_scalar(str(folder))}",
        "  files:",
        f"    interactions: {_scalar(str(bought.relative_to(folder)))}",
        f"    items: {_scalar(str(catalogue.relative_to(folder)))}",
        *([f"  encoding: {_scalar(encoding)}"] if encoding != "utf-8" else []),
        "  columns:",
    ]
    for name, table in (("interactions", guess.interactions), ("items", guess.items)):
        lines.append(f"    {name}:")
        lines += [f"      {ours}: {_scalar(theirs)}  # {table.reasons[ours]}" for ours, theirs in table.columns.items()]
        if table.ignored:
            lines.append(f"      # ignored: {', '.join(map(_scalar, table.ignored))}")
    if guess.items.ignored:
        shown = ", ".join(map(_scalar, guess.items.ignored))
        lines.append(f"  # text_columns: [{shown}]  # takes these columns into the items' text")
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    return yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]


def _say_guess(name: str, table: TableGuess) -> None:
    say(f"{name}:")
    for ours, theirs in table.columns.items():
        say(f"  {ours:12} {theirs}  ({table.reasons[ours]})")
    if table.ignored:
        say(f"  ignored      {', '.join(table.ignored)}")
