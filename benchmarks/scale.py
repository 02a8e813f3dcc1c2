"""What it costs to run many things at once, a part each: ``python benchmarks/scale.py [PART …]`` runs those alone.

sweep: a sweep of 12 codebook settings on the quickstart beside 12 separate ``python -m dig.train`` of the same settings
and stages, each from nothing with a cache of its own; once as `sweeps/codebook.yaml` says, which stops bad trials
early, and once with every trial to its end, which is the gain of shared stages alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[1]
EXPERIMENT = ["experiment=quickstart", "logging.progress=false"]
SIZES, LEVELS = (16, 32, 64, 128), (2, 3, 4)

Row = tuple[str, str]
"""What was measured, and the number with its unit."""


def main() -> None:
    """Measures the parts that were named, or all, and prints a table and, as the last line, JSON."""
    named = sys.argv[1:]
    unknown = [part for part in named if part not in PARTS]
    if unknown:
        sys.exit(f"{unknown[0]} is no part; there are {', '.join(PARTS)}")
    table = Table(title="scale")
    table.add_column("part")
    table.add_column("what")
    table.add_column("", justify="right")
    figures: dict[str, float] = {}
    for part in named or PARTS:
        rows, found = PARTS[part]()
        for what, number in rows:
            table.add_row(part, what, number)
        figures |= found
    Console().print(table)
    print(json.dumps(figures))


def sweep() -> tuple[list[Row], dict[str, float]]:
    """Seconds of a sweep over those of as many separate runs.

    ``DIG_BENCH_TRIALS`` takes fewer of the 12 settings, ``DIG_BENCH_OVERRIDES`` adds `key=value`, for a quick look.
    """
    points = [(size, levels) for size in SIZES for levels in LEVELS]
    points = points[: int(os.environ.get("DIG_BENCH_TRIALS", len(points)))]
    extra = [*EXPERIMENT, "stages=[sft]", *os.environ.get("DIG_BENCH_OVERRIDES", "").split()]
    text = (PROJECT / "sweeps" / "codebook.yaml").read_text(encoding="utf-8")
    before, rest = text.split("early_terminate:")
    swept = _swept(text, len(points), extra)
    whole = _swept(f"{before}command:{rest.partition('command:')[2]}", len(points), extra)
    apart = 0.0
    for size, levels in points:
        with tempfile.TemporaryDirectory() as folder:
            settings = [f"rqvae.codebook_size={size}", f"rqvae.levels={levels}"]
            apart += _seconds(Path(folder), "dig.train", *extra, *settings)
    rows = [(f"{len(points)} separate runs from nothing", f"{apart:.0f} s"),
            ("a sweep of the same settings", f"{swept:.0f} s, {swept / apart:.0%}"),
            ("with every trial to its end", f"{whole:.0f} s, {whole / apart:.0%}")]  # fmt: skip
    return rows, {"sweep_fraction": round(swept / apart, 3), "sweep_whole_fraction": round(whole / apart, 3)}


def _swept(text: str, count: int, arguments: list[str]) -> float:
    """Seconds of a sweep from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "codebook.yaml"
        file.write_text(text, encoding="utf-8")
        return _seconds(Path(folder), "dig.sweep", str(file), f"--trials={count}", *arguments)


def _seconds(folder: Path, module: str, *arguments: str) -> float:
    """How long a command takes in a folder with a cache of its own, its start included."""
    environment = os.environ | {"DIG_HOME": str(folder / "home"), "PYTHONPATH": str(PROJECT)}
    started = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments, f"runs_dir={folder / 'runs'}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603 - ourselves
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - started


PARTS: dict[str, Callable[[], tuple[list[Row], dict[str, float]]]] = {"sweep": sweep}
"""Each gives rows of the table and figures."""

if __name__ == "__main__":
    main()
