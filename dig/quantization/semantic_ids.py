"""The Semantic ID table: made, read from files of others, and freed of collisions."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dig.config.errors import UserError, nearest
from dig.engine.catalogue import Catalogue, table_stamp
from dig.engine.lazy import scipy
from dig.engine.moved import renamed_arguments
from dig.received.tables import extent_problem

__all__ = [
    "SemanticIds",
    "group_rows",
    "COLLISIONS",
    "reassign",
    "read_codes",
]


class SemanticIds:
    """Semantic IDs of a catalogue: one code per level, and a suffix code where items would share all of them.

    The table is prefix-free: no item's codes are the beginning of another's, so a code sequence names one item at most.
    Only a table made to keep collisions (`duplicates`) lets items share all their codes.

    Args:
        item_ids: the catalogue's item ids, without repeats.
        codes: ``(items, levels)`` or ``(items, levels + 1)`` int64, the last column the suffix; -1 is "no suffix".
        sizes: number of codes of each column of `codes`.
        levels: number of content levels L, the suffix left out.
        duplicates: items may share all their codes.

    Raises:
        ValueError: ids or codes repeat (codes unless `duplicates`), a code lies outside its size, or one item's codes
            begin another's.
    """

    @renamed_arguments(twins="duplicates")
    def __init__(
        self, item_ids: Sequence[str], codes: Tensor, sizes: Sequence[int], levels: int, duplicates: bool = False
    ) -> None:
        self.item_ids = list(item_ids)
        self.codes = codes.detach().to("cpu", torch.int64).contiguous()
        self.sizes = [int(size) for size in sizes]
        self.levels = int(levels)
        self.duplicates = duplicates
        problem = _problem(self.item_ids, self.codes, self.sizes, self.levels, duplicates)
        if problem:
            raise ValueError(problem)
        self._keys, self._rows = _index(self.codes, self.sizes)

    @classmethod
    @renamed_arguments(twins="duplicates")
    def from_codes(
        cls, item_ids: Sequence[str], codes: Tensor, sizes: Sequence[int], duplicates: bool = False
    ) -> SemanticIds:
        """Gives a suffix 0, 1, … in catalogue order to every item that shares its codes, and to no other.

        Where no two items share their codes there is no suffix column.

        Args:
            item_ids: the catalogue's item ids.
            codes: ``(items, levels)`` as the quantizer assigns them, repeats allowed.
            sizes: codes per level.
            duplicates: give no suffix and let items share their codes.
        """
        codes = codes.detach().to("cpu", torch.int64)
        if duplicates:
            return cls(item_ids, codes, sizes, len(sizes), duplicates=True)
        groups = group_rows(codes)
        sizes_of_groups = torch.bincount(groups)
        largest = int(sizes_of_groups.max()) if len(groups) else 0
        if largest <= 1:
            return cls(item_ids, codes, sizes, len(sizes))
        order = groups.argsort(stable=True)
        starts = sizes_of_groups.cumsum(dim=0) - sizes_of_groups
        suffix = torch.empty_like(groups)
        suffix[order] = torch.arange(len(groups)) - starts[groups[order]]
        suffix[sizes_of_groups[groups] == 1] = -1
        return cls(item_ids, torch.cat([codes, suffix[:, None]], dim=1), [*sizes, largest], len(sizes))

    def with_item_codes(self, levels: int) -> SemanticIds:
        """The same items under their first ``levels`` codes, each with a code of its own behind them.

        Without a level the item's own code is all there is.
        """
        own = torch.arange(len(self)).unsqueeze(1)
        codes = torch.cat([self.codes[:, :levels], own], dim=1)
        return SemanticIds(self.item_ids, codes, [*self.sizes[:levels], len(self)], max(levels, 1))

    def find(self, codes: Tensor) -> Tensor:
        """The items that code sequences name.

        Args:
            codes: ``(n, levels)``, or ``(n, levels + 1)`` with the suffix or -1 in the last column.

        Returns:
            ``(n,)`` int64 rows of the table, of duplicates the first, -1 where no item has these codes; on the device
            of `codes`.

        Raises:
            ValueError: there are fewer columns than levels, or more than the suffix adds.
        """
        if codes.ndim != 2 or not self.levels <= codes.shape[1] <= self.levels + 1:
            raise ValueError(
                f"codes must be (n, {self.levels}) or (n, {self.levels + 1}), they are {tuple(codes.shape)}"
            )
        device, codes = codes.device, codes.to("cpu", torch.int64)
        nodes = torch.zeros(len(codes), dtype=torch.int64)
        for level, (size, keys) in enumerate(zip(self.sizes, self._keys, strict=True)):
            column = codes[:, level] if level < codes.shape[1] else torch.full_like(nodes, -1)
            node_keys = nodes * (size + 1) + column + 1
            places = torch.searchsorted(keys, node_keys).clamp_max(len(keys) - 1)
            matches = (nodes >= 0) & (column >= -1) & (column < size) & (keys[places] == node_keys)
            nodes = torch.where(matches, places, -1)
        if codes.shape[1] > len(self.sizes):  # a suffix column that this table has no use for
            nodes = torch.where(codes[:, -1] == -1, nodes, -1)
        return torch.where(nodes >= 0, self._rows[nodes], -1).to(device)

    @property
    def collision_rate(self) -> float:
        """Share of items that share their L content codes with another item."""
        groups = group_rows(self.codes[:, : self.levels])
        return float((torch.bincount(groups)[groups] > 1).double().mean())

    def save(self, path: str | Path) -> None:
        """Writes Parquet: `item_id`, `codes` (a list, without a missing suffix), `sizes`, `levels`, and `twins`, which
        says whether items may share all their codes."""
        frame = pl.DataFrame(
            {
                "item_id": pl.Series(self.item_ids, dtype=pl.String),
                "codes": pl.Series(self.codes.numpy(), dtype=pl.Array(pl.Int64, self.codes.shape[1])),
            }
        )
        frame.with_columns(
            pl.col("codes").arr.to_list().list.filter(pl.element() >= 0),
            pl.lit(pl.Series([self.sizes], dtype=pl.List(pl.Int64))).first().alias("sizes"),
            pl.lit(self.levels, dtype=pl.Int64).alias("levels"),
            pl.lit(self.duplicates).alias("twins"),
        ).write_parquet(path, metadata=Catalogue.of(self.item_ids).stamp)

    @classmethod
    def load(cls, path: str | Path) -> SemanticIds:
        """Reads what `save` wrote and verifies it.

        Raises:
            UserError: the file is missing or damaged, lacks a column, or holds IDs that are not a valid table; one
                line that names the file.
        """
        try:
            problem = extent_problem(Path(path))
            if problem is not None:
                raise UserError(f"{path}: no readable table of Semantic IDs ({problem})")
            frame = pl.read_parquet(path, columns=list(_SCHEMA), glob=False).cast(_SCHEMA)
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{path}: no readable table of Semantic IDs ({reason})") from error
        try:
            ids = cls._from_frame(frame)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        if Catalogue.of(ids.item_ids).problem(table_stamp(Path(path))):
            raise UserError(f"{path}: its items are not in the order that it was written in")
        return ids

    @classmethod
    def _from_frame(cls, frame: pl.DataFrame) -> SemanticIds:
        if frame.is_empty():
            raise ValueError("there is no item")
        if frame.null_count().sum_horizontal().item() or frame["codes"].explode().null_count():
            raise ValueError("a value is missing")
        if frame.select(pl.struct("sizes", "levels", "twins").n_unique()).item() != 1:
            raise ValueError("`sizes`, `levels` and `twins` must be the same in every row")
        sizes, levels = frame["sizes"][0].to_list(), frame["levels"][0]
        lengths = frame["codes"].list.len()
        if lengths.min() < levels or lengths.max() > len(sizes):
            span = f"{lengths.min()} to {lengths.max()}"
            raise ValueError(f"items must have {levels} to {len(sizes)} codes each, they have {span}")
        columns = [frame["codes"].list.get(i, null_on_oob=True).fill_null(-1).to_torch() for i in range(len(sizes))]
        return cls(frame["item_id"].to_list(), torch.stack(columns, dim=1), sizes, levels, frame["twins"][0])

    def __len__(self) -> int:
        return len(self.item_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SemanticIds):
            return NotImplemented
        named = ("item_ids", "sizes", "levels", "duplicates")
        same = all(getattr(self, name) == getattr(other, name) for name in named)
        return same and torch.equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SemanticIds({len(self)} items, sizes={self.sizes}, levels={self.levels})"


_SCHEMA = {
    "item_id": pl.String,
    "codes": pl.List(pl.Int64),
    "sizes": pl.List(pl.Int64),
    "levels": pl.Int64,
    "twins": pl.Boolean,
}


def group_rows(codes: Tensor) -> Tensor:
    """Group numbers ``(items,)`` from 0; rows of ``codes (items, levels)`` have the same where all codes are equal."""
    groups = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for column in codes.unbind(dim=1) if len(codes) else ():
        shifted = column - column.min()
        groups = torch.unique(groups * (shifted.max() + 1) + shifted, return_inverse=True)[1]
    return groups


def _index(codes: Tensor, sizes: list[int]) -> tuple[list[Tensor], Tensor]:
    """The code tree as sorted arrays: at each depth the key ``parent · (size + 1) + code + 1`` of every node; and the
    row of each leaf. Numbers stay below items · size, whatever the number of levels."""
    keys = []
    nodes = torch.zeros(len(codes), dtype=torch.int64)
    for column, size in zip(codes.unbind(dim=1), sizes, strict=True):
        level, nodes = torch.unique(nodes * (size + 1) + column + 1, return_inverse=True)
        keys.append(level)
    rows = torch.empty(len(codes), dtype=torch.int64)
    rows[nodes.flip(0)] = torch.arange(len(codes)).flip(0)  # the first of duplicates is written last
    return keys, rows


def _problem(item_ids: list[str], codes: Tensor, sizes: list[int], levels: int, duplicates: bool) -> str | None:
    """What is wrong with a table, in a sentence; None where nothing is."""
    if not item_ids:
        return "there is no item"
    if levels < 1 or len(sizes) not in (levels, levels + 1):
        return f"{len(sizes)} sizes do not fit {levels} levels and a suffix"
    if codes.shape != (len(item_ids), len(sizes)):
        return f"codes of shape {tuple(codes.shape)} do not fit {len(item_ids)} items with {len(sizes)} sizes"
    if len(set(item_ids)) < len(item_ids):
        return "an item id repeats"
    content = codes[:, :levels]
    outside = (codes >= torch.tensor(sizes)) | (codes < -1)
    outside[:, :levels] |= content < 0
    if outside.any():
        row = int(outside.any(dim=1).nonzero()[0])
        return f"item {item_ids[row]!r} has codes {codes[row].tolist()} outside the sizes {sizes}"
    groups = group_rows(codes)
    if int(groups.max()) + 1 < len(item_ids) and not duplicates:
        return "two items have the same codes"
    if len(sizes) > levels:
        branches = group_rows(content)
        ends_early = (torch.bincount(branches)[branches] > 1) & (codes[:, -1] == -1)
        if ends_early.any():
            return f"the codes of item {item_ids[int(ends_early.nonzero()[0])]!r} are the beginning of another item's"
    return None


COLLISIONS = ("suffix", "reassign", "keep")
"""`suffix`: a further code where, and only where, items share theirs (the paper's). `reassign`: next-best last codes,
and a suffix for what finds no place. `keep`: items keep sharing."""


@torch.no_grad()
def reassign(codes: Tensor, costs: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Spreads the items of every branch with a collision over different codes of the last level.

    A branch is all items that share the codes before the last. Inside it every item gets a code of its own such that
    the total cost is least: the exact solution of the transport problem that Sinkhorn's iterations, as in MiniOneRec
    (arXiv 2510.24431), approach. In a branch with more items than codes, the best item of every code stays, the codes
    that are free go to the others at the least total cost, and whoever is left over stays in a collision.

    Args:
        codes: ``(items, levels)`` int64.
        costs: gives, for item rows ``(n,)``, what each code of the last level would cost them, ``(n, size)``.
        size: codes of the last level.

    Returns:
        ``(items, levels)`` int64; only the last column differs.
    """
    result = codes.clone()
    branches = group_rows(codes[:, :-1]) if codes.shape[1] > 1 else torch.zeros(len(codes), dtype=torch.int64)
    groups = group_rows(codes)
    shared = torch.bincount(groups)[groups] > 1
    order = branches.argsort(stable=True)
    for rows in order.split(torch.bincount(branches).tolist()):
        if shared[rows].any():
            chosen = _assign(costs(rows).double().cpu().numpy(), codes[rows, -1].numpy(), size)
            result[rows, -1] = torch.from_numpy(chosen)
    return result


def _assign(costs: np.ndarray, own: np.ndarray, size: int) -> np.ndarray:
    """``(n,)`` codes, different as long as there are enough."""
    chosen = own.copy()
    if len(own) <= size:
        rows, places = scipy.optimize.linear_sum_assignment(costs)
        chosen[rows] = places
        return chosen
    by_cost = np.argsort(costs[np.arange(len(own)), own], kind="stable")
    used, first = np.unique(own[by_cost], return_index=True)
    others = np.setdiff1d(np.arange(len(own)), by_cost[first])
    free = np.setdiff1d(np.arange(size), used)
    rows, places = scipy.optimize.linear_sum_assignment(costs[np.ix_(others, free)])
    chosen[others[rows]] = free[places]
    return chosen


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
        advice = f"did you mean {hint}?" if hint else f"there are {', '.join(content)}"
        raise UserError(f"{path}: rqvae.imported_name={name} names no table of it; {advice}")
    return dict(content[name])
