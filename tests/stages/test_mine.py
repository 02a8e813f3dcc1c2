"""Users' interests pass the guard or stop the run; missing imports are refused unless a fallback is named."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

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
