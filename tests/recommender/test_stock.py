"""What is in stock: every kind of recommender ranks it as brute force over nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from datamodules.histories import Histories
from datamodules.item_sequences import HistoryTokens
from datamodules.prompts import ItemPrompts
from dig.config.schema import PromptConfig
from dig.evaluation.beams import BeamRanker
from dig.evaluation.rankers import Ranker, Scorer
from dig.generation import score_catalogue
from dig.recommender import PolicyRanker, Recommender
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.model import EIMF
from dig.recommenders.intrr.ranker import IntRRRanker
from dig.recommenders.item_knn import ItemKNN, ItemKNNConfig
from dig.recommenders.popularity import Popularity
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec
from dig.recommenders.tiger import TigerConfig
from dig.recommenders.tiger.model import PAD, Tiger, build_t5, sid_vocabulary

IDS = tiny.ragged_catalogue()
ITEMS = len(IDS)
HISTORIES = [np.array([3, 5]), np.array([0, 1, 2, 7, 9, 11, 14]), np.array([8]), np.array([4, 4, 6])]
STOCK = [5, 0, 9, 3, 22, 17, 6, 4]


def noisy(model: Any) -> Any:
    """Weights that keep scores apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


def policy() -> Ranker:
    backbone = tiny.scratch_backbone(IDS)
    noisy(backbone.model)
    return PolicyRanker(backbone, IDS, PromptConfig(), ITEMS, 3, "cpu")


def tiger() -> Ranker:
    torch.manual_seed(0)
    model = noisy(build_t5(IDS.sizes, TigerConfig(layers=1, d_model=16, d_ff=32, heads=2, d_kv=8)))
    tokens = HistoryTokens(sid_vocabulary(IDS.sizes).encode(IDS.codes), max_history=4, pad_id=PAD)
    return Tiger(model, tokens, ITEMS, 3, "cpu")


def intrr() -> Ranker:
    return IntRRRanker(tiny.tiny_intrr(IDS), ItemPrompts(ITEMS, PromptConfig(max_history=8)), ITEMS, 3, "cpu")


def trained_on(kind: type[Popularity | ItemKNN]) -> Ranker:
    generator = np.random.default_rng(0)
    train = Histories.from_lists([generator.choice(ITEMS, size=6, replace=False) for _ in range(40)])
    if kind is Popularity:
        return Popularity.fit(train, ITEMS)
    return ItemKNN.fit(train, ITEMS, ItemKNNConfig())


class Plain:
    """Somebody's own ranker, which knows nothing of restrictions."""

    def rank(self, histories, k):
        scores = torch.rand(len(histories), ITEMS, generator=torch.Generator().manual_seed(1))
        values, items = scores.sort(dim=1, descending=True)
        return items[:, :k], values[:, :k]


RANKERS: dict[str, Callable[[], Ranker]] = {
    "policy": policy,
    "tiger": tiger,
    "intrr": intrr,
    "popularity": lambda: trained_on(Popularity),
    "item_knn": lambda: trained_on(ItemKNN),
    "sasrec": lambda: noisy(SASRec(ITEMS, SASRecConfig(hidden_size=16, heads=2, layers=1))),
    "eimf": lambda: noisy(EIMF(ITEMS, EIMFConfig(hidden_size=16, interests=2, layers=1))),
    "own": Plain,
}


def every_score(ranker: Ranker, allowed: list[list[int]]) -> torch.Tensor:
    """(batch, items) scores, -inf of what a row may not have, by ways that know no search and no ranking."""
    if isinstance(ranker, Scorer):
        scores = ranker.scores(HISTORIES).clone()
    elif isinstance(ranker, BeamRanker):
        prompts = ranker.prompts(HISTORIES)
        only = torch.tensor([row + [-1] * (ITEMS - len(row)) for row in allowed])
        return score_catalogue(
            ranker.model, prompts.input_ids, prompts.attention_mask, ranker.trie, restriction=ranker.trie.only(only)
        )
    else:
        items, values = ranker.rank(HISTORIES, ITEMS)
        scores = torch.empty(len(HISTORIES), ITEMS).scatter(1, items, values)
    for row, items in enumerate(allowed):
        scores[row, [item for item in range(ITEMS) if item not in items]] = float("-inf")
    return scores


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("name", RANKERS)
@torch.inference_mode()
def test_entry_21_stock_is_ranked_as_by_brute_force(name: str, unseen: bool):
    """Entry 21: what is out of stock is not there for any recommender, with the history or without."""
    ranker = RANKERS[name]()
    recommender = Recommender(ranker, IDS.item_ids)
    histories = [[IDS.item_ids[row] for row in history] for history in HISTORIES]
    items, scores = recommender.recommend(histories, 7, unseen, stock=[IDS.item_ids[row] for row in STOCK])
    allowed = [[item for item in STOCK if not (unseen and item in history)] for history in HISTORIES]
    exact = every_score(ranker, allowed)
    for row, left in enumerate(allowed):
        best = sorted(left, key=lambda item: (-float(exact[row, item]), item))[:7]
        assert items[row] == [IDS.item_ids[item] for item in best]
        torch.testing.assert_close(scores[row, : len(best)], exact[row, best].float(), atol=1e-4, rtol=1e-5)
        assert torch.isneginf(scores[row, len(best) :]).all()


@pytest.mark.parametrize("name", RANKERS)
def test_a_stock_of_everything_is_no_restriction(name: str):
    recommender = Recommender(RANKERS[name](), IDS.item_ids)
    histories = [[IDS.item_ids[row] for row in history] for history in HISTORIES]
    for unseen in (False, True):
        free = recommender.recommend(histories, 6, unseen)
        stocked = recommender.recommend(histories, 6, unseen, stock=set(IDS.item_ids))
        assert free[0] == stocked[0]
        torch.testing.assert_close(free[1], stocked[1])


def test_a_search_of_few_beams_stays_in_stock():
    """The restriction holds at every level, so that few beams are not spent on branches that are sold out."""
    ranker = policy()
    ranker.num_beams = 2
    recommender = Recommender(ranker, IDS.item_ids)
    for item in IDS.item_ids:
        assert recommender.recommend([[IDS.item_ids[0]]], 1, False, stock=[item])[0] == [[item]]
