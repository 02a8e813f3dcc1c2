"""Neighbours by meaning: the nearest by cosine, exact in blocks, or within cells where a catalogue is large."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dig.engine.console import track
from dig.quantization import kmeans

__all__ = ["EXACT_ITEMS", "KEPT", "nearest_in_cells", "search_recall", "semantic_neighbours"]

KEPT = 10
"""Neighbours that are kept of an item."""
EXACT_ITEMS = 100_000
"""Up to this many items all pairs are compared (about a minute on two cores); a million would take an hour and more."""
PROBES = 16
"""Cells that are searched for an item's neighbours."""
_ELEMENTS = 1 << 24  # similarities held at a time
_TRAINED = 48  # items a cell that the cells are learned from
_LEAST_ROWS = 64
_FOLD = 16


def semantic_neighbours(vectors: Tensor, keep: int = KEPT) -> np.ndarray:
    """The most similar items by the cosine of their vectors (items, dim).

    Exact, in blocks of rows, so that a million items need no matrix of a million squared.

    Returns:
        (items, keep) int64 rows, nearest first, -1 in a catalogue of fewer.
    """
    unit = F.normalize(vectors.float(), dim=1)
    return _exact(unit, torch.arange(len(unit)), keep).numpy()


def nearest_in_cells(
    vectors: Tensor, keep: int = KEPT, probes: int = PROBES, cells: int | None = None, seed: int = 0
) -> np.ndarray:
    """The most similar items by cosine among those of the nearest cells, as an inverted file finds them.

    Cells are those of k-means over the directions of the vectors; an item's neighbours are looked for in the ``probes``
    cells whose centres are nearest to it. With as many probes as cells the result is exact.

    Args:
        vectors: (items, dim).
        keep: neighbours per item.
        probes: cells searched for each item.
        cells: number of cells; unset takes the square root of the items.
        seed: of k-means.

    Returns:
        (items, keep) int64 rows, nearest first, -1 where the cells held fewer.
    """
    unit = F.normalize(vectors.float(), dim=1)
    centres = _centres(unit, cells or max(round(math.sqrt(len(unit))), 1), seed)
    probed = _nearest_centres(unit, centres, min(probes, len(centres)))
    members = _grouped(probed[:, 0], len(centres))
    askers = _grouped(probed.flatten(), len(centres))
    neighbours = torch.full((len(unit), keep), -1, dtype=torch.int32)
    scores = torch.full((len(unit), keep), float("-inf"))
    for cell in track(range(len(centres)), "similar items, by cells") if len(centres) > 200 else range(len(centres)):
        inside = members[cell]
        for asking in (askers[cell] // probed.shape[1]).split(max(_ELEMENTS // max(len(inside), 1), 1)):
            _improve(unit, asking, inside, neighbours, scores)
    return neighbours.long().numpy()


def search_recall(vectors: Tensor, neighbours: np.ndarray, sample: int = 1_000, first: int = 5, seed: int = 0) -> float:
    """Share of the exact ``first`` neighbours that a search found among its own, over a sample of items.

    Args:
        vectors: (items, dim).
        neighbours: (items, at least first) rows, nearest first, -1 where there is none.
        sample: items that are looked at.
        first: neighbours that count.
        seed: of the sample.
    """
    unit = F.normalize(vectors.float(), dim=1)
    rows = torch.randperm(len(unit), generator=torch.Generator().manual_seed(seed))[:sample]
    exact = _exact(unit, rows, first)
    mask = exact >= 0
    hit = (exact[:, :, None] == torch.from_numpy(neighbours[rows.numpy(), :first])[:, None, :]).any(dim=2) & mask
    return float(hit.sum() / mask.sum().clamp(min=1))


def _exact(unit: Tensor, rows: Tensor, keep: int) -> Tensor:
    """(rows, keep) the nearest of all items, -1 in a catalogue of fewer."""
    count = min(keep, len(unit) - 1)
    neighbours = torch.full((len(rows), keep), -1, dtype=torch.int64)
    size = max(_ELEMENTS // len(unit), _LEAST_ROWS)
    starts = range(0, len(rows), size)
    for start in track(starts, "similar items") if len(starts) > 50 else starts:
        part = rows[start : start + size]
        similarity = unit[part] @ unit.T
        similarity[torch.arange(len(part)), part] = float("-inf")
        neighbours[start : start + size, :count] = _top(similarity, count)[1]
    return neighbours


def _centres(unit: Tensor, cells: int, seed: int) -> Tensor:
    """(cells, dim) of k-means over a sample."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(len(unit), generator=generator)[: _TRAINED * cells]
    return kmeans(unit[sample], min(cells, len(unit)), 10, generator)


def _nearest_centres(unit: Tensor, centres: Tensor, probes: int) -> Tensor:
    """(items, probes) int32 cells, the nearest first."""
    centres_of_rows = torch.empty(len(unit), probes, dtype=torch.int32)
    half_norms = centres.square().sum(dim=1) / 2
    size = max(_ELEMENTS // len(centres), 1)
    for start in range(0, len(unit), size):
        nearness = torch.addmm(half_norms, unit[start : start + size], centres.T, beta=-1)
        centres_of_rows[start : start + size] = _top(nearness, probes)[1]
    return centres_of_rows


def _grouped(labels: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Positions of each label."""
    order = torch.argsort(labels, stable=True)
    return order.split(torch.bincount(labels, minlength=groups).tolist())


def _improve(unit: Tensor, asking: Tensor, inside: Tensor, neighbours: Tensor, scores: Tensor) -> None:
    """Takes the items of a cell into the neighbours of those who ask there; found and scores are changed."""
    keep = neighbours.shape[1]
    similarity = unit[asking] @ unit[inside].T
    place = torch.searchsorted(inside, asking).clamp(max=max(len(inside) - 1, 0))  # members lie in order
    at_home = torch.nonzero(inside[place] == asking).flatten() if len(inside) else place[:0]
    similarity[at_home, place[at_home]] = float("-inf")
    value, column = _top(similarity, min(keep, len(inside)))
    item = torch.where(value > float("-inf"), inside[column], -1).int()
    both = torch.cat([scores[asking], value], dim=1)
    best, order = both.topk(keep, dim=1)
    scores[asking] = best
    neighbours[asking] = torch.cat([neighbours[asking], item], dim=1).gather(1, order)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest ``count`` of each row and their columns, as ``topk`` gives them.

    Columns are folded first and the largest of each fold compared, since the largest values lie in the folds with the
    largest maxima; that leaves a fraction of the columns to sort.
    """
    width = values.shape[1] // _FOLD
    if width <= 2 * count:
        return tuple(values.topk(count, dim=1))  # type: ignore[return-value]
    folds = values[:, : width * _FOLD].unflatten(1, (_FOLD, width)).amax(dim=1).topk(count, dim=1).indices
    columns = (folds[:, :, None] + width * torch.arange(_FOLD)).flatten(1)
    rest = torch.arange(width * _FOLD, values.shape[1]).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    value, place = values.gather(1, columns).topk(count, dim=1)
    return value, columns.gather(1, place)
