"""The tokens that spell Semantic IDs, one for every code of every level, and which table of items a backbone spells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from dig.config import UserError

if TYPE_CHECKING:
    from dig.config.schema import ItemsConfig
    from dig.quantization import SemanticIds

__all__ = ["TASK_TOKENS", "SidVocabulary", "sid_token", "spelled_ids"]

TASK_TOKENS = {"collaborative": "<collaborative>", "semantic": "<semantic>"}
"""What a prompt of a task begins with where the backbone knows no words."""


def sid_token(level: int, code: int) -> str:
    """The token of a code: ``<a_12>`` is code 12 of the first level."""
    return f"<{chr(ord('a') + level)}_{code}>"


@dataclass(frozen=True)
class SidVocabulary:
    """Where the SID tokens lie in a tokenizer's vocabulary.

    Attributes:
        sizes: codes per level, the suffix level included if there is one.
        first_ids: vocabulary id of each level's code 0; the codes of a level follow each other.
    """

    sizes: tuple[int, ...]
    first_ids: tuple[int, ...]

    @staticmethod
    def tokens(sizes: list[int]) -> list[str]:
        """All SID tokens, level by level."""
        return [sid_token(level, code) for level, size in enumerate(sizes) for code in range(size)]

    @classmethod
    def add_to(cls, tokenizer: Any, sizes: list[int]) -> SidVocabulary:
        """Adds the SID tokens to a tokenizer that lacks them.

        Raises:
            UserError: if the tokenizer has tokens of these names already.
        """
        names = cls.tokens(sizes)
        known = tokenizer.get_vocab()
        taken = [name for name in names if name in known]
        if taken:
            raise UserError(f"the backbone's tokenizer has a token {taken[0]} already; dig needs it for Semantic IDs")
        # as they are: a normaliser that puts a mark before words would else hide a token that follows another at once
        tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
        return cls.of(tokenizer, sizes)

    @classmethod
    def of(cls, tokenizer: Any, sizes: list[int]) -> SidVocabulary:
        """Finds the SID tokens in a tokenizer that has them.

        Raises:
            UserError: if one is missing or a level's tokens do not follow each other.
        """
        known = tokenizer.get_vocab()
        first_ids = []
        for level, size in enumerate(sizes):
            ids = [known.get(sid_token(level, code)) for code in range(size)]
            if ids[0] is None or ids != list(range(ids[0], ids[0] + size)):
                raise UserError(
                    f"the tokenizer does not hold the {size} SID tokens of level {level + 1} in order; "
                    "it belongs to other Semantic IDs"
                )
            first_ids.append(ids[0])
        return cls(tuple(sizes), tuple(first_ids))

    @property
    def ids(self) -> Tensor:
        """(tokens,) all SID token ids, level by level."""
        return torch.cat(
            [torch.arange(first, first + size) for first, size in zip(self.first_ids, self.sizes, strict=True)]
        )

    def encode(self, codes: Tensor) -> Tensor:
        """Vocabulary ids (items, levels) of codes (items, levels); -1 stays -1."""
        offsets = torch.tensor(self.first_ids[: codes.shape[1]])
        return torch.where(codes >= 0, codes + offsets, -1)


def spelled_ids(ids: SemanticIds, items: ItemsConfig) -> SemanticIds:
    """The table that prompts, trie and exported model go by.

    Where an item has a token of its own it is the last one, so that a small model can learn each item's company by
    itself, while the codes before it lead the search and share what similar items have in common.
    """
    if not items.own_token:
        return ids
    return ids.with_item_codes(ids.levels if items.codes is None else min(items.codes, ids.levels))
