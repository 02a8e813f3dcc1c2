"""A recommender that cannot be measured is said in a line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from datamodules.splits import Sequences
from dig import load_config
from dig.config import UserError
from dig.engine.pipeline import run_experiment
from dig.evaluation import Scorer
from dig.stages.evaluation import catalogue_facts, training_counts


class Broken(Scorer):
    def scores(self, histories):
        return torch.full((len(histories), 80), float("nan"))


def test_a_nan_score_names_recommender_and_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("dig.stages.evaluation.load_ranker", lambda *_: Broken())
    config = load_config(
        "quickstart",
        [
            "data.shop.users=60",
            "data.shop.items=80",
            "stages=[report]",
            "baselines=[popularity]",
            f"runs_dir={tmp_path / 'runs'}",
        ],
    )
    with pytest.raises(UserError, match=r"report: popularity: 60 examples of valid: example 0 has a NaN score"):
        run_experiment(config)
    assert not list((tmp_path / "home" / "artifacts" / "evaluation").glob("*/manifest.json"))


def test_a_run_without_a_recommender_has_a_page_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    config = load_config(
        "quickstart",
        [
            "data.shop.users=60",
            "data.shop.items=80",
            "stages=[report]",
            "baselines=[]",
            f"runs_dir={tmp_path / 'runs'}",
        ],
    )
    run = run_experiment(config)
    assert run.metrics == {}
    assert "No recommender of this run has been tested." in (run.path / "report.html").read_text(encoding="utf-8")
    assert len(pl.read_parquet(run.path / "recommendations.parquet")) == 0


def test_who_buys_again_is_one_buyer():
    data = Sequences.from_lists(["u", "v"], [[0, 0, 2, 1, 1], [0, 2, 2, 3, 3]])  # the last two of each are held out
    counts, buyers = training_counts(data, 4)
    assert counts.tolist() == [3, 0, 3, 0] and buyers.tolist() == [2, 0, 2, 0]
    facts = catalogue_facts(data, pl.DataFrame({"item_id": list("abcd")}))
    assert facts.counts.tolist() == [3, 0, 3, 0] and facts.buyers.tolist() == [2, 0, 2, 0] and facts.users == 2
