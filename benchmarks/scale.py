"""What it costs to run many things at once, a part each: ``python benchmarks/scale.py [PART …]`` runs those alone.

sweep: a sweep of 12 codebook settings on the quickstart beside 12 separate ``python -m dig.train`` of the same settings
and stages, each from nothing with a cache of its own; once as `sweeps/codebook.yaml` says, which stops bad trials
early, and once with every trial to its end, which is the gain of shared stages alone.

ranks: samples a second of SFT and of GRPO on two processes, a core each (DDP over gloo), over those of one process on
one core, with the same batch a rank; a Qwen2 architecture of about 5 M parameters on the quickstart's shop.

checkpoints: share of SFT's and GRPO's training time that checkpoints take at the default policy, of the quickstart.

start: a run of the quickstart of which everything is cached, from the command to its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

CORES = sorted(os.sched_getaffinity(0))[:2]
FIVE_MILLION = [
    "backbone.config.hidden_size=256",
    "backbone.config.intermediate_size=1024",
    "backbone.config.num_hidden_layers=5",
    "backbone.config.num_attention_heads=4",
]
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
        sys.exit(f"{unknown[0]} is not a part; there are {', '.join(PARTS)}")
    table = Table(title="scale")
    table.add_column("part")
    table.add_column("what")
    table.add_column("", justify="right")
    figures: dict[str, float] = {}
    for part in named or PARTS:
        rows, measured = PARTS[part]()
        for what, number in rows:
            table.add_row(part, what, number)
        figures |= measured
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
    rows = [
        (f"{len(points)} separate runs from nothing", f"{apart:.0f} s"),
        ("a sweep of the same settings", f"{swept:.0f} s, {swept / apart:.0%}"),
        ("with every trial to its end", f"{whole:.0f} s, {whole / apart:.0%}"),
    ]
    return rows, {"sweep_fraction": round(swept / apart, 3), "sweep_whole_fraction": round(whole / apart, 3)}


def ranks() -> tuple[list[Row], dict[str, float]]:
    """Samples a second on two processes over those on one."""
    short = [
        "sft.max_steps=60",
        "sft.batch_size=64",
        "grpo.max_steps=16",
        "grpo.prompts_per_step=32",
        "grpo.validate_every=100",
    ]
    fixed = [*EXPERIMENT, *FIVE_MILLION, *short, "trainer.accelerator=cpu", "stages=[grpo]"]
    with tempfile.TemporaryDirectory() as folder:
        _seconds(Path(folder), "dig.train", *EXPERIMENT, "stages=[tokenize]")
        rates = {count: _rates(Path(folder), count, fixed) for count in (1, 2)}
    ratios = {stage: rates[2][stage] / rates[1][stage] for stage in ("sft", "grpo")}
    rows = []
    for stage, ratio in ratios.items():
        rows.append((f"{stage}, samples/s of one process", f"{rates[1][stage]:.0f}"))
        rows.append((f"{stage}, samples/s of two", f"{rates[2][stage]:.0f}, {ratio:.2f} times"))
    return rows, {
        "two_process_ratio": round(min(ratios.values()), 2),
        "two_process_ratio_sft": round(ratios["sft"], 2),
        "two_process_ratio_grpo": round(ratios["grpo"], 2),
    }


def _rates(folder: Path, count: int, arguments: list[str]) -> dict[str, float]:
    """Samples a second of each training, a core a process."""
    before = set(folder.glob("home/artifacts/*/*/training.json"))
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[:count])  # what is started inherits it
    try:
        _seconds(folder, "dig.train", *arguments, f"trainer.devices={count}")
    finally:
        os.sched_setaffinity(0, own)
    new = set(folder.glob("home/artifacts/*/*/training.json")) - before
    return {path.parent.parent.name: json.loads(path.read_text())["samples_per_second"] for path in new}


def checkpoints() -> tuple[list[Row], dict[str, float]]:
    """Share of the time in saves, of the time in batches; measured within one process."""
    from callbacks.monitoring import Throughput
    from callbacks.resume import ResumeCheckpoint
    from dig import load_config, run_experiment

    spent = {"saves": 0.0, "batches": 0.0, "count": 0.0}
    save, begin, end = ResumeCheckpoint.save_now, Throughput.on_train_batch_start, Throughput.on_train_batch_end

    def timed_save(self: ResumeCheckpoint, *arguments: Any) -> bool:
        started = time.perf_counter()
        try:
            return save(self, *arguments)
        finally:
            spent["saves"] += time.perf_counter() - started
            spent["count"] += 1

    def timed_begin(self: Throughput, *arguments: Any) -> None:
        begin(self, *arguments)
        self.bench_started = time.perf_counter()  # type: ignore[attr-defined]

    def timed_end(self: Throughput, *arguments: Any) -> None:
        spent["batches"] += time.perf_counter() - self.bench_started  # type: ignore[attr-defined]
        end(self, *arguments)

    ResumeCheckpoint.save_now = timed_save  # type: ignore[method-assign]
    Throughput.on_train_batch_start = timed_begin  # type: ignore[method-assign]
    Throughput.on_train_batch_end = timed_end  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, _home(Path(folder)):
        config = load_config("quickstart", [*EXPERIMENT[1:], "stages=[grpo]", f"runs_dir={folder}/runs"])
        run_experiment(config)
    share = spent["saves"] / (spent["saves"] + spent["batches"])
    rows = [
        ("training, s", f"{spent['batches']:.1f}"),
        (f"{spent['count']:.0f} saves, s", f"{spent['saves']:.2f}"),
        ("share", f"{share:.1%}"),
    ]
    return rows, {"checkpoint_fraction": round(share, 4)}


def start() -> tuple[list[Row], dict[str, float]]:
    """Seconds of a run whose stages are all cached, and of the same up to SFT, without a report."""
    with tempfile.TemporaryDirectory() as folder:
        first = _seconds(Path(folder), "dig.train", *EXPERIMENT)
        again = _seconds(Path(folder), "dig.train", *EXPERIMENT)
        without = _seconds(Path(folder), "dig.train", *EXPERIMENT, "stages=[grpo]")
    rows = [
        ("from nothing", f"{first:.1f} s"),
        ("all cached, the report written again", f"{again:.1f} s"),
        ("all cached, up to grpo", f"{without:.1f} s"),
    ]
    return rows, {"cached_start_seconds": round(without, 1), "cached_run_seconds": round(again, 1)}


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("DIG_HOME")
    os.environ["DIG_HOME"] = str(folder / "home")
    try:
        yield
    finally:
        if before is None:
            del os.environ["DIG_HOME"]
        else:
            os.environ["DIG_HOME"] = before


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


PARTS: dict[str, Callable[[], tuple[list[Row], dict[str, float]]]] = {
    "sweep": sweep,
    "ranks": ranks,
    "checkpoints": checkpoints,
    "start": start,
}
"""Each gives rows of the table and figures."""

if __name__ == "__main__":
    main()
