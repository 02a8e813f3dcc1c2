"""``dig compare RUN RUN|FILE … [--flag VALUE]``: one table, with intervals and significance."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from dig.comparison.request import (
    FORMATS,
    GAINS,
    MISSING,
    PARTS,
    PROTOCOLS,
    SEEDS,
    SLICES,
    ComparisonRequest,
    checked_metrics,
)
from dig.config import UserError
from dig.config.arguments import Options, asks_help, number_from, one_of, path
from dig.engine.console import messages_to_stderr
from dig.engine.entry import exit_code

__all__ = ["main"]

_USAGE = "dig compare [NAME=]RUN[:STAGE] [NAME=]RUN[:STAGE] [NAME=]FILE … [--flag VALUE]"
_ABOUT = """\
RUN is a run's folder (runs/beauty/latest), or an experiment's name, which stands for its latest run. STAGE is one of
its recommenders (popularity, sasrec, sft, …); without it all are compared. One that is the same in several runs is
shown once. All must be tested on the same users. FILE holds the rankings of another program (.parquet, .csv, .tsv,
.jsonl, .json, .run, .trec): a user and a list of items per row, or a user, an item and its rank or score; they are
measured on the run's test users and targets. NAME is what a row is called in the table."""


def _options() -> Options:
    options = Options(_USAGE, _ABOUT, "Exit codes: 0 done, 1 the runs cannot be compared, 2 wrong arguments.")
    add = options.value
    add(
        "--metrics",
        "hr,ndcg",
        "metrics: hr, ndcg, mrr at all K that the runs have, or hr@10,ndcg@20 and so on",
        read=lambda _, value: checked_metrics(value),
        default=(),
    )
    add(
        "--slices",
        "one-hop",
        "the main NDCG also by slices: one-hop, target, history or none (default one-hop if known)",
        read=one_of((*SLICES, "none")),
    )
    add(
        "--part",
        "test",
        "valid: compare on the validation, to choose among settings before the test is looked at",
        read=one_of(PARTS),
        default="test",
    )
    add(
        "--seeds",
        "apart",
        "mean: a run brings those that differ from it only in the seed, and all are one row",
        read=one_of(SEEDS),
        default="apart",
    )
    add(
        "--missing",
        "miss",
        "users without a list in a FILE: miss (of its row), or drop (out of every row)",
        read=one_of(MISSING),
        default="miss",
    )
    add(
        "--gains",
        "main",
        "differences of all users, or of all and each slice and in percent: slices",
        read=one_of(GAINS),
        default="main",
    )
    add("--against", "ROW", "compare with this row of the table (default: the best in the last NDCG)")
    add(
        "--protocol",
        "both",
        "histories: unmasked, masked (their items left out of rankings), or both where runs have both",
        read=one_of(PROTOCOLS),
        default="both",
    )
    add("--format", "text", "text, markdown, latex (booktabs), csv (every number) or json", read=one_of(FORMATS))
    options.switch("--json", "one JSON object, as --format json")
    add("--out", "FILE", "write there; .txt, .md, .tex, .csv or .json choose the format", read=path)
    add("--draws", "10000", "resamplings of users for intervals and p-values", read=number_from(100), default=10_000)
    add("--seed", "0", "of the resamplings", read=number_from(0), default=0)
    add("--runs", "runs", "folder of the experiments' runs", read=path, default=Path("runs"))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 not comparable, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some, or name another --out", "interrupted")


def _run(arguments: list[str]) -> int:
    options = _options()
    if asks_help(arguments):
        return options.show_help()
    given, runs = options.read(arguments)
    if not runs:
        raise UserError("name at least one run: a folder such as runs/beauty/latest, or an experiment", exit_code=2)
    if given.json and given.format not in (None, "json"):
        raise UserError(f"--json and --format {given.format}: name one of them", exit_code=2)
    request = _request(runs, given)
    form = "json" if given.json else given.format or _format(given.out)
    from dig.comparison.contest import find_contests  # polars is imported here, after all cheap errors

    with messages_to_stderr() if form == "json" and given.out is None else nullcontext():
        contests = find_contests(request)
        from dig.comparison.render import write_comparisons  # and here torch, after those of the runs

        write_comparisons(contests, request, form, given.out)
    return 0


def _request(runs: Sequence[str], given: Namespace) -> ComparisonRequest:
    return ComparisonRequest(
        runs=tuple(runs),
        metrics=given.metrics,
        slices=given.slices,
        against=given.against,
        protocol=given.protocol,
        draws=given.draws,
        seed=given.seed,
        root=given.runs,
        gains=given.gains,
        seeds=given.seeds,
        part=given.part,
        missing=given.missing,
    )


def _format(out: Path | None) -> str:
    """The format that a file's name asks for."""
    if out is None:
        return "text"
    by_extension = {extension: name for name, extension in FORMATS.items()}
    if out.suffix.lower() not in by_extension:
        raise UserError(f"--out {out}: what format? name a file of {', '.join(by_extension)}, or use --format", 2)
    return by_extension[out.suffix.lower()]


if __name__ == "__main__":
    sys.exit(main())
