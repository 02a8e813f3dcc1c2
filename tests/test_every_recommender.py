"""A recommender is known wherever recommenders are told apart: who adds one and forgets a place is told which."""

from __future__ import annotations

import pytest

from dig.config import BASELINES, load_config
from dig.recommender.loading import _LOADERS
from dig.report.formats import recommender_name
from dig.report.plots import COLOURS, colour_index
from dig.stages import BUILT
from dig.stages.evaluation import MEASURED
from dig.sweeps.settings import reported
from dig.tracking.logger import samples_a_rank

COUNTED = ("popularity", "item_knn")
"""Recommenders that count and are not trained."""
TRAINED = [name for name in MEASURED if name not in COUNTED]


def test_each_has_a_stage_and_a_loader():
    assert set(MEASURED) <= set(BUILT)
    assert set(_LOADERS) == set(MEASURED)


def test_each_has_a_colour_of_its_own():
    assert len({colour_index(name) for name in MEASURED}) == len(MEASURED) <= COLOURS


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_has_a_name_a_batch_size_and_metrics(name: str):
    config = load_config("quickstart", [f"baselines=[{','.join(BASELINES)}]"])
    assert recommender_name(name).lower() == name and recommender_name(name) != name
    assert isinstance(samples_a_rank(config, name), int)
    assert {"train/loss", "valid/ndcg@10"} <= set(reported(config)[name])
