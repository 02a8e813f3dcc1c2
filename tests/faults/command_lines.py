"""Bad command lines over all entry points: each is answered by one line and exit code 2, or 1, in seconds."""

from __future__ import annotations

import os
import random
from pathlib import Path

from faults.commands import Command, battery, run as run_command
from faults.verdicts import ACCEPTED, EQUAL, HUNG, Ending, Figures, verdict
from faults.workshop import Workshop

__all__ = ["command_lines", "run"]

_TIMES, _SMALL = 100, 60
_LIMIT = 20.0
"""Seconds for one, on average; the imports are done."""
_NUMBERS = ("seed", "rqvae.epochs", "rqvae.codebook_size", "rqvae.levels", "sft.batch_size", "sft.epochs",
            "grpo.group_size", "grpo.prompts_per_step", "evaluation.num_beams", "prompt.max_history",
            "data.shop.items", "data.min_count", "slurm.grace", "trainer.checkpoint_every")  # fmt: skip
_NO_NUMBER = ("many", "[]", "{a: 1}", "[1, 2]", "1e400", "-3", ".nan", "0x", "[[[[", "{", "'", "&a [*a]", "!!int x",
              "!!python/name:os.system", "2020-01-01", "\x1b[31m", "1" * 5000, "${oc.env:HOME}", "{{}}", "[" * 3000,
              "\udcff")  # fmt: skip
_KEYS = ("rqvae.epoch", "sft", "gpro.group_size", "data.pth", "rqvae..epochs", ".epochs", "rqvae.", "seed.x", "", "Seed",
         "trainer.accelerator.x", "extends", "sft.lora.rank.x", "-seed", "data[0]", "a" * 4000, "\n", "é")  # fmt: skip
_OTHERS = ("trainer.accelerator=quantum", "trainer.precision=64.5", "stages=[bake]", "stages=3", "baselines=[itemknn]",
           "data.source=heaven", "data.path=\udcff", f"data.path={'x' * 5000}", "evaluation.ks=[0]", "evaluation.ks=5",
           "evaluation.ks=[a]", "run_id=a/../b", "run_id=.", "runs_dir=", "mining.models.m=3", "mining.miners=[gpt]",
           "logging.wandb.mode=loud", "backbone.config=7", "backbone.pretrained=/nowhere", "slurm.nodes=0",
           "sft.tasks={x: 1}")  # fmt: skip
_FILES = ("missing.yaml", "empty", "binary.yaml", "folder.yaml", "deep.yaml", "list.yaml", "loop.yaml", "latin.yaml",
          "link.yaml", "aliases.yaml", "unknown.yaml", "/dev/null", "/proc/self/mem", "x" * 5000, "", "no_such")  # fmt: skip
_TABLES = ("missing.csv", "empty.csv", "binary.csv", "binary.parquet", "folder.csv", "other.csv", "/dev/null", "link.csv",
           "ragged.csv")  # fmt: skip


def run(workshop: Workshop) -> Figures:
    """Gives the command lines, several in one fork each; those that a fork cannot show are given alone, too."""
    figures = Figures("lines", "bad command lines over all entry points")
    place = _files(workshop.place("lines"))
    os.symlink(workshop.shop.run, place / "run")
    rng = random.Random(workshop.seed)  # noqa: S311 - no secret
    lines = command_lines(rng, _SMALL if workshop.small else _TIMES)
    while lines:
        endings = battery(lines[:10], place, place / "home", _LIMIT)
        for ending in endings:
            figures.count(f"`{ending.command[0]}`", _judged(ending), ending)
        lines = lines[len(endings) :]
    for module in sorted({module for module, _ in _templates()}):
        ending = run_command((module, "--no-such-flag"), place, place / "home", limit=30, fresh=True)
        figures.count("an unknown flag, in an interpreter of its own", _judged(ending), ending, module)
    return figures


