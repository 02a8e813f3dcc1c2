"""What supervised fine-tuning learns besides the next item."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from dig.config.sections.checks import check
from dig.config.sections.numbers import NonNegativeFloat, PositiveFloat, check_bounds

__all__ = ["COMPACT_TASKS", "INTEREST_TASKS", "TaskConfig", "TasksConfig", "active_shares"]

COMPACT_TASKS = ("next_item", "collaborative", "semantic")
"""Tasks of Semantic IDs alone, which a backbone without text can learn."""
INTEREST_TASKS = ("interest_to_sid", "sid_to_interests", "next_interests")
"""Tasks that read labelled interests."""


@dataclass
class TaskConfig:
    """A task of supervised fine-tuning."""

    weight: PositiveFloat = 1.0
    """Factor on the loss of its samples."""
    share: NonNegativeFloat | None = None
    """How many of its samples an epoch holds: 1 each once, 0.5 half of them, 2 each twice, 0 none; unset decides by
    the backbone: all tasks for one that knows text, `next_item` alone for one from scratch."""


@dataclass
class TasksConfig:
    """Tasks of supervised fine-tuning, each with a weight and a share."""

    next_item: TaskConfig = field(default_factory=TaskConfig)
    """History → Semantic ID of the next item."""
    title_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Title → Semantic ID."""
    sid_to_title: TaskConfig = field(default_factory=TaskConfig)
    """Semantic ID → title."""
    description_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Description → Semantic ID."""
    interest_to_sid: TaskConfig = field(default_factory=TaskConfig)
    """Positive interests → Semantic ID."""
    sid_to_interests: TaskConfig = field(default_factory=TaskConfig)
    """Semantic ID → positive interests."""
    title_history: TaskConfig = field(default_factory=TaskConfig)
    """Titles of a history → Semantic ID of the next item."""
    next_title: TaskConfig = field(default_factory=TaskConfig)
    """History → title of the next item."""
    next_interests: TaskConfig = field(default_factory=TaskConfig)
    """History → positive interests behind the next item."""
    collaborative: TaskConfig = field(default_factory=TaskConfig)
    """Item → the five items most often bought near it in the training part (IIRG, arXiv 2606.17276)."""
    semantic: TaskConfig = field(default_factory=TaskConfig)
    """Item → the five items with the most similar text (IIRG, arXiv 2606.17276)."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            task = getattr(self, entry.name)
            check(task.weight != 0, f"sft.tasks.{entry.name}.weight must be above 0, it is 0; share=0 switches it off")
            check_bounds(f"sft.tasks.{entry.name}", task)


def active_shares(tasks: TasksConfig, knows_text: bool) -> dict[str, float]:
    """Share of each task that is learned, those of 0 left out.

    Raises:
        UserError: a task of words is asked of a backbone that knows none, or nothing is left to learn.
    """
    shares = {}
    for entry in fields(tasks):
        asked = getattr(tasks, entry.name).share
        check(
            knows_text or not asked or entry.name in COMPACT_TASKS,
            f"sft.tasks.{entry.name}.share={asked} needs a backbone that knows text: set backbone.pretrained and "
            "leave prompt.style=text",
        )
        share = asked if asked is not None else float(knows_text or entry.name == "next_item")
        if share:
            shares[entry.name] = share
    check(bool(shares), "sft.tasks leaves nothing to learn: every share is 0")
    return shares
