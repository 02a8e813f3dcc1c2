"""SID tokens in a tokenizer: their names, their order, their ids; and how items are spelled for a backbone."""

from __future__ import annotations

import pytest
import torch
from support import tiny

from dig.config import UserError
from dig.config.schema import ItemsConfig
from dig.generation import CatalogueTrie, SidVocabulary
from dig.generation.vocabulary import sid_token, spelled_ids

IDS = tiny.ragged_catalogue()


def test_tokens_are_named_by_level_and_code():
    assert sid_token(0, 12) == "<a_12>" and sid_token(3, 0) == "<d_0>"
    assert SidVocabulary.tokens([2, 1, 2]) == ["<a_0>", "<a_1>", "<b_0>", "<c_0>", "<c_1>"]


def test_tokens_are_added_behind_the_text_and_spelled_as_one_token_each():
    tokenizer = tiny.text_tokenizer()
    words = len(tokenizer)
    vocabulary = SidVocabulary.add_to(tokenizer, [3, 2])
    assert len(tokenizer) == words + 5
    assert vocabulary == SidVocabulary((3, 2), (words, words + 3)) == SidVocabulary.of(tokenizer, [3, 2])
    assert vocabulary.ids.tolist() == list(range(words, words + 5))
    assert tokenizer.encode("item <a_2> <b_0>", add_special_tokens=False)[-2:] == [words + 2, words + 3]


def test_codes_become_ids_and_a_missing_suffix_stays_missing():
    vocabulary = SidVocabulary((3, 2, 4), (10, 50, 20))
    codes = torch.tensor([[0, 0, -1], [2, 1, 3]])
    assert vocabulary.encode(codes).tolist() == [[10, 50, -1], [12, 51, 23]]
    assert vocabulary.encode(codes[:, :2]).tolist() == [[10, 50], [12, 51]]  # a table without collisions has no suffix


def test_a_tokenizer_with_such_a_token_is_refused():
    tokenizer = tiny.text_tokenizer()
    tokenizer.add_tokens(["<b_1>"])
    with pytest.raises(UserError, match="<b_1>"):
        SidVocabulary.add_to(tokenizer, [2, 2])


@pytest.mark.parametrize(("sizes", "level"), [([2, 3], 2), ([3, 2], 1), ([2, 2, 1], 3)])
def test_a_tokenizer_of_other_semantic_ids_is_refused(sizes: list[int], level: int):
    tokenizer = tiny.text_tokenizer()
    SidVocabulary.add_to(tokenizer, [2, 2])
    with pytest.raises(UserError, match=f"level {level} in order; it belongs to other Semantic IDs"):
        SidVocabulary.of(tokenizer, sizes)


def test_codes_alone_are_the_table_itself():
    assert spelled_ids(IDS, ItemsConfig()) is IDS
    assert spelled_ids(IDS, ItemsConfig("one", codes=0)) is IDS


@pytest.mark.parametrize(("codes", "kept"), [(None, 3), (2, 2), (1, 1), (0, 0), (9, 3)])
@pytest.mark.parametrize("representation", ["token", "composed"])
def test_an_items_own_token_ends_it_and_replaces_the_suffix(representation: str, codes: int | None, kept: int):
    found = spelled_ids(IDS, ItemsConfig(representation, codes))
    assert found.codes.shape == (len(IDS), kept + 1) and found.sizes == [4] * kept + [len(IDS)]
    assert torch.equal(found.codes[:, :kept], IDS.codes[:, :kept])
    assert found.codes[:, -1].tolist() == list(range(len(IDS)))
    assert found.find(found.codes).tolist() == list(range(len(IDS)))
    trie = CatalogueTrie(tiny.token_sequences(found))
    assert trie.num_items == len(IDS)


def test_a_number_of_codes_below_0_is_refused():
    with pytest.raises(UserError, match=r"items\.codes must not be negative"):
        ItemsConfig("token", codes=-1)
