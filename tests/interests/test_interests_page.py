"""The configurations of docs/interests.md, as they stand there, against a server that speaks the protocol."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import yaml
from PIL import Image
from support.chat_process import ChatProcess

from dig.config import load_config
from dig.train import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interests.md"
BLOCKS = [
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    items = [
        {
            "item_id": item,
            "title": f"kettle {item}",
            "description": "for slow mornings and quiet evenings at home",
            "image": "a.png" if item == "a" else None,
        }
        for item in "abc"
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    rows = [f"{user},{item},{time}" for user in "uv" for time, item in enumerate("abc")]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    return tmp_path


@pytest.mark.parametrize("block", [block for block in BLOCKS if "local" not in block["mining"]["models"]])
def test_a_providers_configuration_mines(shop: Path, monkeypatch: pytest.MonkeyPatch, block: dict):
    models = block["mining"]["models"]
    for name, model in models.items():
        if "key" in model:
            monkeypatch.setenv(model["key"], f"sk-{name}")
    path = shop / "page.yaml"
    path.write_text(yaml.safe_dump({"data": {"path": str(shop)}, "logging": {"progress": False}, **block}))
    load_config(path)  # as it stands
    with ChatProcess(shop / "server") as server:
        moved = [f"mining.models.{name}.base_url={server.url}" for name in models]
        assert main([f"experiment={path}", "stages=[mine]", *moved]) == 0
        log = server.log()
    miners, captioner = block["mining"]["miners"], block["mining"].get("captioner")
    assert len(log) == 3 * len(miners) + (1 if captioner else 0)
    assert {line["model"] for line in log} == {model["model"] for model in models.values()}
    interests = pl.read_parquet("home/artifacts/mine/*/interests.parquet")
    assert set(interests["miner"]) == set(miners) and interests["item_id"].n_unique() == 3


def test_every_configuration_of_the_page_is_valid(tmp_path: Path):
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        path = tmp_path / "page.yaml"
        path.write_text(yaml.safe_dump({"data": {"source": "quickstart"}, **block}))
        config = load_config(path)
        assert set(config.mining.asked) == set(block["mining"]["miners"])


def test_the_page_names_commands_and_keys_that_exist(capsys: pytest.CaptureFixture[str]):
    from dig.config.explain import help_text
    from dig.interests.__main__ import main as interests

    text = PAGE.read_text(encoding="utf-8")
    interests(["--help"])
    told = capsys.readouterr().out
    for command in re.findall(r"python -m dig\.interests (\w+)", text):
        assert f"  {command} " in told
    known = help_text()
    for key in re.findall(r"`((?:mining|labels)\.[a-z_]+)", text):
        assert f"  {key}=" in known or f"{key}.NAME" in known, key
