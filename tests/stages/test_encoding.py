"""Which vectors are missing is rank 0's to say, whatever another job adds to the cache meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dig.config import UserError, load_config
from dig.embeddings.cache import VectorCache, content_keys
from dig.engine.artifacts import ArtifactStore
from dig.engine.stage import StageContext
from dig.stages.encoding import absent

KEYS = content_keys(["mug", "pot", "pan", "lid"])


def context(root: Path) -> StageContext:
    return StageContext(load_config("quickstart", ["trainer.timeout=1"]), {}, ArtifactStore(root), root)


def filled(folder: Path, rows: list[int]) -> VectorCache:
    VectorCache(folder).add(KEYS[rows], torch.zeros(len(rows), 2))
    return VectorCache(folder)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    return monkeypatch


def test_the_other_rank_sees_what_rank_0_saw(tmp_path: Path, ranks: pytest.MonkeyPatch) -> None:
    first = absent(context(tmp_path), tmp_path / "key.work", "embed", filled(tmp_path / "vectors", [1]), KEYS)
    assert first.tolist() == [0, 2, 3]
    ranks.setenv("RANK", "1")
    later = filled(tmp_path / "vectors", [0, 3])  # by another job
    assert np.array_equal(absent(context(tmp_path), tmp_path / "key.work", "embed", later, KEYS), first)


def test_rank_0_may_be_done_before_the_other_looks(tmp_path: Path, ranks: pytest.MonkeyPatch) -> None:
    work = tmp_path / "key.work"
    cache = filled(tmp_path / "vectors", [0])
    assert absent(context(tmp_path), work, "embed", cache, KEYS).size == 3  # a launch that was killed
    assert absent(context(tmp_path), work, "embed", filled(tmp_path / "vectors", [1, 2, 3]), KEYS).size == 0
    shutil.rmtree(work)  # sealed
    ranks.setenv("RANK", "1")
    assert absent(context(tmp_path), work, "embed", cache, KEYS).size == 0


def test_without_a_word_of_rank_0_in_this_launch_it_gives_up(tmp_path: Path, ranks: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path / "vectors", [1])
    absent(context(tmp_path), tmp_path / "key.work", "embed", cache, KEYS)
    ranks.setenv("RANK", "1")
    ranks.setenv("TORCHELASTIC_RUN_ID", "another")
    with pytest.raises(UserError, match="rank 1 has seen no sign of life from rank 0"):
        absent(context(tmp_path), tmp_path / "key.work", "embed", cache, KEYS)


def test_one_process_decides_alone_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert absent(context(tmp_path), tmp_path, "embed", filled(tmp_path / "vectors", [2]), KEYS).tolist() == [0, 1, 3]
    assert "embed: 1 of 4 vectors come from the cache" in capsys.readouterr().out
    assert absent(context(tmp_path), tmp_path, "embed", filled(tmp_path / "vectors", [0, 1, 3]), KEYS).size == 0
    assert not (tmp_path / "scratch").exists()