def command_lines(rng: random.Random, count: int) -> list[Command]:
    """So many bad command lines, drawn from the lists above, of every entry point alike."""
    templates = _templates()
    modules = sorted({module for module, _ in templates})
    return [(modules[number % len(modules)], *rng.choice(
        [arguments for module, arguments in templates if module == modules[number % len(modules)]]
    )) for number in range(count)]  # fmt: skip


def _judged(ending: Ending) -> str:
    what = verdict(ending)
    if what == EQUAL:
        return ACCEPTED
    return HUNG if ending.seconds > _LIMIT else what


def _templates() -> list[tuple[str, tuple[str, ...]]]:
    """Every bad command line that may be drawn."""
    settings = [f"{key}={value}" for key in _NUMBERS for value in _NO_NUMBER]
    settings += [f"{key}=1" for key in _KEYS] + list(_OTHERS)
    lines: list[tuple[str, tuple[str, ...]]] = []
    lines += [("dig.train", ("experiment=quickstart", setting, "--dry-run")) for setting in settings]
    lines += [("dig.train", (f"experiment={file}",)) for file in _FILES for _ in range(8)]
    lines += [("dig.train", ("experiment=quickstart", flag)) for flag in ("--dryrun", "--seed=3", "-x", "---") * 5]
    lines += [("dig.data", arguments) for command in ("inspect", "validate", "convert") for arguments in (
        (command,), (command, "no_such"), (command, "empty"), (command, "one", "two"), (command, "quickstart", "--uot"),
        (command, "quickstart", "data.shop.items=few"), (command, "quickstart", "rqvae.epochs=3"), (command, "deep.yaml"),
        (command, "folder.yaml"), (command, "tables"), (command, "\udcff"), (command, "x" * 5000), (command, "quickstart", "--out"),
    )]  # fmt: skip
    lines += [("dig.data", ("init", one, two)) for one in _TABLES for two in _TABLES[:4]]
    lines += [("dig.data", arguments) for arguments in (("bake",), ("init", "one.csv"), ("convert", "quickstart"))]
    lines += [("dig.recommend", arguments) for arguments in (
        ("run=run",), ("user=U1",), ("run=nowhere", "user=U1"), ("run=run", "user=nobody"), ("run=run", "items=[nothing]"),
        ("run=run", "items=[I0001"), ("run=run", "items=[]"), ("run=run", "items=['I0001]"), ("run=run", "user=U1", "k=0"),
        ("run=run", "items=[I0001]", "k=many"), ("run=run", "items=[I0001]", "stage=tiger"), ("run=run", "users=all"),
        ("run=run", "users=all", "out=x.txt"), ("run=run", "users=all", "out=folder.csv"),
        ("run=empty", "items=[I0001]"), ("run=/dev/null", "items=[I0001]"), ("run=run", "items=[I0001]", "unseen=maybe"),
        ("run=run", "items=[I0001]", "json=2"), ("run=run", "user=U1", "items=[I0001]"), ("run=\0", "user=U1"),
        ("run=" + "x" * 5000, "user=U1"), ("run=run", "users=/proc/self/mem", "out=x.csv"), ("run=", "user=U1"),
        *(("run=run", "items=[I0001]", f"stock={table}") for table in _TABLES),
        *(("run=run", f"users={table}", "out=x.csv") for table in _TABLES),
    )]  # fmt: skip
    lines += [("dig.compare", arguments) for arguments in (
        ("nowhere",), ("run", "--metrics", "hr@x"), ("run", "--metrics", "auc"), ("run", "--slices", "x"), ("run", "--draws", "1"),
        ("run", "--draws", "1e9"), ("run", "--seed", "-1"), ("run", "--format", "pdf"), ("run", "--out", "x.docx"),
        ("run", "--out", "folder.csv"), ("run", "--against", "nobody"), ("run:tiger",), ("=run",),
        ("a=",), ("run", "--part", "train"), ("run", "--against"), ("run", "against=sft"), ("empty",), ("/dev/null",), ("\udcff",),
        ("x" * 5000,), *(("run", table) for table in (*_TABLES, "binary.json", "deep.json", "binary.run", "other.jsonl")),
    )]  # fmt: skip
    lines += [("dig.sweep", arguments) for arguments in (
        *((file,) for file in _FILES if file), ("sweep.yaml", "rqvae.levels=many"), ("sweep.yaml", "--workers", "0"),
        ("sweep.yaml", "--trials", "x"), ("sweep.yaml", "--workers"), ("sweep.yaml", "--go"), ("sweep.yaml", "experiment=no_such"),
        ("--status",), ("sweep.yaml", "sweep.yaml"), ("sweep.yaml", "no.key=1"),
    )]  # fmt: skip
    lines += [("dig.cache", arguments) for arguments in (
        ("empty",), ("prune", "--older-than", "x"), ("prune", "--older-than"), ("prune", "--keep", "-1"), ("prune", "--keep", "1.5"),
        ("list", "--yes"), ("prune", "--al"), ("prune", "x"), ("--yes",), ("prune", "--older-than", "nan"), ("prune", "--keep=1e99"),
        ("\udcff",),
    )]  # fmt: skip
    lines += [("dig.results", arguments) for arguments in (
        ("add",), ("add", "nowhere"), ("add", "run", "run", "--as", "x"), ("add", "run", "--as"), ("add-benchmark",), ("ad", "run"),
        ("add-benchmark", "missing.json"), ("build", "x"), ("build", "--chek"), ("add", "empty"), ("add", "/dev/null"),
        ("add-benchmark", "binary.json"), ("add-benchmark", "a", "b"), ("add", "x" * 5000), ("build", "--as", "y"),
    )]  # fmt: skip
    lines += [("dig.interests", arguments) for arguments in (
        ("plan",), ("plan", "experiment=no_such"), ("plan", "x", "experiment=quickstart"), ("show", "experiment=quickstart"),
        ("export", "experiment=quickstart"), ("export", "experiment=quickstart", "--out"), ("label", "experiment=quickstart"),
        ("import", "experiment=quickstart"), ("label", "experiment=quickstart", "--out", "x.csv", "--count", "0"), ("bake",),
        ("retry", "experiment=quickstart", "--now"), ("plan", "experiment=quickstart", "mining.miner=[x]"),
        ("export", "experiment=quickstart", "--out", "x.pdf"), *(("plan", f"experiment={file}") for file in _FILES),
    )]  # fmt: skip
    return lines


