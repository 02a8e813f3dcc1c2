"""mine: deep interests of every item (MLIM)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from datamodules.leakage import guard
from dig.artifacts import hash_file, read_json, write_json
from dig.config import Config, UserError
from dig.config.schema import MiningConfig
from dig.console import say, warn
from dig.interests import (
    mine_lexical,
    read_captions,
    read_interests,
    read_user_interests,
    to_frame,
    without_twins,
)
from dig.stages.base import Stage, StageContext, select
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = ["STAGE", "load_captions"]


def load_captions(context: StageContext) -> dict[str, str]:
    """Captions of the items' pictures, by item id."""
    captions: dict[str, str] = read_json(context.file("mine", "captions.json"))
    return captions


def _imports(config: MiningConfig) -> list[Path]:
    """The files of `mining.imports` that are there; the fallback stands in where one is not."""
    paths = [Path(path).expanduser() for path in config.imports]
    return [path for path in paths if path.is_file() or config.fallback is None]


def _miners(config: MiningConfig) -> list[str]:
    """The miners that run: the configured ones, or the fallback for imports that are missing."""
    if config.fallback is None or "imported" not in config.miners or len(_imports(config)) == len(config.imports):
        return config.miners
    kept = [miner for miner in config.miners if miner != "imported" or _imports(config)]
    return list(dict.fromkeys([*kept, config.fallback]))


def _files(config: MiningConfig) -> dict[str, str]:
    named = {"captions": config.captions, "user_interests": config.user_interests}
    files = {key: Path(path).expanduser() for key, path in named.items() if path}
    files |= {f"imports {index}": path for index, path in enumerate(_imports(config))}
    for key, path in files.items():
        if not path.is_file():
            raise UserError(f"mining.{key.split()[0]}: there is no file {path}")
    return {key: hash_file(path) for key, path in files.items()}


def _reads(config: Config) -> dict[str, Any]:
    keys = ("mining.max_interests", "mining.max_document_share")
    guarded = select(config, "data.leaks") if config.mining.user_interests else {}
    return select(config, *keys) | {"miners": _miners(config.mining)} | guarded | _files(config.mining)


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.mining
    catalogue = load_catalogue(context)
    item_ids = set(catalogue["item_id"])
    captions = _captions(Path(config.captions).expanduser(), item_ids) if config.captions else {}
    for path in sorted({Path(name).expanduser() for name in config.imports} - set(_imports(config))):
        warn(f"mining.imports: there is no file {path}; the miner {config.fallback} stands in (mining.fallback)")
    frames = [to_frame([])]
    for miner in _miners(config):
        if miner == "lexical":
            frames.append(mine_lexical(catalogue, captions, config))
        else:
            frames += [_imported(path, item_ids, config.max_interests) for path in _imports(config)]
    if config.user_interests:
        _guarded(Path(config.user_interests).expanduser(), context).write_parquet(folder / "user_interests.parquet")
    without_twins(pl.concat(frames)).write_parquet(folder / "interests.parquet")
    write_json(folder / "captions.json", dict(captions))


def _captions(path: Path, item_ids: set[str]) -> dict[str, str]:
    captions = read_captions(path, item_ids)
    say(f"mine: {captions.log.summary()}")
    return dict(captions)


def _imported(path: Path, item_ids: set[str], limit: int) -> pl.DataFrame:
    found = read_interests(path, item_ids)
    say(f"mine: {found.log.summary()}")
    return _most_confident(found.interests, limit)


def _guarded(path: Path, context: StageContext) -> pl.DataFrame:
    """Users' interests without those that saw a held-out item; they keep the list of what they saw."""
    sequences = load_sequences(context)
    found = read_user_interests(path, sequences.user_ids.to_list())
    say(f"mine: {found.log.summary()}")
    item_ids = load_catalogue(context)["item_id"]
    return found.interests.filter(guard(path.name, found.interests, sequences, item_ids, context.config.data.leaks))


def _most_confident(interests: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The first of each miner and item, in the file's order, which is the miner's ranking."""
    return interests.group_by("item_id", "miner", maintain_order=True).head(limit).select(interests.columns)


def _says(path: Path) -> str:
    interests = pl.read_parquet(path / "interests.parquet")
    miners = ", ".join(sorted(interests["miner"].unique())) or "none"
    line = f"{len(interests):,} interests of {interests['item_id'].n_unique():,} items (miners: {miners})"
    of_users = path / "user_interests.parquet"
    if not of_users.is_file():
        return line
    return f"{line}, texts of {pl.read_parquet(of_users)['user_id'].n_unique():,} users that saw no held-out item"


STAGE = Stage("mine", ("prepare",), _reads, _build, _says, version=2)
