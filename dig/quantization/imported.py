"""Semantic IDs that others made, read from a file."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dig.config.errors import UserError, nearest

__all__ = ["read_codes"]

_MOST = 4 << 30
"""Bytes of JSON at most, unpacked."""


def read_codes(path: Path, name: str | None, item_ids: Sequence[str], levels: int) -> Tensor:
    """The leading codes of every item of a catalogue.

    Args:
        path: JSON, plain or gzipped: ``{item: [codes]}``, or several tables ``{name: {item: [codes]}}``.
        name: which of several tables; None where there is one.
        item_ids: the catalogue's ids in order; items of the file that it lacks are left out.
        levels: codes to take of each item.

    Returns:
        ``(items, levels)`` int64.

    Raises:
        UserError: the file cannot be read, has no such table, or lacks codes for an item; one line that names it.
    """
    table = _table(path, _load(path), name)
    missing = [item for item in item_ids if item not in table]
    if missing:
        raise UserError(f"{path}: no Semantic ID for {len(missing):,} of {len(item_ids):,} items, {missing[0]!r} first")
    rows = []
    for item in item_ids:
        codes = table[item]
        whole = isinstance(codes, list) and all(type(code) is int and code >= 0 for code in codes)
        if not whole or len(codes) < levels:
            raise UserError(f"{path}: item {item!r} needs {levels} codes (whole numbers from 0), it has {codes!r:.60}")
        rows.append(codes[:levels])
    return torch.tensor(rows, dtype=torch.int64)


def _load(path: Path) -> Any:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(_MOST + 1)
        if len(content) > _MOST:
            raise ValueError(f"more than {_MOST >> 30} GB")
        return json.loads(content)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: no readable JSON ({reason})") from None


def _table(path: Path, content: Any, name: str | None) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: must hold an object of items and their codes")
    if not all(isinstance(value, dict) for value in content.values()):
        return content
    if name not in content:
        hint = nearest(name, content) if name else None
        known = f"did you mean {hint}?" if hint else f"there are {', '.join(content)}"
        raise UserError(f"{path}: rqvae.imported_name={name} names no table of it; {known}")
    return dict(content[name])
