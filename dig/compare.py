"""``python -m dig.compare RUN RUN|FILE … [--flag VALUE]``: one table, with intervals and significance."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dig.comparison.request import (
    FORMATS,
    GAINS,
    MISSING,
    PARTS,
    PROTOCOLS,
    SEEDS,
    SLICES,
    Request,
    checked_choice,
    checked_metrics,
)
from dig.config import UserError, unknown_flag
from dig.engine.entry import exit_code
from dig.engine.secrets import shown_override

__all__ = ["main"]

_HELP = """python -m dig.compare [NAME=]RUN[:STAGE] [NAME=]RUN[:STAGE] [NAME=]FILE … [--flag VALUE]

RUN is a run's folder (runs/beauty/latest), or an experiment's name, which stands for its latest run. STAGE is one of
its recommenders (popularity, sasrec, sft, …); without it all are compared. One that is the same in several runs is
shown once. All must be tested on the same users. FILE holds the rankings of another program (.parquet, .csv, .tsv,
.jsonl, .json, .run, .trec): a user and a list of items per row, or a user, an item and its rank or score; they are
measured on the run's test users and targets. NAME is what a row is called in the table.

  --metrics hr,ndcg        metrics: hr, ndcg, mrr at all K that the runs have, or hr@10,ndcg@20 and so on
  --slices one-hop         the main NDCG also by slices: one-hop, target, history or none (default one-hop if known)
  --part test              valid: compare on the validation, to choose among settings before the test is looked at
  --seeds apart            mean: a run brings those that differ from it in the seed alone, and all are one row
  --missing miss           users without a list in a FILE: miss (of its row), or drop (out of every row)
  --gains main             differences of all users, or of all and each slice and in percent: slices
  --against ROW            compare with this row of the table (default: the best in the last NDCG)
  --protocol both          histories: unmasked, masked (their items left out of rankings), or both where runs have both
  --format text            text, markdown, latex (booktabs) or csv (every number)
  --out FILE               write there; .txt, .md, .tex or .csv choose the format
  --draws 10000 --seed 0   resamplings of users for intervals and p-values
  --runs runs              folder of the experiments' runs

Exit codes: 0 done, 1 the runs cannot be compared, 2 wrong arguments."""
_FLAGS = (
    "--metrics",
    "--slices",
    "--part",
    "--seeds",
    "--gains",
    "--against",
    "--protocol",
    "--format",
    "--out",
    "--missing",
    "--draws",
    "--seed",
    "--runs",
)

_DIGITS = 18


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 not comparable, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some, or name another --out", "interrupted")


def _run(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_HELP)
        return 0
    runs, flags = _parse(arguments)
    request = _request(runs, flags)
    out = Path(flags["--out"]).expanduser() if "--out" in flags else None
    form = _format(flags.get("--format"), out)
    from dig.comparison.contest import find_contests  # polars is imported here, after all cheap errors

    contests = find_contests(request)
    from dig.comparison.render import write_comparisons  # and here torch, after those of the runs

    write_comparisons(contests, request, form, out)
    return 0


def _parse(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Runs, and values of flags."""
    runs: list[str] = []
    flags: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            if equals and f"--{name}" in _FLAGS:
                raise UserError(f"{shown_override(argument)}: did you mean --{shown_override(argument)}?", exit_code=2)
            runs.append(argument)
            continue
        if name not in _FLAGS:
            raise unknown_flag(argument, (*_FLAGS, "--help"))
        flags[name] = value if equals else next(waiting, "")
        if not flags[name]:
            raise UserError(f"{name} needs a value", exit_code=2)
    if not runs:
        raise UserError("name at least one run: a folder such as runs/beauty/latest, or an experiment", exit_code=2)
    return runs, flags


def _request(runs: Sequence[str], flags: dict[str, str]) -> Request:
    return Request(
        runs=tuple(runs),
        metrics=checked_metrics(flags["--metrics"]) if "--metrics" in flags else (),
        slices=_choice(flags, "--slices", (*SLICES, "none")),
        against=flags.get("--against"),
        protocol=_choice(flags, "--protocol", PROTOCOLS) or "both",
        draws=_number(flags, "--draws", 10_000, least=100),
        seed=_number(flags, "--seed", 0, least=0),
        root=Path(flags.get("--runs", "runs")).expanduser(),
        gains=_choice(flags, "--gains", GAINS) or "main",
        seeds=_choice(flags, "--seeds", SEEDS) or "apart",
        part=_choice(flags, "--part", tuple(PARTS)) or "test",
        missing=_choice(flags, "--missing", MISSING) or "miss",
    )


def _choice(flags: dict[str, str], name: str, choices: Sequence[str]) -> str | None:
    return checked_choice(name, flags.get(name), choices)


def _number(flags: dict[str, str], name: str, default: int, least: int) -> int:
    value = flags.get(name, str(default))
    if not value.isdecimal() or len(value) > _DIGITS or int(value) < least:
        raise UserError(f"{name} {value[:40]} must be a whole number of at least {least}", exit_code=2)
    return int(value)


def _format(asked: str | None, out: Path | None) -> str:
    if asked is not None:
        return _choice({"--format": asked}, "--format", tuple(FORMATS)) or "text"
    if out is None:
        return "text"
    by_extension = {extension: name for name, extension in FORMATS.items()}
    if out.suffix.lower() not in by_extension:
        raise UserError(f"--out {out}: what format? name a file of {', '.join(by_extension)}, or use --format", 2)
    return by_extension[out.suffix.lower()]


if __name__ == "__main__":
    sys.exit(main())
