"""Sweep files that tests write, and W&B's own package to compare with."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

COMMAND = [
    "${env}",
    "${interpreter}",
    "-m",
    "${program}",
    "experiment=quickstart",
    "stages=[sft]",
    "logging.wandb.mode=online",
    "${args_no_hyphens}",
]
SIMPLE: dict[str, Any] = {
    "program": "dig.train",
    "method": "grid",
    "metric": {"name": "valid/ndcg@10", "goal": "maximize"},
    "parameters": {"rqvae.codebook_size": {"values": [8, 16]}, "rqvae.levels": {"values": [2, 3]}},
    "command": COMMAND,
}
PACKAGE = ("sweeps==0.3.0", "jsonref==1.1.0")
"""W&B's package, and the one thing that it needs and we do not have."""


def write(folder: Path, **changes: Any) -> Path:
    """A sweep file like the simple one, with changes; None leaves a key out."""
    content = {key: value for key, value in {**SIMPLE, **changes}.items() if value is not None}
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def wandb_sweeps() -> Path:
    """A folder with W&B's package, without the old numpy that it asks for; fetched once and kept beside other caches.

    ``DIG_SWEEPS_PACKAGE`` may name such a folder. Where the package cannot be had the test is skipped, or fails where
    ``DIG_REQUIRE_SWEEPS`` is set.
    """
    given = os.environ.get("DIG_SWEEPS_PACKAGE")
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"dig-{getpass.getuser()}-{PACKAGE[0]}"
    if (folder / "sweeps" / "config" / "schema.json").is_file() and (folder / "jsonref.py").is_file():
        return folder
    with tempfile.TemporaryDirectory() as fresh:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", fresh, *PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = f"{PACKAGE[0]} cannot be fetched: {(done.stderr.strip().splitlines() or [''])[-1]}"
            pytest.fail(reason) if os.environ.get("DIG_REQUIRE_SWEEPS") else pytest.skip(reason)
        shutil.copytree(fresh, folder, dirs_exist_ok=True)
    return folder


def ask_wandb(script: str, question: Any) -> Any:
    """Runs a script beside W&B's package, in a process of its own, with the question as `asked`; what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(wandb_sweeps())}
    head = "import json, sys, warnings\nwarnings.simplefilter('ignore')\nasked = json.load(sys.stdin)\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env=environment,
        cwd=tempfile.gettempdir(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
