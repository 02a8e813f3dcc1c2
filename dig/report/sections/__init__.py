"""The parts of the page: each turns data into what its template shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dig.report.data import ReportData
from dig.report.sections.metrics import beyond_accuracy, memorization, result, slices
from dig.report.sections.run import examples, interest_labels, learning_curves, rollouts, semantic_ids, what_was_run

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
