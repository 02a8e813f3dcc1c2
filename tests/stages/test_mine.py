"""Users' interests pass the guard or stop the run; missing imports are refused unless a fallback is named."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from support.tiny import byte_tokenizer, tiny_model

from dig.config import UserError, load_config
from dig.engine.pipeline import run_experiment

SHOP = {"u": ["a", "b", "c", "d"], "v": ["b", "c", "a"], "w": ["c", "d", "a", "b"]}
SEEN = {"u": ["a", "b"], "v": ["b", "c", "a"], "w": ["c", "d", "a"]}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rows = [f"{user},{item},{time}" for user, items in SHOP.items() for time, item in enumerate(items)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    items = [{"item_id": item, "title": f"warm woollen hat {item}"} for item in "abcd"]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    texts = [
        {"user_id": user, "miner": "m", "text": f"likes {user}", "items_seen": seen} for user, seen in SEEN.items()
    ]
    (tmp_path / "users.jsonl").write_text("\n".join(json.dumps(text) for text in texts))
    return tmp_path


def mined(*overrides: str) -> Path:
    config = load_config(None, ["data.path=.", "stages=[mine]", "logging.progress=false", *overrides])
    run_experiment(config)
    return max(Path("home/artifacts/mine").glob("*/interests.parquet"), key=lambda path: path.stat().st_mtime).parent


def test_leaking_users_stop_the_run_or_are_dropped(capsys: pytest.CaptureFixture[str]):
    found = r"users.jsonl saw held-out items: the test items of 1 users, the validation items of 1 more; .* the 1 clean"
    with pytest.raises(UserError, match=found):
        mined("mining.user_interests=users.jsonl")
    folder = mined("mining.user_interests=users.jsonl", "data.leaks=drop")
    assert pl.read_parquet(folder / "user_interests.parquet")["user_id"].to_list() == ["u"]
    assert "texts of 1 users that saw no held-out item" in capsys.readouterr().out


def test_texts_that_do_not_say_what_they_saw_are_refused(workplace: Path):
    (workplace / "users.jsonl").write_text('{"user_id": "u", "miner": "m", "text": "likes"}\n')
    with pytest.raises(
        UserError, match="items_seen must be a list of item ids, so that held-out items can be looked for"
    ):
        mined("mining.user_interests=users.jsonl")
    with pytest.raises(UserError, match=r"mining\.user_interests: there is no file none\.jsonl"):
        mined("mining.user_interests=none.jsonl")


def test_missing_imports_are_refused_unless_a_fallback_stands_in(workplace: Path, capsys: pytest.CaptureFixture[str]):
    keys = ("mining.miners=[imported]", "mining.imports=[interests.jsonl]")
    with pytest.raises(UserError, match=r"mining\.imports: there is no file interests\.jsonl"):
        mined(*keys)
    folder = mined(*keys, "mining.fallback=lexical")
    assert set(pl.read_parquet(folder / "interests.parquet")["miner"]) == {"lexical"}
    assert "there is no file interests.jsonl; the miner lexical stands in" in capsys.readouterr().out
    record = {"item_id": "a", "miner": "llm", "kind": "text", "interests": [{"text": "cosy evenings"}]}
    (workplace / "interests.jsonl").write_text(json.dumps(record))
    folder = mined(*keys, "mining.fallback=lexical")  # another artifact, now that the file is there
    assert set(pl.read_parquet(folder / "interests.parquet")["miner"]) == {"llm"}


@pytest.fixture
def local_miner(workplace: Path) -> tuple[str, ...]:
    """A model of random weights that is held to the schema, so that all of its answers are some."""
    tiny_model("llama", vocabulary=len(byte_tokenizer()), max_position_embeddings=4096).save_pretrained("model")
    byte_tokenizer("{% for turn in messages %}{{ turn['content'] }}{% endfor %}").save_pretrained("model")
    return (
        "mining.miners=[local]",
        "mining.models.local.kind=transformers",
        "mining.models.local.model=./model",
        "mining.models.local.interests_prompt=interests-small-v1",
        "mining.models.local.max_output=4000",
    )


def test_models_are_asked_about_the_items_that_are_bought_most(local_miner, capsys: pytest.CaptureFixture[str]):
    """Entry 12: `mining.max_items`; b is in the training part twice, and of the others a comes first."""
    keys = (*local_miner, "mining.grounded=false")
    folder = mined(*keys, "mining.max_items=2")
    assert pl.read_parquet(folder / "interests.parquet")["item_id"].unique().sort().to_list() == ["a", "b"]
    told = capsys.readouterr().out
    assert "models were asked about 2 of 4 items (mining.max_items)" in told and "local: 2 items" in told
    everything = mined(*keys)
    assert everything != folder  # another artifact
    assert pl.read_parquet(everything / "interests.parquet")["item_id"].n_unique() == 4
    told = capsys.readouterr().out
    assert "local: 4 items, 2 known, 2 answered" in told and "max_items" not in told


def test_what_the_items_do_not_bear_out_is_dropped_and_said(local_miner, capsys: pytest.CaptureFixture[str]):
    """Entry 2: rubbish is not accepted, however well formed."""
    folder = mined(*local_miner)
    assert pl.read_parquet(folder / "interests.parquet").is_empty()
    told = capsys.readouterr().out
    assert "have nothing of the item's words" in told and "4 answered" in told
    assert "0 interests of 0 items" in told and "that no item bears out" in told


def test_answers_that_are_cut_short_say_which_key_to_raise(local_miner):
    """Entry 3: "cut short" of a local model names `max_output`."""
    with pytest.raises(UserError, match=r"4 cut short.*Raise mining\.models\.local\.max_output=20"):
        mined(*local_miner, "mining.models.local.max_output=20")


def test_a_prompt_of_a_model_is_named_where_it_is_wrong(local_miner):
    with pytest.raises(UserError, match=r"mining\.models\.local\.interests_prompt=interests-smal: no such prompt"):
        mined(*local_miner, "mining.models.local.interests_prompt=interests-smal")
