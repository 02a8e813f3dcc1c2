"""What it costs to start: imports, answers, a cached run and a whole quickstart, beside an earlier commit in one run.

``python benchmarks/start.py [--beside CHECKOUT] [key=value …]``: without a checkout one of commit c9b0586 is made, as a
git worktree in a temporary folder that is removed afterwards. Settings go to both sides' quickstart, such as
``data.shop.users=60`` to try it out. Processor seconds (user and system, child processes included) of processes of
their own, in turn; the ratio is theirs over ours, of medians. ``DIG_BENCH_ROUNDS`` (5) and ``DIG_BENCH_WHOLE_ROUNDS``
(1) say how often.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

COMMIT = "c9b0586"
ROUNDS = int(os.environ.get("DIG_BENCH_ROUNDS", "5"))
WHOLE_ROUNDS = int(os.environ.get("DIG_BENCH_WHOLE_ROUNDS", "1"))
_OURS = Path(__file__).resolve().parents[1]
_IMPORT = ["-c", "from dig import Recommender"]


class Side:
    """A checkout with a home and runs of its own.

    Args:
        checkout: the folder.
        place: where home and runs go.
        settings: of the quickstart.
    """

    def __init__(self, checkout: Path, place: Path, settings: list[str]) -> None:
        self.checkout, self.place = checkout, place
        self.train = ["-m", "dig.train", "experiment=quickstart", "logging.progress=false", *settings]

    def seconds(self, arguments: list[str], home: str = "home") -> float:
        """Processor seconds of Python with these arguments.

        Raises:
            SystemExit: it failed.
        """
        environment = os.environ | {
            "PYTHONPATH": str(self.checkout),
            "DIG_HOME": str(self.place / home),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",  # threads that wait for each other spin, which a busy machine makes seconds of
        }
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, *arguments], cwd=self.checkout, env=environment, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(
                f"{self.checkout}: python {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
            )
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def whole(self, home: str) -> float:
        """A quickstart from nothing."""
        return self.seconds([*self.train, f"runs_dir={self.place / home / 'runs'}"], home)

    def cached(self) -> list[str]:
        """The command of a run that finds all its artifacts."""
        return [*self.train, "stages=[grpo]", f"runs_dir={self.place / 'home0' / 'runs'}"]

    def recommend(self, stage: str) -> list[str]:
        """The command of an answer."""
        run = self.place / "home0" / "runs" / "quickstart" / "latest"
        return ["-m", "dig.recommend", f"run={run}", "items=[I0001,I0002]", f"stage={stage}", "json=true"]


def main() -> None:
    """Prints the table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help=f"a checkout to measure beside; default: one of {COMMIT} is made")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the quickstart, on both sides")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, _checkout(asked.beside, Path(folder)) as beside:
        sides = {
            "ours": Side(_OURS, Path(folder) / "ours", asked.settings),
            "theirs": Side(beside, Path(folder) / "theirs", asked.settings),
        }
        measured = {"quickstart": _in_turn(WHOLE_ROUNDS, {name: side.whole for name, side in sides.items()})}
        cases = {
            "import": dict.fromkeys(sides, _IMPORT),
            "recommend_item_knn": {name: side.recommend("item_knn") for name, side in sides.items()},
            "recommend_grpo": {name: side.recommend("grpo") for name, side in sides.items()},
            "cached": {name: side.cached() for name, side in sides.items()},
        }
        for case, commands in cases.items():
            runs = {name: _command(side, commands[name]) for name, side in sides.items()}
            for run in runs.values():
                run("warm")  # bytecode onto the disk, files into the page cache
            measured[case] = _in_turn(ROUNDS, runs)
    _show(measured)


def _command(side: Side, arguments: list[str]) -> Callable[[str], float]:
    """A command after the first quickstart, whichever turn it is."""
    return lambda _: side.seconds(arguments, "home0")


def _in_turn(rounds: int, runs: Mapping[str, Callable[[str], float]]) -> dict[str, list[float]]:
    """Seconds of each side, who goes first in turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in sorted(runs, reverse=bool(number % 2)):
            taken[name].append(runs[name](f"home{number}"))
    return taken


@contextmanager
def _checkout(given: Path | None, folder: Path) -> Iterator[Path]:
    """The checkout that was named, or one made for the time being."""
    if given is not None:
        if not (given / "dig" / "train.py").is_file():
            sys.exit(f"--beside {given}: not a checkout of this project")
        yield given.resolve()
        return
    made = folder / "checkout"
    git = ["git", "-C", str(_OURS), "worktree"]
    subprocess.run([*git, "add", "--detach", str(made), COMMIT], check=True, stdout=sys.stderr)  # noqa: S603 - git
    try:
        yield made
    finally:
        subprocess.run([*git, "remove", "--force", str(made)], check=True)  # noqa: S603 - git


_TITLES = {
    "import": "from dig import Recommender",
    "recommend_item_knn": "dig.recommend, item_knn",
    "recommend_grpo": "dig.recommend, the policy",
    "cached": "dig.train, all cached",
    "quickstart": "dig.train experiment=quickstart",
}


def _show(measured: dict[str, dict[str, list[float]]]) -> None:
    table = Table(title="processor seconds, medians of turns")
    for heading in ("what", "turns", "theirs", "ours", "theirs / ours"):
        table.add_column(heading, justify="right" if table.columns else "left")
    ratios = {}
    for case, title in _TITLES.items():
        theirs, ours = (statistics.median(measured[case][side]) for side in ("theirs", "ours"))
        ratios[f"{case}_ratio"] = round(theirs / ours, 3)
        table.add_row(title, str(len(measured[case]["ours"])), f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.2f}")
    Console(width=100).print(table)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
