"""Where the faults happen: small finished runs of two shops, each with a home of its own, and copies of them."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from support.workplace import without_seconds

from faults.commands import Command, run
from faults.verdicts import Ending

__all__ = ["STAGES", "Shop", "Workshop", "copied", "metrics_of"]

_SETTINGS = """extends: quickstart
seed: {seed}
data: {{shop: {{items: {items}, users: 80, seed: {shop}}}}}
visual: {{model: null, adapt: {{epochs: 0}}}}
mining: {{miners: [lexical]}}
rqvae: {{codebook_size: 8, levels: 2, batch_size: 16, epochs: 4, hidden_dims: [32], latent_dim: 8}}
items: {{representation: sid, codes: null}}
backbone:
  config: {{num_hidden_layers: 1, hidden_size: 32, intermediate_size: 64, num_attention_heads: 2,
           num_key_value_heads: 2}}
sft: {{batch_size: 16, epochs: 1, max_steps: 8}}
grpo: {{max_steps: 4, validate_every: 2, group_size: 4, prompts_per_step: 8}}
evaluation: {{num_beams: 10, valid_beams: 10, ks: [5, 10]}}
trainer: {{accelerator: cpu}}
logging: {{progress: false}}
"""
"""A shop of the quickstart's kind, so small that all stages take seconds."""
STAGES = ("grpo", "sft", "popularity", "item_knn")


@dataclass(frozen=True)
class Shop:
    """A finished run of a small shop.

    Attributes:
        folder: where its commands work; ``home`` and ``runs`` lie in it.
        settings: its YAML file.
        run: the run's folder.
        metrics: its metrics, times left out.
    """

    folder: Path
    settings: Path
    run: Path
    metrics: dict[str, Any]

    @property
    def home(self) -> Path:
        """Its ``DIG_HOME``."""
        return self.folder / "home"

    @property
    def train(self) -> Command:
        """The command that made it; in another folder and home it makes the same."""
        return ("dig.train", f"experiment={self.settings}")

    @functools.cached_property
    def users(self) -> list[str]:
        """Some of its users, the first and the last among them."""
        users = pl.read_parquet(self.run / "users.parquet")["user"].to_list()
        return [users[0], users[len(users) // 2], users[-1]]


class Workshop:
    """A folder for everything, and what several parts use of it.

    Args:
        folder: an empty folder.
        small: a quick look instead of the whole figures.
        seed: what every draw comes from.
        only: numbers of trials, where one of them is looked at again.
    """

    def __init__(self, folder: Path, small: bool, seed: int, only: Sequence[int] = ()) -> None:
        self.folder = folder
        self.small = small
        self.seed = seed
        self.only = only
        self._numbers = itertools.count(1)

    def place(self, name: str) -> Path:
        """A new empty folder."""
        path = self.folder / "places" / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    @functools.cached_property
    def shop(self) -> Shop:
        """A finished run."""
        return self._shop("one", seed=42, items=60, shop=7)

    @functools.cached_property
    def other(self) -> Shop:
        """A finished run of another catalogue and seed."""
        return self._shop("two", seed=43, items=64, shop=8)

    def _shop(self, name: str, **numbers: int) -> Shop:
        folder = self.folder / name
        latest = folder / "runs" / "small" / "latest"
        settings = folder / "small.yaml"
        if (latest / "metrics.json").is_file():  # of an earlier look, see --folder
            return Shop(folder, settings, latest.resolve(), metrics_of(latest))
        folder.mkdir()
        settings.write_text(_SETTINGS.format(**numbers), encoding="utf-8")
        ending = run(("dig.train", f"experiment={settings}"), folder, folder / "home", limit=600)
        if ending.code != 0:
            raise RuntimeError(f"the undisturbed run failed: {ending.text}")
        return Shop(folder, settings, latest.resolve(), metrics_of(latest))


def metrics_of(run_folder: Path) -> dict[str, Any]:
    """A run's metrics without times."""
    content: dict[str, Any] = without_seconds(json.loads((run_folder / "metrics.json").read_text(encoding="utf-8")))
    return content


def copied(source: Path, target: Path) -> Path:
    """A copy that shares no file with its source, links of the file system included."""
    shutil.copytree(source, target, symlinks=True)
    for path in target.rglob("*"):
        assert path.is_symlink() or not path.is_file() or path.stat().st_nlink == 1
        if path.is_file() and not path.is_symlink():
            path.chmod(0o644)
    return target


def trained(shop: Shop, folder: Path, home: Path, limit: float = 300.0, **settings: Any) -> Ending:
    """The shop's run made again in a folder and home, with the metrics as its answer."""
    ending = run((*shop.train, f"runs_dir={folder / 'runs'}"), folder, home, limit, **settings)
    latest = folder / "runs" / "small" / "latest"
    answer = metrics_of(latest) if ending.code == 0 and (latest / "metrics.json").is_file() else None
    return Ending(ending.command, ending.code, ending.output, ending.errors, ending.seconds, answer)
