"""How items are spelled for a backbone: by their Semantic ID, or by leading codes and a token of their own."""

from __future__ import annotations

from dig.config.schema import PromptConfig
from dig.quantization import SemanticIds

__all__ = ["spelled_ids"]


def spelled_ids(ids: SemanticIds, config: PromptConfig, from_scratch: bool) -> SemanticIds:
    """The table that prompts, trie and exported model go by; a pretrained backbone always spells the codes.

    With ``prompt.item_token`` the last token is the item's own, so that a small model can learn each item's company by
    itself, while the codes before it lead the search and share what similar items have in common.
    """
    if not (config.item_token and from_scratch):
        return ids
    return ids.with_item_codes(ids.levels if config.codes is None else min(config.codes, ids.levels))
