"""What supervised fine-tuning learns: the next item, and the tasks that align words, interests and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from datamodules.histories import Histories, Ragged, Windows
from datamodules.packing import Samples
from datamodules.prompts import PromptBuilder
from dig.config.schema import NAMED

__all__ = [
    "TASKS",
    "ItemTexts",
    "Task",
    "TaskSource",
]


_BETWEEN = "; "

Content = Literal["sid", "title", "description", "interests"]
Answer = Literal["sid", "title", "interests", "collaborative", "semantic"]


@dataclass(frozen=True)
class Task:
    """What is asked and what is answered.

    Attributes:
        over: ``windows`` asks about a history and answers about the item after it, ``items`` about one item.
        content: how the asked items are told.
        answer: what is told of the item.
    """

    over: Literal["windows", "items"]
    content: Content
    answer: Answer

    @property
    def reads(self) -> frozenset[str]:
        """What of the items it needs to know besides their Semantic IDs."""
        return frozenset({self.content, self.answer} - {"sid"})


TASKS: dict[str, Task] = {
    "next_item": Task("windows", "sid", "sid"),
    "title_to_sid": Task("items", "title", "sid"),
    "sid_to_title": Task("items", "sid", "title"),
    "description_to_sid": Task("items", "description", "sid"),
    "interest_to_sid": Task("items", "interests", "sid"),
    "sid_to_interests": Task("items", "sid", "interests"),
    "title_history": Task("windows", "title", "sid"),
    "next_title": Task("windows", "sid", "title"),
    "next_interests": Task("windows", "sid", "interests"),
    "collaborative": Task("items", "sid", "collaborative"),
    "semantic": Task("items", "sid", "semantic"),
}
"""All tasks; MiniOneRec's (arXiv 2510.24431), those on interests, and IIRG's two relations (arXiv 2606.17276)."""


@dataclass
class ItemTexts:
    """What is known of items in words, in catalogue order; None where there is nothing.

    Attributes:
        title: (items,).
        description: (items,).
        interests: (items,) positive interests, the best first, joined.
        collaborative: (items, any) neighbouring rows, -1 where there is none.
        semantic: (items, any) likewise.
    """

    title: list[str | None] | None = None
    description: list[str | None] | None = None
    interests: list[str | None] | None = None
    collaborative: np.ndarray | None = None
    semantic: np.ndarray | None = None


class TaskSource:
    """The samples of a task, spelled on demand.

    Samples with nothing to ask or to answer are left out: an item without a description, say.

    Args:
        name: the task's name.
        builder: the prompt builder.
        windows: the training part; a window of several targets is for the compact next-item task alone.
        known: what the task reads.
        seed: decides which sample gets which wording.
    """

    def __init__(self, name: str, builder: PromptBuilder, windows: Windows, known: ItemTexts, seed: int) -> None:
        self.name = name
        self.task = TASKS[name]
        self.builder = builder
        self.known = known
        if self.task.over == "items":
            rows = np.arange(len(builder.item_tokens))
            asked, targets = Histories(rows, rows, rows + 1), Histories(rows, rows, rows + 1)
        else:
            histories, cut = windows.histories, windows.histories.ends - windows.supervised
            asked = Histories(histories.items, histories.starts, cut)
            targets = Histories(histories.items, cut, histories.ends)
        mask = self._tellable(asked, self.task.content) & self._tellable(targets, self.task.answer)
        self.asked, self.targets = asked.take(mask), targets.take(mask)
        self.phrasings = np.random.default_rng(seed).integers(0, 1 << 16, len(self.targets))

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, part: slice) -> Samples:
        """Samples of a part."""
        answers, responses = self._answers(self.targets.take(part))
        return Samples(Ragged.joined(self._prompts(part, answers), answers), answers.lengths, responses)

    def prompts(self, index: Sequence[int] | np.ndarray) -> Ragged:
        """Token ids of what is asked alone, as :meth:`take` spells it."""
        return self._prompts(index, self._answers(self.targets.take(index))[0])

    def _prompts(self, part: slice | Sequence[int] | np.ndarray, answers: Ragged) -> Ragged:
        contents = self._contents(self.asked.take(part), answers)
        return self.builder.framed(self.name, contents, self.phrasings[part])

    def _contents(self, asked: Histories, answers: Ragged) -> Ragged:
        if self.task.content == "sid":
            return self.builder.spelled(asked)
        texts = self._texts[self.task.content]
        room = self._room - answers.lengths
        fitting = _latest_within(texts.lengths[asked.flat()], asked, room)
        return texts.take(fitting.flat()).grouped(fitting.lengths).cut(np.maximum(room, 1))

    def _answers(self, targets: Histories) -> tuple[Ragged, np.ndarray]:
        if self.task.answer == "sid":
            return self.builder.spelled(targets), targets.lengths
        if self.task.answer in ("collaborative", "semantic"):
            neighbours = Ragged.from_padded(self._neighbours(self.task.answer)[targets.flat()])
            return self.builder.spelled(neighbours), neighbours.lengths
        texts = self._texts[self.task.answer].take(targets.flat())
        end = Ragged.from_lengths(np.full(len(texts), self.builder.end_id), np.ones(len(texts), dtype=np.int64))
        return Ragged.joined(texts, end), np.ones(len(texts), dtype=np.int64)

    @cached_property
    def _texts(self) -> dict[str, Ragged]:
        """Token ids of the texts that the task reads; in a history of titles a mark stands between them."""
        end = _BETWEEN if self.task.over == "windows" else ""
        return {
            kind: self.builder.words(list(_given(self.known, kind)), end if kind == self.task.content else "")
            for kind in ("title", "description", "interests")
            if kind in self.task.reads
        }

    @cached_property
    def _room(self) -> int:
        """Tokens that the context leaves beside the longest wording."""
        longest = max(len(frame.before) + len(frame.after) for frame in self.builder.frames(self.name))
        return (1 << 30 if self.builder.context is None else self.builder.context) - longest

    def _neighbours(self, kind: str) -> np.ndarray:
        return np.asarray(_given(self.known, kind))[:, :NAMED]

    def _tellable(self, histories: Histories, kind: str) -> np.ndarray:
        """(samples,) whether anything can be told."""
        if kind == "sid":
            return histories.lengths > 0
        if kind in ("collaborative", "semantic"):
            has_answer: np.ndarray = np.any(self._neighbours(kind) >= 0, axis=1)
        else:
            has_answer = np.array([bool(text) for text in _given(self.known, kind)], dtype=bool)
        counts = np.bincount(histories.owners(), has_answer[histories.flat()], minlength=len(histories))
        return counts > 0


def _given(known: ItemTexts, kind: str) -> list[str | None] | np.ndarray:
    value = getattr(known, kind)
    if value is None:
        raise ValueError(f"a task reads {kind} of the items, which was not given")
    return value


def _latest_within(lengths: np.ndarray, histories: Histories, room: np.ndarray) -> Histories:
    """Histories without their oldest items where the texts of all would be longer than ``room`` (histories,).

    The latest item stays whatever its length.
    """
    sizes = histories.lengths
    ends = np.cumsum(sizes)
    upto = np.append(0, np.cumsum(lengths))
    behind = np.repeat(upto[ends], sizes) - upto[:-1]  # tokens from an item to the end of its history
    counts = np.bincount(histories.owners(), behind <= np.repeat(room, sizes), minlength=len(sizes)).astype(np.int64)
    return histories.latest(np.maximum(counts, 1))
