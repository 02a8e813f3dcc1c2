"""The ablations of mining, labels and pictures run to the report, and each leaves out what it says."""

from pathlib import Path

import polars as pl
import pytest
from support.workplace import SMALL, tokenized_home

from dig import load_config, run_experiment
from dig.quantization import SemanticIds

NAMES = ("no_mining", "no_labels", "text_only", "visual_only")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ablations")
    few = ("sft.epochs=1", "grpo.max_steps=2", "grpo.validate_every=2", f"runs_dir={folder / 'runs'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIG_HOME", str(tokenized_home(folder / "home")))
        found = {name: run_experiment(load_config(f"ablations/{name}", [*SMALL[1:], *few])) for name in NAMES}
    assert all({"popularity", "sft", "grpo"} <= run.metrics.keys() for run in found.values())
    return {name: run.path for name, run in found.items()}


@pytest.mark.parametrize("name", ["no_mining", "visual_only"])
def test_without_mining_there_is_no_interest(runs: dict[str, Path], name: str) -> None:
    assert pl.read_parquet(runs[name] / "interests.parquet").is_empty()
    assert "there are no interests" in (runs[name] / "report.html").read_text()


def test_without_labels_every_interest_is_good(runs: dict[str, Path]) -> None:
    interests = pl.read_parquet(runs["no_labels"] / "interests.parquet")
    assert "lexical" in set(interests["miner"])
    assert (interests["label"] == 1).all() and interests["score"].null_count() == len(interests)
    assert "labels.enabled is false" in (runs["no_labels"] / "report.html").read_text()


def test_text_alone_sees_no_picture(runs: dict[str, Path]) -> None:
    interests = pl.read_parquet(runs["text_only"] / "interests.parquet")
    assert set(interests["miner"]) == {"lexical"} and (interests["kind"] == "text").all()
    assert interests["label"].n_unique() == 2 or interests["score"].null_count() == len(interests)


def test_each_gives_semantic_ids_of_its_own(runs: dict[str, Path]) -> None:
    codes = {name: SemanticIds.load(run / "semantic_ids.parquet").codes[:, 0] for name, run in runs.items()}
    assert all(len(found) == 80 for found in codes.values())
    for name in ("no_mining", "text_only", "visual_only"):
        assert (codes[name] != codes["no_labels"]).any(), name
