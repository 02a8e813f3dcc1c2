"""Bad command lines over all entry points: each is answered by one line and exit code 2, or 1, in seconds."""

from __future__ import annotations

import itertools
import random
import re
import shlex
from pathlib import Path

from faults.commands import Command, battery
from faults.commands import run as run_command
from faults.verdicts import ACCEPTED, EQUAL, HUNG, Ending, Figures, verdict
from faults.workshop import Workshop

__all__ = ["command_lines", "run"]

_TIMES, _SMALL = 100, 60
_LIMIT = 20.0
"""Seconds for one, on average; the imports are done."""
_NUMBERS = (
    "seed",
    "rqvae.epochs",
    "rqvae.codebook_size",
    "rqvae.levels",
    "sft.batch_size",
    "sft.epochs",
    "grpo.group_size",
    "grpo.prompts_per_step",
    "evaluation.num_beams",
    "prompt.max_history",
    "data.shop.items",
    "data.min_count",
    "slurm.grace",
    "trainer.checkpoint_every",
)
_NO_NUMBER = (
    "many",
    "[]",
    "{a: 1}",
    "[1, 2]",
    "1e400",
    "-3",
    ".nan",
    "0x",
    "[[[[",
    "{",
    "'",
    "&a [*a]",
    "!!int x",
    "!!python/name:os.system",
    "2020-01-01",
    "\x1b[31m",
    "1" * 5000,
    "${oc.env:HOME}",
    "{{}}",
    "[" * 3000,
    "\udcff",
)
_BYTES, _LONG = "\udcff", "x" * 5000
_KEYS = (
    "rqvae.epoch",
    "sft",
    "gpro.group_size",
    "data.pth",
    "rqvae..epochs",
    ".epochs",
    "rqvae.",
    "seed.x",
    "",
    "é",
    "trainer.accelerator.x",
    "extends",
    "sft.lora.rank.x",
    "-seed",
    "data[0]",
    "a" * 4000,
    "\n",
    "Seed",
    _BYTES,
)
_OTHERS = (
    "trainer.accelerator=quantum",
    "trainer.precision=64.5",
    "stages=[bake]",
    "stages=3",
    "baselines=[itemknn]",
    "data.source=heaven",
    "evaluation.ks=[0]",
    "evaluation.ks=5",
    "evaluation.ks=[a]",
    "run_id=a/../b",
    "run_id=.",
    "runs_dir=",
    "mining.models.m=3",
    "mining.miners=[gpt]",
    "logging.wandb.mode=loud",
    "backbone.config=7",
    "slurm.nodes=0",
    "sft.tasks={x: 1}",
    f"data.path={_BYTES}",
)
_FILES = (
    "missing.yaml",
    "empty",
    "binary.yaml",
    "folder.yaml",
    "deep.yaml",
    "list.yaml",
    "loop.yaml",
    "latin.yaml",
    "link.yaml",
    "aliases.yaml",
    "unknown.yaml",
    "/dev/null",
    "/proc/self/mem",
    _LONG,
    "no_such",
)
_TABLES = (
    "missing.csv",
    "empty.csv",
    "binary.csv",
    "binary.parquet",
    "folder.csv",
    "other.csv",
    "/dev/null",
    "link.csv",
    "ragged.csv",
)
_RANKINGS = ("binary.json", "deep.json", "empty.json", "binary.run", "other.jsonl")
_TEXT = Path(__file__).with_suffix(".txt")


def run(workshop: Workshop) -> Figures:
    """Gives the command lines, several in one fork each; those that a fork cannot show are given alone, too."""
    figures = Figures("lines", "bad command lines over all entry points")
    place = _files(workshop.place("lines"))
    (place / "run").symlink_to(workshop.shop.run)
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    lines = command_lines(rng, _SMALL if workshop.small else _TIMES)
    left = lines
    while left:
        endings = battery(left[:10], place, place / "home", _LIMIT)
        for ending in endings:
            figures.count(f"`{ending.command[0]}`", _judged(ending), ending)
        left = left[len(endings) :]
    for module in sorted({line[0] for line in lines}):
        ending = run_command((module, "--no-such-flag"), place, place / "home", limit=30, fresh=True)
        figures.count("an unknown flag, in an interpreter of its own", _judged(ending), ending, module)
    return figures


def command_lines(rng: random.Random, count: int) -> list[Command]:
    """So many bad command lines, drawn from the lists above, of every entry point alike."""
    by_module: dict[str, list[Command]] = {}
    for line in _templates():
        by_module.setdefault(line[0], []).append(line)
    modules = sorted(by_module)
    return [rng.choice(by_module[modules[number % len(modules)]]) for number in range(count)]


def _judged(ending: Ending) -> str:
    what = verdict(ending)
    if what == EQUAL:
        return ACCEPTED
    return HUNG if ending.seconds > _LIMIT else what


def _templates() -> list[Command]:
    """Every bad command line that may be drawn: a line of the text for each of the lists that it names."""
    lists = {
        "NUMBER": _NUMBERS,
        "NOT_A_NUMBER": _NO_NUMBER,
        "KEY": _KEYS,
        "OTHER": _OTHERS,
        "FILE": _FILES,
        "LOOK": ("inspect", "validate", "convert"),
        "TABLE": _TABLES,
        "RANKINGS": _RANKINGS,
        "BYTES": (_BYTES,),
        "LONG": (_LONG,),
    }
    lines = []
    for line in _TEXT.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            words = [re.split(r"@([A-Z_]+)", word) for word in shlex.split(line)]
            names = [name for word in words for name in word[1::2]]
            for values in itertools.product(*(lists[name] for name in names)):
                drawn = iter(values)
                lines.append(
                    tuple(
                        "".join(next(drawn) if place % 2 else part for place, part in enumerate(word)) for word in words
                    )
                )
    return lines


def _files(place: Path) -> Path:
    """Files that cannot be what they are named for."""
    for name in ("empty", "folder.yaml", "folder.csv", "tables", "docs/results"):
        (place / name).mkdir(parents=True)
    bad = {"binary": bytes(range(256)) * 20, "empty": b"", "deep": b"[" * 100_000, "latin": b"titel: Caf\xe9"}
    for ending in ("yaml", "csv", "parquet", "json", "run"):
        for name, content in bad.items():
            (place / f"{name}.{ending}").write_bytes(content)
    aliases = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    texts = {
        "list.yaml": "- a\n- b\n",
        "loop.yaml": "extends: loop.yaml\n",
        "unknown.yaml": "extends: quickstart\nrqvea: {epochs: 3}\n",
        "aliases.yaml": "\n".join(["a0: &a0 [x, x]", *aliases]),
        "sweep.yaml": "program: dig.train\nmethod: grid\nmetric: {name: valid/ndcg@10, goal: maximize}\n"
        "parameters: {rqvae.levels: {values: [2, 3]}}\n",
        "other.csv": "a;b\n1;2\n",
        "ragged.csv": 'user_id,item_id\nU1,I1,x\nU2,"I2\n',
        "other.jsonl": '{"a": 1}\nnot JSON\n',
        "tables/items.csv": "item_id,title\n",
    }
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    for name in ("link.yaml", "link.csv"):
        (place / name).symlink_to(name)
    return place
