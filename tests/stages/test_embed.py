"""embed: vectors of one's own in place of encoded text (entry 21 of the inputs that failed)."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from dig import load_config, run_experiment
from dig.config import Config, UserError
from dig.engine.pipeline import stage_keys
from dig.quantization import SemanticIds

SMALL = [
    "data.shop.items=80",
    "data.shop.users=150",
    "rqvae.codebook_size=[12,6]",
    "visual.model=null",
    "mining.miners=[lexical]",
    "rqvae.tokenizer=kmeans",
    "logging.progress=false",
]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))

    def configure(*settings: str) -> Config:
        return load_config("quickstart", [*SMALL, f"runs_dir={tmp_path}", *settings])

    return configure


def test_own_vectors_make_semantic_ids_in_any_order_of_rows(configured, tmp_path: Path, capsys):
    prepared = run_experiment(configured("stages=[prepare]")).artifacts["prepare"]
    items = pl.read_parquet(next(prepared.rglob("items.parquet")))["item_id"].to_list()
    assert len(items) == 80
    vectors = np.random.default_rng(0).normal(size=(80, 7)).astype(np.float32)
    codes, keys = [], []
    for name, order in (("a.npz", np.arange(80)), ("b.npz", np.random.default_rng(1).permutation(80))):
        ids = [items[row] for row in order] + ["left out by the filters"]
        np.savez(tmp_path / name, item_ids=np.array(ids), vectors=np.vstack([vectors[order], np.ones((1, 7))]))
        config = configured("stages=[tokenize]", f"embedding.vectors={tmp_path / name}")
        run = run_experiment(config)
        assert set(run.artifacts) == {"prepare", "embed", "tokenize"}  # no text is mined, labelled or encoded
        own = load_file(run.artifacts["embed"] / "embeddings.safetensors")["embeddings"]
        assert torch.equal(own, torch.from_numpy(vectors))
        codes.append(SemanticIds.load(run.artifacts["tokenize"] / "semantic_ids.parquet").codes)
        keys.append(stage_keys(config)["embed"])
    assert torch.equal(*codes)
    said = capsys.readouterr().out
    assert "1 of 81 vectors of" in said and "80 vectors of 7 dimensions" in said
    (tmp_path / "moved.npz").write_bytes((tmp_path / "b.npz").read_bytes())
    moved = configured(f"embedding.vectors={tmp_path / 'moved.npz'}")
    assert stage_keys(moved)["embed"] == keys[1] != keys[0]
    assert stage_keys(moved)["embed"] != stage_keys(configured())["embed"]
    np.savez(tmp_path / "few.npz", item_ids=np.array(items[1:]), vectors=vectors[1:])
    with pytest.raises(UserError, match="1 of 80 items have no vector"):
        run_experiment(configured("stages=[embed]", f"embedding.vectors={tmp_path / 'few.npz'}"))


def test_a_file_that_is_not_there_is_said_before_anything_is_built(configured, tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file"):
        run_experiment(configured(f"embedding.vectors={tmp_path / 'nowhere.npz'}"))
    assert not (tmp_path / "home").exists()
