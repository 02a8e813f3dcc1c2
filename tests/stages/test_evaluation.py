"""A recommender that cannot be measured is said in a line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from dig import load_config
from dig.config import UserError
from dig.evaluation import Scorer
from dig.pipeline import run_experiment


class Broken(Scorer):
    def scores(self, histories):
        return torch.full((len(histories), 80), float("nan"))


def test_a_nan_score_names_recommender_and_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("dig.stages.evaluation.load_ranker", lambda *_: Broken())
    config = load_config("quickstart", ["data.shop.users=60", "data.shop.items=80", "stages=[report]",
                                        "baselines=[popularity]", f"runs_dir={tmp_path / 'runs'}"])  # fmt: skip
    with pytest.raises(UserError, match=r"report: popularity: 60 examples of valid: example 0 has a NaN score"):
        run_experiment(config)
    assert not list((tmp_path / "home" / "artifacts" / "evaluation").glob("*/manifest.json"))


def test_a_run_without_a_recommender_has_a_page_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    config = load_config("quickstart", ["data.shop.users=60", "data.shop.items=80", "stages=[report]", "baselines=[]",
                                        f"runs_dir={tmp_path / 'runs'}"])  # fmt: skip
    run = run_experiment(config)
    assert run.metrics == {} and (run.path / "report.html").is_file()
    assert len(pl.read_parquet(run.path / "recommendations.parquet")) == 0
