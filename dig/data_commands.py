"""What ``python -m dig.data`` does: inspect, validate and convert, printed for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from rich.markup import escape
from rich.table import Table

from datamodules.fetching import item_pictures
from datamodules.leakage import guard
from datamodules.preparation import Prepared, prepare
from datamodules.problems import Inspection, Problem, counted_problems, find_problems, inspect_data
from datamodules.sources import read_source
from datamodules.sources.base import write_tables
from datamodules.sources.quickstart import write_shop
from dig.config import Config, UserError
from dig.config.schema import DataConfig
from dig.engine.artifacts import write_json
from dig.engine.console import console, printable, say, visible
from dig.engine.secrets import hidden
from dig.interests import read_user_interests
from dig.report.pictures import histogram_png, histogram_text

__all__ = [
    "find_refusals",
    "convert",
    "inspect",
    "validate",
]


_WORDS = ("title", "brand", "categories", "description")


def find_refusals(prepared: Prepared, config: Config) -> list[tuple[str, str]]:
    """Stage and reason of every refusal that the data of an experiment would meet after they were prepared.

    Args:
        prepared: the data.
        config: the experiment.
    """
    refusals = [*_catalogue(prepared, config), *_sequences(prepared)]
    for stage, check in (("pictures", _pictures), ("mine", _interests)):
        try:
            check(prepared, config)
        except UserError as error:
            refusals.append((stage, str(error)))
    return refusals


def _catalogue(prepared: Prepared, config: Config) -> Iterator[tuple[str, str]]:
    items = len(prepared.catalogue)
    if items == 1:
        yield "tokenize", "the catalogue has one item, so there is nothing to tell apart"
    size, rollouts = config.grpo.group_size, config.grpo.rollouts
    if rollouts != "sample" and size > items:
        yield (
            "grpo",
            (
                f"grpo.group_size={size} is more than the {items} items of the catalogue, and grpo.rollouts={rollouts} "
                "takes none twice: lower it, or take rollouts=sample"
            ),
        )
    fields = [name for name in config.embedding.fields if name in _WORDS]
    others = config.mining.captions or set(config.mining.miners) - {"lexical"}
    if not others and prepared.catalogue.select(pl.all_horizontal(pl.col(fields).is_null()).all()).item():
        yield "embed", f"none of the {items:,} items has any text in embedding.fields={config.embedding.fields}"


def _sequences(prepared: Prepared) -> Iterator[tuple[str, str]]:
    if not (prepared.sequences.train.lengths >= 2).any():
        yield "sft", "no user has two items in the training part, so there is no next item to learn"


def _pictures(prepared: Prepared, config: Config) -> None:
    if config.visual.model is not None and config.data.source != "quickstart":
        item_pictures(prepared.catalogue, Path(config.visual.folder or config.data.path or "").expanduser())


def _interests(prepared: Prepared, config: Config) -> None:
    if config.mining.user_interests is None:
        return
    path = Path(config.mining.user_interests).expanduser()
    if not path.is_file():
        raise UserError(f"mining.user_interests: there is no file {path}")
    sequences = prepared.sequences
    seen = read_user_interests(path, sequences.user_ids.to_list()).interests
    guard(path.name, seen, sequences, prepared.catalogue["item_id"], config.data.leaks)


_SAMPLE = 400  # characters of a sample record


def inspect(name: str, config: DataConfig, out: Path, training: Config | None = None, as_json: bool = False) -> int:
    """Prints what a data set looks like, and writes its histograms and numbers to ``out``; returns the exit code.

    Args:
        name: what the data are called.
        config: the data.
        out: a folder.
        training: the experiment that they are for.
        as_json: prints one JSON object instead, of what is otherwise printed and of the numbers.

    Raises:
        UserError: if the data cannot be prepared; everything that is wrong with them is printed before.
    """
    with _readable(config) as readable:
        problems = find_problems(readable, _refusals(training))
        try:
            tables = read_source(readable)
            prepared = prepare(tables, readable)
            inspection = inspect_data(tables, prepared)
        except UserError:
            _print_problems(problems)
            raise
    if not as_json:
        _print_facts(name, inspection)
    for histogram in inspection.histograms:
        lines = histogram_text(histogram.title, histogram.labels, histogram.counts, min(console.width, 100))
        if not as_json:
            console.print("\n".join(["", *map(escape, lines)]))
        file = out / f"{histogram.title.replace(' ', '_')}.png"
        histogram_png(f"{name}: {histogram.title}", histogram.unit, histogram.labels, histogram.counts, file)
    write_json(out / "statistics.json", prepared.statistics)
    if as_json:
        _print_json(
            {
                "name": name,
                "facts": {what: _plain(value) for what, value in inspection.facts.items()},
                "statistics": prepared.statistics,
            },
            problems,
        )
        return 0
    console.print()
    for title, text in inspection.samples:
        say(f"{printable(title, 60)}: {printable(text, _SAMPLE)}")
    console.print()
    for problem in problems[:8]:
        say(f"{problem.kind}: {printable(f'{problem.where}: {problem.text}', 200)}")
    say(f"{counted_problems(problems)} (python -m dig.data validate tells all); histograms in {out}")
    return 0


def validate(config: DataConfig, training: Config | None = None, as_json: bool = False) -> int:
    """Prints every problem of a data set, those of preparing it included; returns 1 if there is an error among them.

    Args:
        config: the data.
        training: the experiment that they are for; what its later stages would refuse is a problem, too.
        as_json: prints one JSON object instead.
    """
    with _readable(config) as readable:
        problems = find_problems(readable, _refusals(training))
    errors, _ = _counted(problems)
    if as_json:
        _print_json({}, problems)
        return 1 if errors else 0
    _print_problems(problems)
    say(counted_problems(problems))
    return 1 if errors else 0


def _refusals(training: Config | None) -> Callable[[Prepared], list[tuple[str, str]]] | None:
    return None if training is None else partial(find_refusals, config=training)


def _print_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        colour = "yellow" if problem.kind == "note" else "red"
        text = printable(f"{problem.where}: {problem.text}", 400)
        console.print(f"[{colour}]{problem.kind}[/{colour}]: {escape(text)}")


def _print_json(content: dict[str, Any], problems: Sequence[Problem]) -> None:
    errors, notes = _counted(problems)
    listed = [
        {"kind": problem.kind, "where": _plain(problem.where), "text": _plain(problem.text)} for problem in problems
    ]
    counts = {"errors": errors, "notes": notes, "problems": listed}
    print(json.dumps({**content, **counts}, indent=2, ensure_ascii=False))


def _plain(text: str) -> str:
    return visible(hidden(text))


def _counted(problems: Sequence[Problem]) -> tuple[int, int]:
    """Errors and notes."""
    kinds = [problem.kind for problem in problems]
    return kinds.count("error"), kinds.count("note")


def convert(config: DataConfig, out: Path, overwrite: bool) -> int:
    """Writes any source as interchange tables; returns the exit code.

    Raises:
        UserError: if tables are there already and ``overwrite`` is False.
    """
    tables_there = [path for pattern in ("interactions.*", "items.*") for path in out.glob(pattern)]
    if tables_there and not overwrite:
        raise UserError(f"{tables_there[0]} is there already; --overwrite replaces it, or name another --out")
    with _readable(config) as readable:
        tables = read_source(readable)
    if config.catalogue == "interacted":
        bought = tables.interactions["item_id"].unique()
        tables.catalogue = tables.catalogue.filter(tables.catalogue["item_id"].is_in(bought.implode()))
    for path in tables_there:
        path.unlink()
    write_tables(tables, out)
    users = tables.interactions["user_id"].n_unique()
    say(f"{users:,} users, {len(tables.catalogue):,} items, {len(tables.interactions):,} interactions in {out}")
    split = " data.split=published" if "part" in tables.interactions.columns else ""
    say(f"use them: python -m dig.train data.path={out}{split}")
    return 0


@contextmanager
def _readable(config: DataConfig) -> Generator[DataConfig]:
    """The configuration itself, or that of the generated shop's tables."""
    if config.source != "quickstart":
        yield config
        return
    with TemporaryDirectory() as name:
        write_shop(Path(name), config.shop.items, config.shop.users, config.shop.seed)
        yield replace(config, source="tables", path=name)


def _print_facts(name: str, found: Inspection) -> None:
    table = Table(title=name, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for what, value in found.facts.items():
        table.add_row(what, escape(printable(value, 300)))
    console.print(table)
