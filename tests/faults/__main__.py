"""``python -m faults [--only PART,PART] [--small] [--seed N] [--trials 3,17]``: the parts, their table and the page."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from faults.commands import preload
from faults.page import print_figures, write_page
from faults.verdicts import Figures
from faults.workshop import Workshop

PARTS = {
    "runs": "mutated_runs",
    "store": "mutated_store",
    "kills": "killed",
    "disk": "full_disk",
    "homes": "homes",
    "limits": "limits",
    "two": "two_at_once",
    "servers": "servers",
    "signals": "stopped",
    "lines": "command_lines",
}
"""Parts in the order of the page, and their modules."""

_WIDE = {"runs", "store"}
"""Parts that use both cores of a small machine by themselves; of the others two run side by side."""
_LONG = {"kills", "disk", "signals"}


def main() -> int:
    """Runs the parts; exit code 1 where one of them went wrong."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts of {','.join(PARTS)}")
    parser.add_argument("--small", action="store_true", help="a quick look; the page stays as it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", default="", help="numbers of trials of a part, to look at them again")
    parser.add_argument("--page", action="store_true", help="write the page after a quick look, too")
    parser.add_argument("--folder", type=Path, help="work there and leave the finished shops for the next look")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    folder = asked.folder.absolute() if asked.folder else Path(mkdtemp(prefix="dig-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(folder, asked.small, asked.seed, [int(number) for number in asked.trials.split(",") if number])
    written = threading.Lock()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the process that commands are forked from, which sets it for them all

    def run_part(part: str) -> Figures:
        figures = _run(part, workshop)
        if (asked.page or not asked.small) and not workshop.only:
            with written:  # after each part, so that a kill loses one
                write_page([figures], asked.seed, asked.small)
        return figures

    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # what was started is ended, and what was mounted given back
    try:
        preload()
        assert workshop.shop.run.is_dir()  # built before anything runs side by side
        results = [run_part(part) for part in parts if part in _WIDE]
        with ThreadPoolExecutor(2) as pool:
            lanes = ([part for part in parts if part in lane] for lane in (_LONG, set(PARTS) - _LONG - _WIDE))
            for figures in pool.map(lambda lane: [run_part(part) for part in lane], lanes):
                results += figures
    finally:
        shutil.rmtree(folder / "places" if asked.folder else folder, ignore_errors=True)
    return int(any(figures.bad for figures in results))


def _run(part: str, workshop: Workshop) -> Figures:
    """Runs a part, and prints its table as soon as it is there."""
    began = time.monotonic()
    figures: Figures = importlib.import_module(f"faults.{PARTS[part]}").run(workshop)
    figures.seconds = time.monotonic() - began
    print_figures(figures)
    return figures


if __name__ == "__main__":
    sys.exit(main())
