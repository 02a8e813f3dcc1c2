"""How items are spelled: their codes, leading codes and a token of their own, or that token alone."""

from __future__ import annotations

import pytest
import tiny
import torch

from dig.config import UserError
from dig.config.schema import PromptConfig
from dig.generation import CatalogueTrie
from dig.generation.vocabulary import spelled_ids

IDS = tiny.ragged_catalogue()


def test_codes_alone_are_the_table_itself():
    assert spelled_ids(IDS, PromptConfig(), from_scratch=True) is IDS
    assert spelled_ids(IDS, PromptConfig(item_token=True, codes=0), from_scratch=False) is IDS  # as the paper spells


@pytest.mark.parametrize(("codes", "kept"), [(None, 3), (2, 2), (1, 1), (0, 0), (9, 3)])
def test_an_items_own_token_ends_it_and_replaces_the_suffix(codes: int | None, kept: int):
    found = spelled_ids(IDS, PromptConfig(item_token=True, codes=codes), from_scratch=True)
    assert found.codes.shape == (len(IDS), kept + 1) and found.sizes == [4] * kept + [len(IDS)]
    assert torch.equal(found.codes[:, :kept], IDS.codes[:, :kept])
    assert found.codes[:, -1].tolist() == list(range(len(IDS)))
    assert found.find(found.codes).tolist() == list(range(len(IDS)))
    trie = CatalogueTrie(tiny.token_sequences(found))
    assert trie.num_items == len(IDS)


def test_codes_that_could_not_tell_items_apart_are_refused():
    for settings in ({"codes": 2}, {"codes": -1, "item_token": True}):
        with pytest.raises(UserError, match=r"prompt\.codes"):
            PromptConfig(**settings)
