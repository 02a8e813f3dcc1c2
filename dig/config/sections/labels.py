"""Deep interests: labelled (RLDI)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import Bounds, Fraction, PositiveInt, check_bounds

__all__ = ["LabelConfig"]


@dataclass
class LabelConfig:
    """RLDI: the binary quality label of every mined interest."""

    enabled: bool = True
    """Label interests with the classifier; false leaves all of them positive, so that q = 1 (ablation)."""
    source: str = "behaviour"
    """What teaches the classifier: `behaviour` (does sharing an interest raise co-purchase in the training part),
    `judge` (a model's verdicts), or `file` (a person's)."""
    judge: str | None = None
    """The model of `mining.models` that judges."""
    judge_prompt: str = "judge-v1"
    """Prompt of the judge: one of ours by name, or a file of your own."""
    judge_sample: PositiveInt = 2000
    """So many interests are judged, drawn by the seed; the classifier carries their labels over to the others."""
    file: str | None = None
    """CSV of labels made by hand: `item_id,interest,label` (python -m dig.interests label)."""
    threshold: Fraction = 0.5
    """An interest is positive when the classifier's probability reaches this value."""
    folds: Annotated[int, Bounds(2, 1000)] = 5
    """Folds of the cross-validation behind the printed held-out quality."""
    min_items: Annotated[int, Bounds(2, 2**31 - 1)] = 3
    """An interest needs this many items before behaviour can say whether it is a good one."""

    def __post_init__(self) -> None:
        check_bounds("labels", self)
        check_choice("labels.source", self.source, ("behaviour", "judge", "file"))
        check(
            self.source != "judge" or self.judge is not None,
            "labels.source=judge needs labels.judge, a name of mining.models",
        )
        check(self.source != "file" or self.file is not None, "labels.source=file needs labels.file, a CSV of labels")
