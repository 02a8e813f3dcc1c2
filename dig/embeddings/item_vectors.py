"""Vectors of items that were made elsewhere, read from a file and joined to a catalogue by the items' ids."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dig.config.errors import UserError
from dig.engine.artifacts import hash_file

__all__ = ["ItemVectors", "read_item_vectors", "vectors_fingerprint"]

_IDS, _VECTORS = "item_id", "vectors"
_SHOWN = 5


class ItemVectors(NamedTuple):
    """Vectors in a catalogue's order."""

    vectors: Tensor
    """``(items, dim)`` float32."""
    unknown: int
    """Rows of the file whose item the catalogue does not have; they are left out."""


def vectors_fingerprint(path: Path) -> str:
    """A hash of the file's content.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"embedding.vectors={path}: there is no such file")
    return hash_file(path)


def read_item_vectors(path: Path, item_ids: Sequence[str]) -> ItemVectors:
    """The vector of every item of a catalogue; the order of the file's rows does not matter.

    A ``.parquet`` file has the column ``item_id`` and either one column of lists of numbers, or a column of numbers for
    each dimension. A ``.npz`` file holds the arrays ``item_ids`` ``(rows,)`` and ``vectors`` ``(rows, dim)``. A
    ``.safetensors`` file holds the tensor ``vectors`` and, in its metadata under ``item_ids``, the ids as a JSON list.

    Args:
        path: the file.
        item_ids: the catalogue's ids in order.

    Raises:
        UserError: the file cannot be read, rows differ in length, an item has two rows or none, or a value is missing
            or not finite; names the file and the items.
    """
    readers = {".parquet": _read_parquet, ".npz": _read_npz, ".safetensors": _read_safetensors}
    try:
        ids, values = readers[path.suffix.lower()](path)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        SafetensorError,
        RecursionError,
        MemoryError,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"embedding.vectors={path} cannot be read: {lines[0][:200]}") from None
    if values.ndim != 2 or not values.shape[1] or len(ids) != len(values):
        raise UserError(
            f"embedding.vectors={path}: {len(ids):,} ids and vectors of shape {tuple(values.shape)}; there must "
            "be one row of at least one number for each id"
        )
    rows = _rows(path, ids)
    missing = [item for item in item_ids if item not in rows]
    if missing:
        alike = "" if len(missing) < len(item_ids) else f"; the file's ids look like {_shown(ids[:2])}"
        raise UserError(
            f"embedding.vectors={path}: {len(missing):,} of {len(item_ids):,} items have no vector: "
            f"{_shown(missing)}{alike}"
        )
    with np.errstate(over="ignore"):
        vectors = values[[rows[item] for item in item_ids]].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    if bad:
        raise UserError(
            f"embedding.vectors={path}: the vectors of {len(bad):,} of {len(item_ids):,} items hold values "
            f"that are missing, NaN or too large: {_shown([item_ids[row] for row in bad])}"
        )
    return ItemVectors(torch.from_numpy(vectors), len(rows) - len(item_ids))


def _rows(path: Path, ids: list[str]) -> dict[str, int]:
    rows = {item: row for row, item in enumerate(ids)}
    if len(rows) < len(ids):
        twice = list(dict.fromkeys(item for row, item in enumerate(ids) if rows[item] != row))
        raise UserError(f"embedding.vectors={path}: {len(twice):,} items have more than one row: {_shown(twice)}")
    return rows


def _shown(items: Sequence[str]) -> str:
    return ", ".join(repr(item) for item in items[:_SHOWN]) + (", …" if len(items) > _SHOWN else "")


def _read_parquet(path: Path) -> tuple[list[str], np.ndarray]:
    frame = pl.read_parquet(path, glob=False)
    if _IDS not in frame.columns:
        raise ValueError(f"there is no column {_IDS} (columns: {', '.join(frame.columns[:_SHOWN])})")
    ids, others = _text(frame[_IDS]), frame.drop(_IDS)
    lists = [column for column in others if isinstance(column.dtype, (pl.List, pl.Array))]
    if len(lists) > 1:
        raise ValueError(f"{len(lists)} columns hold lists ({lists[0].name}, {lists[1].name}); leave the vectors only")
    if lists:
        return ids, _unpacked(lists[0], ids)
    words = [column.name for column in others if not column.dtype.is_numeric()]
    if words or not others.width:
        raise ValueError(f"column {words[0]} holds no numbers" if words else f"there is no column beside {_IDS}")
    return ids, others.select(pl.all().cast(pl.Float64)).fill_null(float("nan")).to_numpy()


def _text(ids: pl.Series) -> list[str]:
    if not (ids.dtype.is_integer() or ids.dtype in (pl.String, pl.Categorical)):
        raise ValueError(f"the ids are {ids.dtype}, not text or whole numbers")
    if ids.null_count():
        raise ValueError(f"{ids.null_count()} rows have no id")
    return ids.cast(pl.String).to_list()


def _unpacked(column: pl.Series, ids: list[str]) -> np.ndarray:
    """``(rows, dim)`` of a column of lists."""
    lists = column.cast(pl.List(pl.Float64))
    lengths = lists.list.len().fill_null(0)
    dim = int(lengths.mode().max() or 0)
    odd = [ids[row] for row in (lengths != dim).arg_true().to_list()]
    if odd:
        raise ValueError(f"{len(odd)} rows have another length than the {dim} numbers of most: {_shown(odd)}")
    if not dim:
        return np.empty((len(lists), 0))
    return lists.explode().fill_null(float("nan")).to_numpy().reshape(len(lists), dim)


def _read_npz(path: Path) -> tuple[list[str], np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        if not {"item_ids", _VECTORS} <= set(file.files):
            raise ValueError(
                f"it must hold the arrays item_ids and {_VECTORS}, it holds {', '.join(file.files[:_SHOWN])}"
            )
        try:
            ids, values = file["item_ids"], file[_VECTORS]
        except ValueError as error:
            raise ValueError(f"{error}; save the ids as text: np.array(ids, dtype=str)") from None
    if ids.dtype.kind not in "Uiu" or values.dtype.kind not in "fiub":
        raise ValueError(f"item_ids are {ids.dtype} and {_VECTORS} {values.dtype}, not text and numbers")
    return [str(item) for item in ids.ravel().tolist()], values


def _read_safetensors(path: Path) -> tuple[list[str], np.ndarray]:
    with safe_open(path, "pt") as file:
        ids = json.loads((file.metadata() or {}).get("item_ids", "null"))
        if _VECTORS not in file.keys() or not isinstance(ids, list):  # noqa: SIM118  # not a mapping
            raise ValueError(f"it must hold the tensor {_VECTORS}, and a JSON list item_ids in its metadata")
        return [str(item) for item in ids], file.get_tensor(_VECTORS).double().numpy()
