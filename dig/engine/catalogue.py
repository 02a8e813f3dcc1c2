"""The catalogue by which tables and models count: a fingerprint of its item ids in order, stamped into what counts so.

A row number means an item only together with the order that it was counted in. So whatever holds row numbers carries
the fingerprint of that order: Parquet and safetensors in their metadata, a transformers folder in ``config.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from dig.config.documents import read_json_mapping
from dig.config.errors import UserError
from dig.engine.artifacts import read_json, write_json
from dig.received.weights import weights_header

__all__ = ["STAMP", "Catalogue", "check_catalogue", "stamp_config", "table_stamp"]

_AGAIN = "the same dig.train command writes it again"
STAMP = "dig_catalogue"
"""Key of the stamp wherever it stands."""
_COUNT = re.compile(r"[0-9]{1,18}")
_COUNTED = ("counts", "items.weight", "encoder.items.weight", "codes")
"""Tensors of our own models with a row for each item."""


class Catalogue(NamedTuple):
    """A catalogue as far as row numbers go.

    Attributes:
        items: how many there are.
        fingerprint: of their ids in order.
    """

    items: int
    fingerprint: str

    @classmethod
    def of(cls, item_ids: Iterable[str]) -> Self:
        """Of item ids in order."""
        ids = list(item_ids)
        text = json.dumps(ids, ensure_ascii=False, separators=(",", ":"), default=str)  # quoted: one way to cut it
        return cls(len(ids), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32])

    @property
    def text(self) -> str:
        """Both in a word."""
        return f"{self.items} {self.fingerprint}"

    @property
    def stamp(self) -> dict[str, str]:
        """As metadata of a file."""
        return {STAMP: self.text}

    def problem(self, stamp: str | None) -> str | None:
        """In what a stamp differs; None where it does not, or there is none."""
        if stamp is None or stamp == self.text:
            return None
        items, _, _ = stamp.partition(" ")
        if not _COUNT.fullmatch(items):
            return "counts by another catalogue"
        if int(items) != self.items:
            return f"counts by a catalogue of {int(items):,} items"
        return "counts by as many items, which are others or in another order"


def stamp_config(folder: Path, catalogue: Catalogue) -> None:
    """Stamps a folder that transformers wrote; its library leaves keys alone that it does not know."""
    path = folder / "config.json"
    if path.is_file():
        write_json(path, {**read_json(path), **catalogue.stamp})


def check_catalogue(folder: Path, catalogue: Catalogue, where: str) -> None:
    """Whether a model's folder counts by a catalogue; what carries no stamp is held to its number of rows.

    Args:
        folder: as a stage left it.
        catalogue: what rows are going to be taken for.
        where: what it was read from, for the message.

    Raises:
        UserError: one of its files counts by another catalogue, or cannot be read.
    """
    for name, stamp in _stamps(folder, catalogue.items):
        problem = catalogue.problem(stamp)
        if problem is not None:
            raise UserError(
                f"{folder / name} {problem} than the {catalogue.items:,} of {where}, so its rows would be "
                "taken for other items; the same dig.train command writes both again"
            )


def table_stamp(path: Path) -> str | None:
    """The stamp in a Parquet file; None of an older one, and of one that cannot be read, which its reader tells."""
    import polars as pl

    try:
        with path.open("rb") as stream:  # a path would be taken for a pattern
            return pl.read_parquet_metadata(stream).get(STAMP)
    except (OSError, pl.exceptions.PolarsError):
        return None


def _stamps(folder: Path, items: int) -> Iterator[tuple[str, str | None]]:
    """Files of a model that may carry a stamp, each with what it carries."""
    for path in sorted(folder.glob("*.safetensors")):
        yield path.name, _of_weights(path, items)
    for name, stamp_of in (("config.json", _of_config), ("semantic_ids.parquet", _of_table)):
        if (folder / name).is_file():
            yield name, stamp_of(folder / name)


def _of_weights(path: Path, items: int) -> str | None:
    """The stamp of weights; of older ones without it a stamp of their number of rows, where that is another one."""
    from safetensors import SafetensorError, safe_open

    weights_header(path)  # what is wrong with it is told better
    try:
        with safe_open(path, framework="np") as weights:
            stamp = (weights.metadata() or {}).get(STAMP)
            names = set(weights.keys())
            rows = {weights.get_slice(name).get_shape()[0] for name in _COUNTED if name in names}
    except (SafetensorError, OSError, IndexError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read: {reason}; the same dig.train command writes it again") from None
    other = next((number for number in rows if number != items), None)
    return f"{other} " if other is not None else stamp


def _of_config(path: Path) -> str | None:
    stamp = read_json_mapping(path, advice=_AGAIN).get(STAMP)
    return stamp if isinstance(stamp, str) else None


def _of_table(path: Path) -> str | None:
    """Its own ids say it, in the order that its codes have."""
    import polars as pl

    from dig.received.tables import read_parquet_table

    return Catalogue.of(read_parquet_table(path, {"item_id": pl.String}, advice=_AGAIN)["item_id"].to_list()).text
