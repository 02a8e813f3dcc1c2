"""The stage `label`: lists of several miners become one, labels come from where they should, the key names it all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from dig.config import UserError, load_config
from dig.engine.artifacts import read_json
from dig.engine.pipeline import run_experiment
from dig.engine.stage import StageContext
from dig.interests.lexical import plain_words
from dig.stages import label

SHOP = {"u": ["a", "b", "c", "d"], "v": ["b", "c", "a"], "w": ["c", "d", "a", "b"]}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rows = [f"{user},{item},{time}" for user, items in SHOP.items() for time, item in enumerate(items)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    items = [{"item_id": item, "title": f"warm woollen hat {item}"} for item in "abcd"]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    for miner, texts in {"one": ["Woollen hats", "for travel"], "two": ["hats, woollen", "not for travel"]}.items():
        record = {"item_id": "a", "miner": miner, "kind": "text", "interests": [{"text": text} for text in texts]}
        (tmp_path / f"{miner}.jsonl").write_text(json.dumps(record))
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that were encoded, by an encoder that counts words."""
    texts: list[str] = []
    words: dict[str, int] = {}

    class Cache:
        def gather(self, keys: np.ndarray) -> torch.Tensor:
            vectors = torch.zeros(len(texts), 64)
            for row, text in enumerate(texts):
                for word in plain_words(text):
                    vectors[row, words.setdefault(word, len(words))] += 1
            return vectors

    def encode(context: StageContext, folder: Path, kind: str, given: list[str]) -> Cache:
        texts[:] = given
        return Cache()

    monkeypatch.setattr(label, "encode_texts", encode)
    return texts


def labelled(*overrides: str) -> Path:
    config = load_config(None, ["data.path=.", "stages=[label]", "logging.progress=false", *overrides])
    return run_experiment(config).artifacts["label"]


TWO = ("mining.miners=[imported]", "mining.imports=[one.jsonl,two.jsonl]")


def test_lists_of_two_miners_become_one(asked: list[str], capsys: pytest.CaptureFixture[str]):
    folder = labelled(*TWO)
    interests = pl.read_parquet(folder / "interests.parquet")
    assert interests.select("text", "votes", "miners").rows() == [
        ("Woollen hats", 2, ["one", "two"]),
        ("for travel", 1, ["one"]),
        ("not for travel", 1, ["two"]),  # near, but a contradiction
    ]
    assert asked == [
        "for travel",
        "hats, woollen",
        "not for travel",
        "woollen hats",
        *(f"warm woollen hat {item}" for item in "abcd"),
    ]
    assert read_json(folder / "report.json")["merged"] == {"mined": 4, "joined": 1, "cut": 0}
    assert "1 of 4 said the same as another" in capsys.readouterr().out
    assert pl.read_parquet(folder / "quality.parquet")["quality"].to_list() == [1, 0, 0, 0]


def test_how_alike_is_alike_enough_is_configured_and_a_part_of_the_key(asked: list[str]):
    strict = labelled(*TWO, "mining.merge_similarity=1.0")
    loose = labelled(*TWO, "mining.merge_similarity=0.5")
    assert strict != loose
    for folder in (strict, loose):  # the vectors of the joined phrases are equal
        assert pl.read_parquet(folder / "interests.parquet")["votes"].max() == 2


def test_one_miners_interests_stay_as_they_were_mined(asked: list[str]):
    folder = labelled()
    mined = pl.read_parquet(max(Path("home/artifacts/mine").glob("*/interests.parquet")))
    found = pl.read_parquet(folder / "interests.parquet")
    assert found.drop("label", "score").equals(mined.drop("label", "score"))
    assert found["votes"].to_list() == [1] * len(found) and found["miners"].null_count() == len(found)
    assert "merged" not in read_json(folder / "report.json")


@pytest.mark.parametrize("overrides", [("labels.enabled=false",), ("mining.miners=[]",)])
def test_nothing_is_encoded_where_nothing_asks_for_it(overrides: tuple[str, ...], asked: list[str]):
    interests = pl.read_parquet(labelled(*overrides) / "interests.parquet")
    assert asked == [] and interests["label"].to_list() == [1] * len(interests)


def test_items_without_any_text_of_their_own_are_no_error(asked: list[str], workplace: Path):
    (workplace / "items.jsonl").write_text("\n".join(json.dumps({"item_id": item, "title": ""}) for item in "abcd"))
    folder = labelled(*TWO)
    assert asked[-4:] == [""] * 4
    assert len(pl.read_parquet(folder / "interests.parquet")) == 3


def test_what_is_embedded_leaves_the_labels_as_they_are(asked: list[str]):
    assert labelled(*TWO, "embedding.fields=[]") == labelled(*TWO)
    assert asked[-1] == "warm woollen hat d"


def test_labels_by_hand_stay_and_their_file_is_a_part_of_the_key(
    asked: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
):
    by_file = ("labels.source=file", "labels.file=hand.csv")
    with pytest.raises(UserError, match=r"labels\.file: there is no file hand\.csv"):
        labelled(*TWO, *by_file)
    (workplace / "hand.csv").write_text("item_id,interest,label\na,FOR travel,0\na,nowhere,1\n")
    folder = labelled(*TWO, *by_file)
    interests = pl.read_parquet(folder / "interests.parquet")
    assert dict(interests.select("text", "label").rows()) == {"Woollen hats": 1, "for travel": 0, "not for travel": 1}
    assert read_json(folder / "report.json")["verdicts"] == {"positive": 0, "negative": 1, "unlabelled": 2}
    assert "1 ids unknown to the data ('a: nowhere')" in capsys.readouterr().out
    (workplace / "hand.csv").write_text("item_id,interest,label\na,hats woollen,1\na,woollen hats,0\n")
    assert labelled(*TWO, *by_file) != folder


def test_a_judge_is_asked_about_the_merged_interests(asked: list[str], monkeypatch: pytest.MonkeyPatch):
    from dig.stages import label

    def judge(context: StageContext, folder: Path, interests: pl.DataFrame) -> np.ndarray:
        return np.where(interests["text"] == "Woollen hats", 0, -1).astype(np.int8)

    monkeypatch.setattr(label, "judge_labels", judge)
    monkeypatch.setattr(label, "reads_of_judge", lambda config: {"judge": "j"})
    folder = labelled(*TWO, "mining.models={m: {model: some/model}}", "labels.source=judge", "labels.judge=m")
    interests = pl.read_parquet(folder / "interests.parquet")
    assert dict(interests.select("text", "label").rows()) == {"Woollen hats": 0, "for travel": 1, "not for travel": 1}
    assert read_json(folder / "report.json")["source"] == "judge"


def test_other_ranks_help_to_encode_and_write_nothing(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert label.STAGE.every_rank
    config = load_config(None, ["data.path=.", "stages=[mine]", "logging.progress=false", *TWO])
    run = run_experiment(config)
    monkeypatch.setenv("RANK", "1")

    class Inputs:
        @staticmethod
        def file(stage: str, name: str) -> Path:
            return run.artifacts[stage] / name

    Inputs.config = config  # type: ignore[attr-defined]
    folder = tmp_path / "rank1"
    folder.mkdir()
    label.STAGE.build(Inputs, folder)  # type: ignore[arg-type]
    assert len(asked) == 8 and list(folder.iterdir()) == []


def test_with_the_real_encoder():
    interests = pl.read_parquet(labelled(*TWO) / "interests.parquet")
    assert interests["votes"].to_list() == [2, 1, 1] and interests["wordings"][0].to_list()[0] == "Woollen hats"
