"""Prompts: training, rollouts, evaluation and serving spell a history with the same token ids, by one builder.

`PromptBuilder` is what they ask. One implementation writes Semantic IDs and words by a tokenizer, one the rows of
items; `prompt_builder` gives a backbone its own. The wordings of tasks, for a backbone that knows text, come first.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datamodules.histories import Histories, Ragged, spread
from dig.config import UserError
from dig.config.schema import PromptConfig
from dig.engine.artifacts import fingerprint
from dig.generation.vocabulary import TASK_TOKENS
from dig.pretrained import breaking, meaningful_tokens

if TYPE_CHECKING:
    from dig.generation.backbone import Backbone
    from dig.quantization import SemanticIds

__all__ = [
    "PHRASINGS",
    "SLOT",
    "Frame",
    "ItemPrompts",
    "PromptBuilder",
    "Prompts",
    "SidPrompts",
    "prompt_builder",
]


SLOT = "{}"

PHRASINGS: dict[str, tuple[str, ...]] = {
    # One wording: what is asked in evaluation, in rollouts and in serving is what was trained, to the token.
    "next_item": ("A customer bought these items, oldest first: {}\nThe next item is: ",),
    "title_to_sid": (
        "Title: {}\nThe item of this title is: ",
        "Name the item that is sold as: {}\nItem: ",
        "Which item of the catalogue has this title? {}\nAnswer: ",
    ),
    "sid_to_title": (
        "Item: {}\nIts title is: ",
        "Under which title is {} sold?\nTitle: ",
        "What does the catalogue call the item {}?\nAnswer: ",
    ),
    "description_to_sid": (
        "Description: {}\nThe item described is: ",
        "An item is described in these words: {}\nItem: ",
        "Find the item that fits this description: {}\nAnswer: ",
    ),
    "interest_to_sid": (
        "Interests: {}\nAn item that serves them is: ",
        "Somebody cares about: {}\nItem for them: ",
        "Which item answers these interests? {}\nAnswer: ",
    ),
    "sid_to_interests": (
        "Item: {}\nThe interests it serves: ",
        "Why would somebody want {}?\nInterests: ",
        "What do the buyers of {} care about?\nAnswer: ",
    ),
    "title_history": (
        "A customer bought, oldest first: {}\nThe next item is: ",
        "Purchases by title, in order: {}\nItem bought next: ",
        "Having bought {}, which item does the customer take next?\nAnswer: ",
    ),
    "next_title": (
        "A customer bought these items, oldest first: {}\nThe title of the next item is: ",
        "Purchases in order: {}\nTitle bought next: ",
        "Having bought {}, what does the customer take next, by title?\nAnswer: ",
    ),
    "next_interests": (
        "A customer bought these items, oldest first: {}\nThe interests behind the next purchase: ",
        "Purchases in order: {}\nWhat the customer cares about next: ",
        "Having bought {}, which interests lead the customer on?\nAnswer: ",
    ),
    "collaborative": (
        "Item: {}\nFive items that customers buy near it: ",
        "Who buys {} also buys these five: ",
        "Name five items often found in one history with {}.\nAnswer: ",
    ),
    "semantic": (
        "Item: {}\nFive items most like it: ",
        "Items much like {}, five of them: ",
        "Name five items of similar kind and use to {}.\nAnswer: ",
    ),
}
"""Wordings of each task; which one a sample gets follows from the seed."""


_SID_LIKE = re.compile(r"<([a-z]_\d+>)")


@dataclass
class Prompts:
    """Prompts, padded on the right.

    Attributes:
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt) 1 at real tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor


@dataclass(frozen=True)
class Frame:
    """The token ids of a wording before and after its slot."""

    before: list[int]
    after: list[int]


