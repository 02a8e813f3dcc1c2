"""The recommender on catalogue rows: histories left out inside the search, the same in any batch."""

from __future__ import annotations

import numpy as np
import tiny
import torch

from dig.config.schema import PromptConfig
from dig.evaluation import evaluate
from dig.generation import score_catalogue
from dig.recommender import Recommender

IDS = tiny.ragged_catalogue()
HISTORIES = [np.array([3, 5]), np.array([0, 1, 2, 7, 9, 11, 14]), np.array([8]), np.array([4, 4, 6])]


def recommender(batch_size: int = 8, num_beams: int = 24) -> Recommender:
    backbone = tiny.scratch_backbone(IDS)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return Recommender(backbone, IDS, PromptConfig(), num_beams, batch_size, "cpu")


def test_unseen_items_are_ranked_by_their_renormalised_probabilities():
    found = recommender()
    items, scores = found.rank_unseen(HISTORIES, 24)
    for row, history in enumerate(HISTORIES):
        prompts = found.builder.prompts([history])
        left = found.trie.without(torch.from_numpy(np.unique(history))[None])
        exact = score_catalogue(found.model, prompts.input_ids, prompts.attention_mask, found.trie, restriction=left)[0]
        kept = 24 - len(np.unique(history))
        torch.testing.assert_close(scores[row, :kept], exact[items[row, :kept]], atol=1e-4, rtol=1e-5)
        assert sorted(items[row, :kept].tolist()) == sorted(set(range(24)) - set(history.tolist()))
        assert (items[row, kept:] == -1).all()


def test_a_ranking_does_not_depend_on_its_batch():
    together, alone = recommender(num_beams=6), recommender(batch_size=1, num_beams=6)
    for way in ("rank", "rank_unseen"):
        assert torch.equal(getattr(together, way)(HISTORIES, 5)[0], getattr(alone, way)(HISTORIES, 5)[0])


def test_more_items_than_the_catalogue_has_end_in_minus_one():
    items, scores = recommender().rank(HISTORIES, 30)
    assert items.shape == scores.shape == (4, 30)
    assert (items[:, 24:] == -1).all() and torch.isneginf(scores[:, 24:]).all()


def test_the_harness_asks_for_unseen_items():
    found = evaluate(recommender(), HISTORIES, np.array([1, 3, 2, 9]), [5], 5, 2, mask_history=True, description="test")
    for row, history in enumerate(HISTORIES):
        assert not set(found.ranked[row].tolist()) & set(history.tolist())
