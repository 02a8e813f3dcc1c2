"""What a report is made of: plain values of a finished run, none of which must be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.report.config_diff import Change

if TYPE_CHECKING:
    import polars as pl

    from dig.quantization import SemanticIds

__all__ = ["ReportData"]


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; what is empty is said to be missing in its place."""

    experiment: str
    run_id: str
    command: str = ""
    """The command that runs it again."""
    config_yaml: str = ""
    """The configuration as it was resolved."""
    parent: str = ""
    """What the configuration is compared with, in words."""
    changes: Sequence[Change] = ()
    """Where the configuration differs from its parent."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Users, items, interactions, …"""
    stages: Sequence[Mapping[str, Any]] = ()
    """``name``, ``seconds``, ``cached`` of every stage that ran."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Content of ``metrics.json``: recommenders by name, baselines first."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of the CSV log a stage, sparse."""
    health: Mapping[str, Any] = field(default_factory=dict)
    """Of the codebooks: lists with a number a level (``usage`` as a share, ``sizes``, …) and figures."""
    ids: SemanticIds | None = None
    """The Semantic IDs of the catalogue."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """RLDI's report: figures, and lists of examples (strings or mappings), by name."""
    interests: pl.DataFrame | None = None
    """Labelled interests (:data:`~dig.interests.interest.INTEREST_SCHEMA`)."""
    groups: Sequence[Mapping[str, Any]] = ()
    """Groups of rollouts as the callback ``RolloutSamples`` writes them."""
    catalogue: pl.DataFrame | None = None
    """An item a row: ``item_id``, ``title``, and what else is known."""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Picture files by item id."""
    recommendations: pl.DataFrame | None = None
    """``example``, ``items``, ``scores``, ``stage``; recommenders below each other, baselines first."""
    examples: pl.DataFrame | None = None
    """A row an example: ``example``, ``user``, ``target``, ``history``, and where known ``one_hop`` and slices."""
