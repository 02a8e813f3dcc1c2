"""What later stages would refuse is found by ``dig.data validate EXPERIMENT``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.preparation import prepare
from datamodules.sources import read_source
from dig.config import load_config
from dig.data import main
from dig.data_commands import find_refusals
from dig.engine.console import console


def shop(folder: Path, length: int = 4, items: int = 12, **fields: object) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [f"u{user},i{(user + n) % items},{n}" for user in range(20) for n in range(length)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    records = [{"item_id": f"i{n}", "title": f"Title {n}", **fields} for n in range(items)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


def refusals(folder: Path, *overrides: str) -> list[tuple[str, str]]:
    config = load_config("own", [f"data.path={folder}", *overrides])
    with console.capture():
        return find_refusals(prepare(read_source(config.data), config.data), config)


def test_entry_9_sound_data_have_none(tmp_path: Path):
    """Entry 9: what training takes is not a problem, however small the shop."""
    assert refusals(shop(tmp_path)) == []


@pytest.mark.parametrize(
    ("settings", "overrides", "stage", "text"),
    [
        ({"length": 3}, [], "sft", "no user has two items in the training part"),
        ({"title": None}, [], "embed", "none of the 12 items has any text in embedding.fields="),
        ({}, ["embedding.fields=[brand]"], "embed", "none of the 12 items has any text"),
        ({}, ["grpo.rollouts=beam"], "grpo", "grpo.group_size=16 is more than the 12 items"),
        ({}, ["visual.model=ViT-B-32", "visual.pretrained=openai"], "pictures", "no item names a picture"),
        (
            {"image": "gone.png"},
            ["visual.model=ViT-B-32", "visual.pretrained=openai"],
            "pictures",
            "not one of the 12 pictures",
        ),
        ({}, ["mining.user_interests=none.jsonl"], "mine", "there is no file none.jsonl"),
        ({"items": 1}, [], "tokenize", "the catalogue has one item"),
    ],
)
def test_entry_9_what_later_stages_refuse(tmp_path: Path, settings: dict, overrides: list[str], stage: str, text: str):
    """Entry 9: found where the data are checked, not after the stages before."""
    found = refusals(shop(tmp_path, **settings), *overrides)
    assert [(where, text in said) for where, said in found] == [(stage, True)]


def test_entry_9_interests_that_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Entry 9: users' interests that saw a test item are an error of the data."""
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "shop")
    line = {"user_id": "u0", "miner": "m", "text": "likes tea", "items_seen": ["i0", "i1", "i3"], "rank": 1}
    Path("seen.jsonl").write_text(json.dumps(line) + "\n")
    Path("mine.yaml").write_text("extends: own\ndata: {path: shop}\nmining: {user_interests: seen.jsonl}\n")
    assert main(["validate", "mine.yaml"]) == 1
    said = capsys.readouterr().out
    assert "error: mine: seen.jsonl saw held-out items: the test items of 1 users" in said
    assert "1 error, 0 notes" in said
    assert main(["validate", "mine.yaml", "data.leaks=drop", "data.k_core=50", "data.split=published"]) == 1
    said = capsys.readouterr().out
    assert "error: prepare: no user is left: data.k_core=50" in said and "comes without a split" in said
    assert main(["inspect", "mine.yaml", "data.split=published", "data.k_core=50"]) == 1
    shown = capsys.readouterr()
    assert "comes without a split" in shown.out and shown.err.startswith("error: no user is left")
