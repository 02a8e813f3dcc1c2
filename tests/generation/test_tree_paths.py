"""The cache with room: what transformers' own holds, without a copy of the prompts at every step."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache

from dig.generation.tree_paths import PromptCache


def states(length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, length, 4, generator=generator), torch.randn(2, 3, length, 4, generator=generator)


@pytest.mark.parametrize("spare", [0, 3, 10])
def test_it_holds_what_the_dynamic_cache_holds(spare: int):
    ours, theirs = PromptCache(spare), DynamicCache()
    for step, length in enumerate((5, 3, 4)):
        for layer in range(2):
            new = states(length, 10 * step + layer)
            for mine, other in zip(ours.update(*new, layer), theirs.update(*new, layer), strict=True):
                assert torch.equal(mine, other)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_prompts_do_not_move_while_there_is_room():
    cache = PromptCache(6)
    before = cache.update(*states(5, 0), 0)[0].data_ptr()
    for step in (1, 2):
        assert cache.update(*states(3, step), 0)[0].data_ptr() == before
    assert cache.update(*states(1, 3), 0)[0].data_ptr() != before


def test_what_was_fed_can_be_forgotten():
    cache = PromptCache(4)
    prompt = cache.update(*states(5, 0), 0)[0].clone()
    cache.update(*states(2, 1), 0)
    cache.rewind(5)
    keys, _ = cache.update(*states(3, 2), 0)
    assert keys.shape[2] == cache.get_seq_length() == 8
    assert torch.equal(keys[:, :, :5], prompt) and torch.equal(keys[:, :, 5:], states(3, 2)[0])
