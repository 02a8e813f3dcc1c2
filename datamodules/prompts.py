"""The one prompt builder: training, rollouts, evaluation and serving spell a history with the same token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.histories import Histories
from dig.artifacts import fingerprint
from dig.config import UserError
from dig.config.schema import PromptConfig

__all__ = ["PromptBuilder", "Prompts", "TrainingTokens"]

_INSTRUCTION = "A customer bought these items, oldest first: "
_QUESTION = "\nThe next item is: "


@dataclass
class Prompts:
    """Prompts, padded on the right.

    Attributes:
        input_ids: (batch, prompt).
        attention_mask: (batch, prompt) 1 at real tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor


@dataclass
class TrainingTokens:
    """Token rows with supervision, padded on the right.

    Attributes:
        input_ids: (rows, length).
        attention_mask: (rows, length) 0 at padding, k at the tokens of a row's k-th sample: 1 in a row of one.
        labels: (rows, length) the token itself where it is supervised, else -100.
        samples: how many samples the rows hold, where that is not their number.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    samples: int | None = None


class PromptBuilder:
    """Turns histories into prompts.

    ``compact`` is the tokenizer's start token and the history's SID tokens; ``text`` puts an instruction around them,
    in the backbone's chat template where it has one.

    Args:
        item_tokens: (items, levels) vocabulary ids of each item's Semantic ID, -1 for a missing suffix.
        tokenizer: the backbone's tokenizer.
        config: style and longest history.
        from_scratch: whether the backbone knows SID tokens only, which decides ``style=auto``.

    Raises:
        UserError: if a text prompt is asked of a tokenizer that knows no text.
    """

    def __init__(self, item_tokens: Tensor, tokenizer: Any, config: PromptConfig, from_scratch: bool) -> None:
        self.style = ("compact" if from_scratch else "text") if config.style == "auto" else config.style
        if self.style == "text" and from_scratch:
            raise UserError("prompt.style=text needs a backbone that knows text: set backbone.pretrained", exit_code=2)
        self.item_tokens = item_tokens
        self.max_history = config.max_history
        self.pad_id = int(tokenizer.pad_token_id)
        self.prefix, self.suffix = self._frame(tokenizer)

    @property
    def max_tokens(self) -> int:
        """The longest prompt together with its answer."""
        return len(self.prefix) + len(self.suffix) + (self.max_history + 1) * self.item_tokens.shape[1]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides how a history is spelled."""
        items = hashlib.sha256(self.item_tokens.contiguous().numpy().tobytes()).hexdigest()
        return fingerprint([self.style, self.max_history, self.pad_id, self.prefix, self.suffix, items])

    def prompts(self, histories: Sequence[np.ndarray]) -> Prompts:
        """Prompts for histories of catalogue rows, of which the latest ``max_history`` are kept."""
        rows = self._padded_rows(histories, self.max_history)
        tokens, mask = self._pack([self.prefix], rows, [self.suffix])
        return Prompts(tokens, mask.long())

    def training(self, histories: Sequence[np.ndarray], supervised: np.ndarray) -> TrainingTokens:
        """Rows whose last ``supervised`` items are learned, the prompt's own tokens never.

        In the text style exactly one item, the answer, is supervised.

        Args:
            histories: windows of catalogue rows, targets included.
            supervised: (batch,) how many items at the end of each window are targets.
        """
        histories = histories if isinstance(histories, Histories) else Histories.from_lists(histories)
        length = int(histories.lengths.max())
        rows = self._padded_rows(histories, length)
        # Windows are padded at their start, so the targets are the last columns of every row.
        learned = torch.arange(length) >= length - torch.from_numpy(supervised).unsqueeze(1)
        if self.style == "compact":
            tokens, mask, labels = self._pack_labelled([self.prefix], rows, learned)
        else:
            before, answer = rows[:, :-1], rows[:, -1:]
            tokens, mask, labels = self._pack_labelled(
                [self.prefix, before, self.suffix], answer, torch.ones_like(answer, dtype=torch.bool)
            )
        return TrainingTokens(tokens, mask.long(), labels)

    def _padded_rows(self, histories: Sequence[np.ndarray], longest: int) -> Tensor:
        """(batch, longest) catalogue rows, -1 before the start of a history."""
        histories = histories if isinstance(histories, Histories) else Histories.from_lists(histories)
        return torch.from_numpy(histories.padded(longest))

    def _spell(self, rows: Tensor) -> Tensor:
        """(batch, items · levels) SID tokens, -1 where there is none."""
        tokens = self.item_tokens[rows.clamp(min=0)].masked_fill((rows < 0).unsqueeze(-1), -1)
        return tokens.flatten(1)

    def _columns(self, parts: Sequence[Tensor | list[int]], batch: int) -> list[Tensor]:
        return [
            torch.tensor(part, dtype=torch.int64).expand(batch, -1) if isinstance(part, list) else self._spell(part)
            for part in parts
        ]

    def _pack(self, before: list[list[int]], rows: Tensor, after: list[list[int]]) -> tuple[Tensor, Tensor]:
        columns = self._columns([*before, rows, *after], len(rows))
        tokens, mask, _ = _squeeze(torch.cat(columns, dim=1), None, self.pad_id)
        return tokens, mask

    def _pack_labelled(
        self, before: Sequence[Tensor | list[int]], rows: Tensor, learned: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        context = torch.cat(self._columns(before, len(rows)), dim=1)
        spelled = self._spell(rows)
        labels = torch.where(learned.repeat_interleave(self.item_tokens.shape[1], dim=1), spelled, -1)
        labels = torch.cat([torch.full_like(context, -1), labels], dim=1)
        tokens, mask, packed = _squeeze(torch.cat([context, spelled], dim=1), labels, self.pad_id)
        assert packed is not None  # noqa: S101 - labels went in
        return tokens, mask, packed

    def _frame(self, tokenizer: Any) -> tuple[list[int], list[int]]:
        """Token ids before and after the history."""
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if self.style == "compact":
            return [int(start)], []
        if getattr(tokenizer, "chat_template", None):
            mark = "<<history>>"
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": f"{_INSTRUCTION}{mark}{_QUESTION}"}],
                tokenize=False,
                add_generation_prompt=True,
            )
            before, _, after = text.partition(mark)
            return tokenizer.encode(before, add_special_tokens=False), tokenizer.encode(after, add_special_tokens=False)
        before = tokenizer.encode(_INSTRUCTION, add_special_tokens=False)
        bos = [int(tokenizer.bos_token_id)] if tokenizer.bos_token_id is not None else []
        return bos + before, tokenizer.encode(_QUESTION, add_special_tokens=False)


def _squeeze(tokens: Tensor, labels: Tensor | None, pad_id: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Closes the gaps (-1) in every row, moves what is left to the start and cuts the common padding."""
    mask = tokens >= 0
    place = mask.cumsum(dim=1) - 1
    width = int(place[:, -1].max()) + 1
    rows, columns = mask.nonzero(as_tuple=True)
    place = place[rows, columns]
    packed = tokens.new_full((len(tokens), width), pad_id)
    packed[rows, place] = tokens[rows, columns]
    real = torch.zeros_like(packed, dtype=torch.bool)
    real[rows, place] = True
    if labels is None:
        return packed, real, None
    learned = torch.full_like(packed, -100)
    learned[rows, place] = torch.where(labels >= 0, labels, -100)[rows, columns]
    return packed, real, learned
