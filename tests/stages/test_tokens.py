"""Token arrays of SFT's tasks, and what a pretrained backbone must be able to read of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.tiny import WORDS, pretrained_folder, text_tokenizer
from tokenizers import AddedToken

from datamodules.histories import Ragged
from datamodules.prompts import SidPrompts
from dig.config import UserError
from dig.config.schema import BackboneConfig, PromptConfig
from dig.generation.backbone import build_backbone
from dig.generation.vocabulary import SidVocabulary
from dig.stages.tokens import _check_context


def test_a_sample_that_is_longer_than_the_context_is_refused_before_training() -> None:
    arrays: Any = SimpleNamespace(lengths=Ragged.from_lists([[1] * 5, [1] * 33, []]).lengths)
    reads: Any = SimpleNamespace(knows_text=True, context=32)
    expected = r"^sft\.tasks\.title_history: its longest sample has 33 tokens, and the backbone reads 32; lower"
    with pytest.raises(UserError, match=expected):
        _check_context("title_history", arrays, reads)
    for fits in ({"context": 33}, {"context": None}, {"knows_text": False}):
        _check_context("title_history", arrays, SimpleNamespace(**{**vars(reads), **fits}))  # type: ignore[arg-type]


def test_a_context_that_holds_no_history_is_refused(tmp_path: Path) -> None:
    backbone = build_backbone(BackboneConfig(pretrained=str(pretrained_folder(tmp_path))), [4, 4], 9)
    tokens = backbone.vocabulary.ids.view(2, 4).T
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=False)
    words = len(builder.prefix) + len(builder.suffix)
    with pytest.raises(UserError, match=rf"^the backbone reads {words + 3} tokens, which hold no history: the words"):
        SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=False, context=words + 3)
    assert SidPrompts(tokens, backbone.tokenizer, PromptConfig(), False, context=words + 4).max_history == 1


@pytest.mark.parametrize("token", [": <", " <", ", <"])
def test_a_tokenizer_that_splits_sid_tokens_is_refused_before_training(token: str) -> None:
    """A token of its own that begins before a SID token and ends within it comes first."""
    tokenizer = text_tokenizer()
    tokenizer.add_tokens([AddedToken(token, normalized=False)])
    with pytest.raises(UserError, match=r"splits SID tokens: it reads .* as \["):
        SidVocabulary.add_to(tokenizer, [4, 4])
    assert SidVocabulary.add_to(text_tokenizer(), [4, 4]).first_ids[0] == len(WORDS)