class PromptBuilder(ABC):
    """Turns histories, items and texts into prompts.

    Args:
        item_tokens: (items, tokens) how items are written, -1 where an item has fewer tokens.
        max_history: latest items of a history that are kept, if the context holds them.
        pad_id: token at padding.
        end_id: token that ends a text.
        context: tokens that the backbone can read, None for no limit; a history that is longer loses its old end.

    Attributes:
        style: ``compact`` where a next-item prompt is a history with nothing behind it, else ``text``.
        knows_text: whether it writes words.
        max_history: items of a history that are kept.
        short_of_context: whether these are fewer than were asked for.

    Raises:
        UserError: nothing fits the context.
    """

    style: str = "compact"
    knows_text: bool = False

    def __init__(
        self, item_tokens: Tensor, max_history: int, pad_id: int, end_id: int, context: int | None = None
    ) -> None:
        self.item_tokens = item_tokens
        self.pad_id, self.end_id, self.context = pad_id, end_id, context
        self._items = Ragged.from_padded(item_tokens.cpu().numpy())
        frame = self.frames("next_item")[0]
        self.prefix, self.suffix = frame.before, frame.after
        self.max_history = self._fitting(max_history)
        self.short_of_context = self.max_history < max_history

    @abstractmethod
    def frames(self, task: str) -> list[Frame]:
        """The wordings of a task as token ids."""

    @abstractmethod
    def words(self, texts: Sequence[str | None], end: str = "") -> Ragged:
        """Token ids of texts; nothing in a text can stand for a special or SID token.

        Args:
            texts: item text, which is not trusted; None for no text at all.
            end: words behind every text.
        """

    @abstractmethod
    def fingerprint(self, task: str) -> str:
        """Hash of everything that decides how a task's samples are spelled, texts themselves apart."""

    def _spelling(self, task: str) -> list[Any]:
        """What every fingerprint holds."""
        items = hashlib.sha256(self.item_tokens.contiguous().numpy().tobytes()).hexdigest()
        frames = [[frame.before, frame.after] for frame in self.frames(task)]
        return [task, self.style, self.max_history, self.pad_id, self.context, items, frames]

    def prompts(self, histories: Sequence[np.ndarray]) -> Prompts:
        """Prompts for the next item after histories of catalogue rows, of which the latest ``max_history`` are kept."""
        histories = histories if isinstance(histories, Histories) else Histories.from_lists(histories)
        rows = self.framed("next_item", self.spelled(histories.latest(self.max_history)))
        return Prompts(*self.padded(rows))

    def framed(self, task: str, content: Ragged, phrasings: np.ndarray | None = None) -> Ragged:
        """Puts a task's wording around contents.

        Args:
            task: its name.
            content: (prompts,) token ids.
            phrasings: (prompts,) numbers of the wordings, None for the first.
        """
        frames = self.frames(task)
        chosen = np.zeros(len(content), dtype=np.int64) if phrasings is None else phrasings % len(frames)
        before, after = (Ragged.from_lists([getattr(frame, side) for frame in frames]) for side in ("before", "after"))
        return Ragged.joined(before.take(chosen), content, after.take(chosen))

    def padded(self, rows: Ragged) -> tuple[Tensor, Tensor]:
        """Rows of token ids as tensors (rows, longest): the ids, and 1 at real tokens."""
        lengths = rows.lengths
        tokens = np.full((len(rows), int(lengths.max())), self.pad_id)
        mask = np.zeros_like(tokens)
        cells = np.repeat(np.arange(len(rows)), lengths), spread(lengths)
        tokens[cells], mask[cells] = rows.values[rows.offsets[0] : rows.offsets[-1]], 1
        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def spelled(self, histories: Histories | Ragged) -> Ragged:
        """The SID tokens of each history of catalogue rows, one item after the other."""
        if isinstance(histories, Histories):
            histories = Ragged.from_lengths(histories.flat(), histories.lengths)
        return self._items.take(histories.values).grouped(histories.lengths)

    def _fitting(self, asked: int) -> int:
        """Items of a history that are kept: those asked for, or as many as the context holds beside an answer."""
        if self.context is None:
            return asked
        levels = self.item_tokens.shape[1]
        fitting = (self.context - len(self.prefix) - len(self.suffix)) // levels - 1
        if fitting < 1:
            raise UserError(
                f"the backbone reads {self.context} tokens, which hold no history: the words around it take "
                f"{len(self.prefix) + len(self.suffix)}, an item {levels}"
            )
        return min(asked, fitting)


