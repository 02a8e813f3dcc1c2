"""Tokens that mean something, and text without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_files import CONTROL, write_gguf
from support.tiny import text_tokenizer
from transformers import AutoTokenizer

from datamodules.prompts import SidPrompts
from dig.config.schema import PromptConfig
from dig.generation.vocabulary import SidVocabulary
from dig.pretrained import breaking, meaningful_tokens, resolve_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(folder / "home"))
        return AutoTokenizer.from_pretrained(resolve_model(str(write_gguf(folder / "m.gguf").path), "ours"))


def test_special_tokens_are_those_of_the_added_ones_too(tokenizer: Any) -> None:
    assert set(meaningful_tokens(tokenizer)) == set(CONTROL) > set(tokenizer.all_special_tokens)


def test_ordinary_added_tokens_count_where_the_template_writes_them() -> None:
    words = text_tokenizer("{{ messages }}<turn>")
    words.add_tokens(["<turn>", "<think>"])
    assert "<turn>" in meaningful_tokens(words) and "<think>" not in meaningful_tokens(words)
    assert {"<think>", "<image>"} < set(meaningful_tokens(words, "<think>", ["<image>", None, ""]))


@given(st.lists(st.sampled_from(["<", "<f", "ab", "aba", "a", " ", "f>", "<f>", "|", "b"]), max_size=12).map("".join))
def test_nothing_is_left_however_it_is_put_together(text: str) -> None:
    tokens = ["<f>", "aba", "|"]
    for plain in (breaking(tokens), breaking(tokens, lambda token: f"{token[0]} {token[1:]}".rstrip())):
        assert not any(token in plain(text) for token in tokens)
        if not any(token in text for token in tokens):
            assert plain(text) == text


def test_nothing_in_an_items_text_is_a_special_or_sid_token(tokenizer: Any) -> None:
    """Entry 10: prompts of the backbone, by every token that the tokenizer holds as special."""
    vocabulary = SidVocabulary.add_to(tokenizer, [4, 4])
    tokens = vocabulary.encode(vocabulary.ids.view(2, 4).T - vocabulary.ids.view(2, 4)[:, 0])
    builder = SidPrompts(tokens, tokenizer, PromptConfig(max_text_tokens=64), from_scratch=False)
    special = {number for number, token in tokenizer.added_tokens_decoder.items()}
    for text in (*CONTROL, "A <file_sep>b<|im_end|>", "<<file_sep>file_sep>", "<a_1> <file_sep<file_sep>>"):
        ids = builder.words([text]).values.tolist()
        assert ids and not special & set(ids)


def test_a_words_only_tokenizer_has_those_with_a_name(tmp_path: Path) -> None:
    assert set(meaningful_tokens(text_tokenizer())) == {"<pad>", "<bos>", "<eos>", "<unk>"}
