"""All metrics of a test, in one collection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from dig.evaluation.catalogue_facts import CatalogueFacts
from dig.evaluation.diversity import IntraListDiversity
from dig.evaluation.exposure import Coverage, Gini, Novelty, PopularityLift
from dig.evaluation.memorization import MemorizationRatio
from dig.evaluation.ranking import MRR, NDCG, HitRate
from dig.evaluation.validity import DuplicateShare, InvalidShare

if TYPE_CHECKING:
    from datamodules.histories import Histories

__all__ = ["MEMORIZED", "accuracy_measures", "all_measures", "beyond_accuracy"]

_TOGETHER = 4096  # examples at a time

MEMORIZED = 5
"""Cut-off of the memorization ratio, as in its paper."""


def accuracy_measures(ks: Sequence[int], **settings: Any) -> MetricCollection:
    """HR, NDCG and MRR at each cut-off, named ``hr@5`` and so on; ``settings`` are torchmetrics' own."""
    named: dict[str, Metric | MetricCollection] = {}
    for name, kind in (("hr", HitRate), ("ndcg", NDCG), ("mrr", MRR)):
        named |= {f"{name}@{k}": kind(k, **settings) for k in ks}
    # of a cut-off all three count the same
    return MetricCollection(named, compute_groups=[[f"{name}@{k}" for name in ("hr", "ndcg", "mrr")] for k in ks])


def all_measures(ks: Sequence[int], facts: CatalogueFacts, **settings: Any) -> MetricCollection:
    """Accuracy at each cut-off, and what else is known of the first K of the largest.

    ``update`` takes ``ranked``, ``targets``, ``bought`` and ``candidates`` by name.

    Args:
        ks: cut-offs of the accuracy.
        facts: of the catalogue; without categories there is no diversity.
        settings: torchmetrics' own.
    """
    named, groups = _beyond_measures(ks, facts, **settings)
    accuracy: dict[str, Metric | MetricCollection] = dict(accuracy_measures(ks, **settings).items(keep_base=True))
    accuracy_groups = [[f"{name}@{each}" for name in ("hr", "ndcg", "mrr")] for each in ks]
    return MetricCollection(accuracy | named, compute_groups=[*accuracy_groups, *groups])


def _beyond_measures(
    ks: Sequence[int], facts: CatalogueFacts, **settings: Any
) -> tuple[dict[str, Metric | MetricCollection], list[list[str]]]:
    """What is known of the first K of the largest cut-off besides accuracy, and which of it counts the same."""
    k, items = max(ks), len(facts.counts)
    named: dict[str, Metric | MetricCollection] = {
        f"coverage@{k}": Coverage(k, facts, **settings),
        f"gini@{k}": Gini(k, facts, **settings),
        f"novelty@{k}": Novelty(k, facts, **settings),
        f"popularity_lift@{k}": PopularityLift(k, facts, **settings),
        f"invalid@{k}": InvalidShare(k, items, **settings),
        f"duplicates@{k}": DuplicateShare(k, items, **settings),
        f"memorization@{MEMORIZED}": MemorizationRatio(MEMORIZED, **settings),
    }
    groups = [[f"coverage@{k}", f"gini@{k}", f"novelty@{k}"]]
    groups += [
        [name] for name in (f"popularity_lift@{k}", f"invalid@{k}", f"duplicates@{k}", f"memorization@{MEMORIZED}")
    ]
    if facts.categories is not None:
        named[f"diversity@{k}"] = IntraListDiversity(k, facts, **settings)
        groups.append([f"diversity@{k}"])
    return named, groups


def beyond_accuracy(
    ranked: Tensor, histories: Histories, candidates: np.ndarray, ks: Sequence[int], facts: CatalogueFacts
) -> dict[str, float]:
    """What is measured of some examples besides accuracy; what cannot be measured of so few is not there.

    One process measures what it is given, whether or not there are others.

    Args:
        ranked: (examples, depth) item rows, -1 where a ranking ends early.
        histories: (examples,) catalogue rows.
        candidates: (examples, any) one-hop candidates, -1 where there are fewer.
        ks: cut-offs; the largest counts.
        facts: of the catalogue.
    """
    named, groups = _beyond_measures(ks, facts, sync_on_compute=False)  # of what this process has at hand
    measures = MetricCollection(named, compute_groups=groups)
    for start in range(0, len(ranked), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        measures.update(
            ranked=ranked[part],
            bought=torch.from_numpy(histories.take(part).flat().astype(np.int64)),
            candidates=torch.from_numpy(candidates[part].astype(np.int64)),
        )
    found = {name: float(value) for name, value in measures.compute().items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}
