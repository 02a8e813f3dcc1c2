"""Prompts of models that read one vector an item: catalogue rows are the tokens, and nothing stands around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datamodules.prompts import Frame, PromptBuilder
from dig.config.schema import PromptConfig
from dig.generation.vocabulary import TASK_TOKENS

__all__ = ["ItemPrompts"]


@dataclass(frozen=True)
class _Padding:
    """All that a prompt builder asks of a tokenizer where there are no words."""

    pad_token_id: int = 0
    eos_token_id: int = 0


class ItemPrompts(PromptBuilder):
    """A history is its items, and every item's token is its row in the catalogue.

    A task of ``TASK_TOKENS`` begins with a token of its own, behind those of the catalogue.

    Args:
        items: size of the catalogue.
        config: longest history.
    """

    def __init__(self, items: int, config: PromptConfig) -> None:
        super().__init__(torch.arange(items).unsqueeze(1), _Padding(), config, from_scratch=True)

    def frames(self, task: str) -> list[Frame]:
        """The task, where it is not the next item."""
        tasks = list(TASK_TOKENS)
        return [Frame([len(self.item_tokens) + tasks.index(task)] if task in tasks else [], [])]
