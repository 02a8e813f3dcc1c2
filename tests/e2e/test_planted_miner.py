"""The miner finds the planted interests of the quickstart shop, and labels raise its precision."""

import json
from pathlib import Path

import polars as pl
import pytest

from dig import load_config, run_experiment
from dig.interests.phrases import plain_words


def words(text: str) -> str:
    return f" {' '.join(plain_words(text))} "


def planted(home: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Interests an item, and wordings an interest."""
    (truth,) = home.glob("artifacts/prepare/*/shop/truth")
    wordings = json.loads((truth / "interest_phrases.json").read_text())
    folded = {name: [words(text) for text in texts] for name, texts in wordings.items()}
    return json.loads((truth / "item_interests.json").read_text()), folded


def figures(
    interests: pl.DataFrame, of_item: dict[str, list[str]], wordings: dict[str, list[str]]
) -> tuple[float, float]:
    """Precision: phrases that stand in a wording of an interest planted in their item. Recall: planted ones found."""
    hits, found = 0, set()
    for item_id, text in interests.select("item_id", "text").iter_rows():
        names = [name for name in of_item[item_id] if any(words(text) in wording for wording in wordings[name])]
        hits += bool(names)
        found |= {(item_id, name) for name in names}
    return hits / interests.height, len(found) / sum(map(len, of_item.values()))


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_the_miner_finds_what_is_planted_and_labels_raise_its_precision(tmp_path, monkeypatch, seed: int):
    monkeypatch.setenv("DIG_HOME", str(tmp_path))
    overrides = ["stages=[label]", f"data.shop.seed={seed}", f"runs_dir={tmp_path}/runs", "logging.progress=false"]
    run = run_experiment(load_config("quickstart", [*overrides, "visual.model=null", "mining.miners=[lexical]"]))
    labelled = pl.read_parquet(run.artifacts["label"] / "interests.parquet")
    of_item, wordings = planted(tmp_path)
    precision, recall = figures(labelled, of_item, wordings)
    better, kept = figures(labelled.filter(pl.col("label") == 1), of_item, wordings)
    print(f"shop {seed}: precision {precision:.3f} -> {better:.3f}, recall {recall:.3f} -> {kept:.3f}")
    assert recall > 0.8, "the miner finds the planted interests"
    assert better > 1.8 * precision, "labels raise its precision"
    assert kept > 0.93 * recall, "at little cost in recall"