def _files(place: Path) -> Path:
    """Files that cannot be what they are named for."""
    for name in ("empty", "folder.yaml", "folder.csv", "tables", "docs/results"):
        (place / name).mkdir(parents=True)
    bad = {"binary": bytes(range(256)) * 20, "empty": b"", "deep": b"[" * 100_000, "latin": "titel: Caf\xe9".encode("latin-1")}
    for ending in ("yaml", "csv", "parquet", "json", "run"):
        for name, content in bad.items():
            (place / f"{name}.{ending}").write_bytes(content)
    texts = {
        "list.yaml": "- a\n- b\n", "loop.yaml": "extends: loop.yaml\n", "unknown.yaml": "extends: quickstart\nrqvea: {epochs: 3}\n",
        "other.csv": "a;b\n1;2\n", "ragged.csv": 'user_id,item_id\nU1,I1,x\nU2,"I2\n', "other.jsonl": '{"a": 1}\nnot JSON\n',
        "aliases.yaml": "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]),
        "sweep.yaml": "program: dig.train\nmethod: grid\nmetric: {name: valid/ndcg@10, goal: maximize}\n"
                      "parameters: {rqvae.levels: {values: [2, 3]}}\n",
        "tables/items.csv": "item_id,title\n",
    }  # fmt: skip
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    for name in ("link.yaml", "link.csv"):
        (place / name).symlink_to(name)
    return place
