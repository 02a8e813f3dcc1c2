"""What it costs that a run proves itself: `dig.recommend` and a cached `dig.train`, with verification and without.

Both sides are processes of their own that import the same modules, in turn in one run; on one of them everything that
hashes, stamps and compares is switched off. The ratio is the median of those of the rounds, since a machine's speed
wanders, of wall and of processor time. The share is measured from within: processor time in these functions over that
of the whole process.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

ROUNDS = int(os.environ.get("DIG_BENCH_ROUNDS", "9"))
_MODULES = """
import sys
import dig.engine.artifacts, dig.engine.catalogue, dig.engine.manifest, dig.engine.proof, dig.recommend, dig.train
"""
_OFF = """
from contextlib import nullcontext
from dig.engine.catalogue import Catalogue
from dig.engine.manifest import FileEntry, Manifest
from dig.engine.proof import RunProof
nothing = lambda *arguments, **named: None
Manifest.damage = Manifest.file_damage = Manifest.size_damage = nothing
RunProof.__init__ = nothing
for name in [name for name in vars(RunProof) if name.startswith("require")]:
    setattr(RunProof, name, nothing)
RunProof.checking = lambda *arguments: nullcontext()
FileEntry.of = classmethod(lambda kind, path: kind(size=0, sha256=""))
Catalogue.of = classmethod(lambda kind, ids: kind(0, ""))
Catalogue.problem = nothing
dig.engine.catalogue.check_catalogue = nothing
"""
_CLOCKED = """
import functools, threading, time
from dig.engine.catalogue import Catalogue
from dig.engine.manifest import FileEntry, Manifest
from dig.engine.proof import RunProof
spent, here = [0.0], threading.local()
def clocked(owner, name):
    method = vars(owner)[name]
    plain = getattr(method, "__func__", method)
    @functools.wraps(plain)
    def timed(*arguments, **named):
        if getattr(here, "within", False):
            return plain(*arguments, **named)
        here.within, begun = True, time.thread_time()
        try:
            return plain(*arguments, **named)
        finally:
            here.within = False
            spent[0] += time.thread_time() - begun
    setattr(owner, name, classmethod(timed) if isinstance(method, classmethod) else timed)
required = [name for name in vars(RunProof) if name.startswith("require")]
for owner, names in ((Manifest, ["damage", "file_damage", "size_damage"]), (FileEntry, ["of"]),
                     (Catalogue, ["of", "problem"]), (dig.engine.catalogue, ["check_catalogue"]),
                     (RunProof, ["__init__", "_hash", *required])):
    for name in names:
        clocked(owner, name)
"""
_SHARE = """
dig.{command}.main(sys.argv[1:])
print(spent[0] / time.process_time(), file=sys.stderr)
"""
_ASKED = "sys.exit(dig.{command}.main(sys.argv[1:]))"


def main() -> None:
    """Prints the table and, as the last line, JSON."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"DIG_HOME": str(home / "home"), "CUDA_VISIBLE_DEVICES": ""}
        train = ["experiment=quickstart", f"runs_dir={home / 'runs'}", "logging.progress=false", *sys.argv[1:]]
        _seconds("train", train, verified=True)
        run = home / "runs" / "quickstart" / "latest"
        asked = [f"run={run}", "items=[I0001,I0002]", "unseen=true"]
        cases = {
            "recommend, the policy": ("recommend", asked),
            "recommend, item_knn": ("recommend", [*asked, "stage=item_knn"]),
            "a cached run": ("train", train),
        }
        compared = {name: _compared(*case) for name, case in cases.items()}
        shares = {name: _share(*case) for name, case in cases.items()}
        size = sum(path.stat().st_size for path in run.resolve().rglob("*") if path.is_file())
    table = Table(title=f"with verification / without, medians of {ROUNDS} in turn; the run has {size / 1e6:.1f} MB")
    for heading in ("command", "wall s", "without", "ratio", "CPU s", "without", "ratio", "share of CPU"):
        table.add_column(heading, justify="right" if table.columns else "left")
    for name, case in compared.items():
        shown = (f"{case[kind][side]:.3f}" for kind in ("wall", "cpu") for side in ("with", "without", "ratio"))
        table.add_row(name, *shown, f"{100 * shares[name]:.1f} %")
    Console(width=120).print(table)
    figures = {}
    for name, case in compared.items():
        key = name.split(", ")[-1].replace(" ", "_")
        figures |= {f"{key}_{kind}_ratio": round(case[kind]["ratio"], 4) for kind in ("wall", "cpu")}
        figures[f"{key}_share"] = round(shares[name], 4)
    print(json.dumps(figures))


def _compared(command: str, arguments: list[str]) -> dict[str, dict[str, float]]:
    """Medians of both sides, who goes first in turn."""
    taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for verified in (True, False):
        _seconds(command, arguments, verified)  # files into the page cache, bytecode onto the disk
    for number in range(ROUNDS):
        for verified in (True, False) if number % 2 else (False, True):
            taken[verified].append(_seconds(command, arguments, verified))
    figures = {}
    for place, kind in enumerate(("wall", "cpu")):
        ours, theirs = ([each[place] for each in taken[side]] for side in (True, False))
        figures[kind] = {
            "with": statistics.median(ours),
            "without": statistics.median(theirs),
            "ratio": statistics.median(one / other for one, other in zip(ours, theirs, strict=True)),
        }
    return figures


def _share(command: str, arguments: list[str]) -> float:
    """The median of three runs."""
    code = _MODULES + _CLOCKED + _SHARE.format(command=command)
    ran = [
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)  # noqa: S603
        for _ in range(3)
    ]
    return statistics.median(float(each.stderr.splitlines()[-1]) for each in ran)


def _seconds(command: str, arguments: list[str], verified: bool) -> tuple[float, float]:
    """Wall and processor seconds of a command in a process of its own."""
    code = _MODULES + ("" if verified else _OFF) + _ASKED.format(command=command)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