class SidPrompts(PromptBuilder):
    """Prompts of SID tokens and words.

    ``compact`` is the tokenizer's start token and the history's SID tokens; ``text`` puts an instruction around them,
    in the backbone's chat template where it has one.

    Args:
        item_tokens: (items, levels) vocabulary ids of each item's Semantic ID, -1 for a missing suffix.
        tokenizer: the backbone's tokenizer.
        config: style, longest history and longest text.
        from_scratch: whether the backbone knows SID tokens only, which decides ``style=auto``.
        context: as of `PromptBuilder`.

    Raises:
        UserError: if a text prompt is asked of a tokenizer that knows no text, or nothing fits the context.
    """

    def __init__(
        self, item_tokens: Tensor, tokenizer: Any, config: PromptConfig, from_scratch: bool, context: int | None = None
    ) -> None:
        self.style = ("compact" if from_scratch else "text") if config.style == "auto" else config.style
        if self.style == "text" and from_scratch:
            raise UserError("prompt.style=text needs a backbone that knows text: set backbone.pretrained", exit_code=2)
        self.knows_text = not from_scratch
        self.max_text_tokens = config.max_text_tokens
        self._tokenizer = tokenizer
        self._special = meaningful_tokens(tokenizer)
        self._broken = breaking(self._special, lambda token: f"{token[0]} {token[1:]}".rstrip())
        self._frames: dict[str, list[Frame]] = {}
        pad_id = int(tokenizer.pad_token_id)
        end_id = pad_id if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
        super().__init__(item_tokens, config.max_history, pad_id, end_id, context)

    def fingerprint(self, task: str) -> str:
        """Hash of everything that decides how a task's samples are spelled, texts themselves apart."""
        common = self._spelling(task)
        if not self.knows_text:
            return fingerprint(common)
        # what is broken in texts follows from the tokenizer's words, but for tokens that samples once held whole
        nameless = sorted(set(self._special) - set(self._tokenizer.all_special_tokens))
        return fingerprint([*common, self.max_text_tokens, self._words_hash(), *([nameless] if nameless else [])])

    def words(self, texts: Sequence[str | None], end: str = "") -> Ragged:
        """Token ids of texts, each cut at ``max_text_tokens``; see `PromptBuilder.words`."""
        plain = [self._plain(text) + end if text else "" for text in texts]
        token_ids = self._tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else []
        return Ragged.from_lists(token_ids).cut(self.max_text_tokens)

    def frames(self, task: str) -> list[Frame]:
        """The wordings of a task as token ids."""
        if task not in self._frames:
            if self.knows_text and (self.style == "text" or task != "next_item"):
                self._frames[task] = [self._worded(text) for text in PHRASINGS[task]]
            else:
                self._frames[task] = [Frame([self._start(task)], [])]
        return self._frames[task]

    def _start(self, task: str) -> int:
        if task in TASK_TOKENS:
            return int(self._tokenizer.convert_tokens_to_ids(TASK_TOKENS[task]))
        start = self._tokenizer.bos_token_id
        return int(start if start is not None else self._tokenizer.eos_token_id)

    def _worded(self, text: str) -> Frame:
        tokenizer = self._tokenizer
        encode = lambda part: tokenizer.encode(part, add_special_tokens=False)  # noqa: E731
        if getattr(tokenizer, "chat_template", None):
            mark = "<<slot>>"
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": text.replace(SLOT, mark)}], tokenize=False, add_generation_prompt=True
            )
            before, _, after = text.partition(mark)
            return Frame(encode(before), encode(after))
        before, _, after = text.partition(SLOT)
        bos = [int(tokenizer.bos_token_id)] if tokenizer.bos_token_id is not None else []
        return Frame(bos + encode(before), encode(after))

    def _plain(self, text: str) -> str:
        """Breaks whatever the tokenizer would read as one of its special tokens or as part of a Semantic ID."""
        return _SID_LIKE.sub(r"< \1", self._broken(text))

    def _words_hash(self) -> str:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else repr(sorted(self._tokenizer.get_vocab().items()))
        return hashlib.sha256(content.encode()).hexdigest()


class ItemPrompts(PromptBuilder):
    """Prompts of models that read one vector per item: an item's token is its row in the catalogue, and nothing stands
    around a history.

    A task of ``TASK_TOKENS`` begins with a token of its own, behind those of the catalogue.

    Args:
        items: size of the catalogue.
        config: longest history.
    """

    def __init__(self, items: int, config: PromptConfig) -> None:
        super().__init__(torch.arange(items).unsqueeze(1), config.max_history, pad_id=0, end_id=0)

    def frames(self, task: str) -> list[Frame]:
        """The task, where it is not the next item."""
        tasks = list(TASK_TOKENS)
        return [Frame([len(self.item_tokens) + tasks.index(task)] if task in tasks else [], [])]

    def words(self, texts: Sequence[str | None], end: str = "") -> Ragged:
        """There are no words.

        Raises:
            ValueError: always.
        """
        raise ValueError("prompts of catalogue rows have no words; tasks that read text need a tokenizer")

    def fingerprint(self, task: str) -> str:
        """Hash of everything that decides how a task's samples are spelled."""
        return fingerprint(self._spelling(task))


def prompt_builder(backbone: Backbone, ids: SemanticIds, config: PromptConfig) -> PromptBuilder:
    """The prompt builder of a backbone.

    Args:
        backbone: model and tokenizer.
        ids: the Semantic ID table as the backbone spells it.
        config: style, longest history and longest text.
    """
    if backbone.tokenizer is None:
        return ItemPrompts(len(ids), config)
    tokens = backbone.vocabulary.encode(ids.codes)
    return SidPrompts(tokens, backbone.tokenizer, config, backbone.from_scratch, backbone.paths.context)
