"""The parts of the page: each turns data into what its template shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dig.report.data import ReportData
from dig.report.sections.beyond import beyond_accuracy
from dig.report.sections.codes import semantic_ids
from dig.report.sections.curves import learning_curves
from dig.report.sections.examples import examples
from dig.report.sections.interests import interest_labels
from dig.report.sections.memorization import memorization
from dig.report.sections.result import result
from dig.report.sections.rollouts import rollouts
from dig.report.sections.run import what_was_run
from dig.report.sections.slices import slices

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: its anchor and the name of its template.
        title: its heading.
        short: its name in the bar of contents.
        content: what its template is given.
    """

    id: str
    title: str
    short: str
    content: Callable[[ReportData], Mapping[str, Any]]


SECTIONS = (
    Section("run", "What was run", "Run", what_was_run),
    Section("result", "The result", "Result", result),
    Section("curves", "Learning curves", "Curves", learning_curves),
    Section("codes", "Semantic IDs", "Semantic IDs", semantic_ids),
    Section("interests", "Interests and labels", "Interests", interest_labels),
    Section("grpo", "GRPO", "GRPO", rollouts),
    Section("slices", "Slices", "Slices", slices),
    Section("memorization", "Memorization", "Memorization", memorization),
    Section("beyond", "Beyond accuracy", "Beyond accuracy", beyond_accuracy),
    Section("examples", "Examples", "Examples", examples),
)
