"""mine: deep interests of every item (MLIM)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from dig.artifacts import hash_file, read_json, write_json
from dig.config import Config, UserError
from dig.console import say
from dig.interests import mine_lexical, read_captions, read_interests, to_frame, without_twins
from dig.stages.base import Stage, StageContext, select
from dig.stages.prepare import load_catalogue

__all__ = ["STAGE", "load_captions"]


def load_captions(context: StageContext) -> dict[str, str]:
    """Captions of the items' pictures, by item id."""
    captions: dict[str, str] = read_json(context.file("mine", "captions.json"))
    return captions


def _files(config: Config) -> dict[str, str]:
    paths = [*config.mining.imports, *([config.mining.captions] if config.mining.captions else [])]
    missing = [path for path in paths if not Path(path).expanduser().is_file()]
    if missing:
        raise UserError(f"mining: there is no file {missing[0]}; see mining.imports and mining.captions")
    return {f"file {index}": hash_file(Path(path).expanduser()) for index, path in enumerate(paths)}


def _reads(config: Config) -> dict[str, Any]:
    keys = ("mining.miners", "mining.max_interests", "mining.max_document_share")
    return select(config, *keys) | {"captioned": bool(config.mining.captions)} | _files(config)


def _build(context: StageContext, folder: Path) -> None:
    config = context.config.mining
    catalogue = load_catalogue(context)
    item_ids = set(catalogue["item_id"])
    captions = _captions(Path(config.captions).expanduser(), item_ids) if config.captions else {}
    frames = [to_frame([])]
    for miner in config.miners:
        if miner == "lexical":
            frames.append(mine_lexical(catalogue, captions, config))
        else:
            frames += [_imported(Path(path).expanduser(), item_ids, config.max_interests) for path in config.imports]
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


def _most_confident(interests: pl.DataFrame, limit: int) -> pl.DataFrame:
    """The first of each miner and item, in the file's order, which is the miner's ranking."""
    return interests.group_by("item_id", "miner", maintain_order=True).head(limit).select(interests.columns)


def _says(path: Path) -> str:
    interests = pl.read_parquet(path / "interests.parquet")
    miners = ", ".join(sorted(interests["miner"].unique())) or "none"
    return f"{len(interests):,} interests of {interests['item_id'].n_unique():,} items (miners: {miners})"


STAGE = Stage("mine", ("prepare",), _reads, _build, _says)
