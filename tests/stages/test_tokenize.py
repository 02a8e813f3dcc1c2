"""tokenize: what no tokenizer can work with is said in a line, and health tells what was done."""

import json
from pathlib import Path

import pytest
import torch

from dig import load_config, run_experiment
from dig.config import UserError
from dig.quantization import ItemFeatures, SemanticIds
from dig.stages.tokenize import _warn_of_few

SMALL = [
    "stages=[tokenize]",
    "data.shop.items=80",
    "data.shop.users=150",
    "rqvae.codebook_size=[12,6]",
    "visual.model=null",
    "mining.miners=[lexical]",
    "rqvae.epochs=15",
    "logging.progress=false",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tokenizers: what comes before them is done once."""
    return tmp_path_factory.mktemp("tokenize")


def test_one_item_and_equal_items_are_refused():
    with pytest.raises(UserError, match="one item"):
        _warn_of_few(ItemFeatures(torch.randn(1, 4)), [4])
    with pytest.raises(UserError, match="all items have the same vector"):
        _warn_of_few(ItemFeatures(torch.ones(9, 4)), [4])


def test_fewer_items_than_codes_are_said(capsys: pytest.CaptureFixture[str]):
    _warn_of_few(ItemFeatures(torch.randn(30, 4)), [256, 16])
    assert "30 items cannot use 256 codes per level; a rqvae.codebook_size of about 5" in capsys.readouterr().out
    _warn_of_few(ItemFeatures(torch.randn(30, 4)), [16])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("tokenizer", ["rqvae", "kmeans", "balanced-kmeans"])
def test_every_tokenizer_leaves_a_table_its_health_and_a_picture(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
):
    monkeypatch.setenv("DIG_HOME", str(home))
    run = run_experiment(load_config("quickstart", [*SMALL, f"rqvae.tokenizer={tokenizer}", f"runs_dir={tmp_path}"]))
    folder = run.artifacts["tokenize"]
    ids = SemanticIds.load(folder / "semantic_ids.parquet")
    health = json.loads((folder / "health.json").read_text())
    assert len(ids) == health["items"] == 80 and health["tokenizer"] == tokenizer
    assert 0 < health["reconstruction"] < 1
    assert health["sizes"] == [12, 6] and len(health["usage"]) == len(health["neighbour_lift"]) == 2
    assert health["collisions"] == "reassign"
    assert health["collision_rate_after"] == pytest.approx(ids.collision_rate)
    assert 0 < ids.collision_rate < health["collision_rate"]  # 72 codes for 80 items: some have a suffix
    assert len(ids.codes.unique(dim=0)) == 80
    assert (folder / "codes.svg").read_text().startswith("<svg")
    assert (folder / "tokenizer.safetensors").is_file()
    assert not (folder / "items_seen.parquet").exists()


def test_codes_that_learn_from_purchases_say_what_they_saw(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(home))
    settings = [*SMALL, "rqvae.info_nce_weight=0.1", "rqvae.collaborative_weight=0.1", f"runs_dir={tmp_path}"]
    run = run_experiment(load_config("quickstart", settings))
    assert (run.artifacts["tokenize"] / "items_seen.parquet").is_file()
