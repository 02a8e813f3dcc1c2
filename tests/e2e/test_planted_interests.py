"""The quickstart shop's planted interests: the miner finds them, labels sort them out, and Semantic IDs show them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dig import load_config, run_experiment
from dig.engine.pipeline import Run
from dig.evaluation.codebook import neighbour_recall
from dig.interests.lexical import plain_words
from dig.quantization import SemanticIds

TITLES = ["embedding.fields=[title,brand,categories]", "embedding.interests=none"]
DESCRIPTIONS = ["embedding.fields=[]", "embedding.interests=positive"]  # mined from the descriptions
WITHOUT_PICTURES = ["visual.model=null", "mining.miners=[lexical]"]


def tokenized(home: Path, seed: int, *settings: str) -> Run:
    overrides = [
        "stages=[tokenize]",
        f"data.shop.seed={seed}",
        "data.shop.items=400",
        "rqvae.epochs=80",
        "visual.adapt.epochs=15",
        f"runs_dir={home}/runs",
        "logging.progress=false",
        *settings,
    ]
    return run_experiment(load_config("quickstart", overrides))


def planted(run: Run) -> dict[str, list[str]]:
    """Planted interests per item, the main one first."""
    truth: dict[str, list[str]] = json.loads((run.artifacts["prepare"] / "shop/truth/item_interests.json").read_text())
    return truth


def lift(run: Run) -> float:
    """How much more often than chance items of one planted interest share two leading codes."""
    ids = SemanticIds.load(run.artifacts["tokenize"] / "semantic_ids.parquet")
    main = np.array([planted(run)[item][0] for item in ids.item_ids])
    left, right = np.nonzero(np.triu(main[:, None] == main[None, :], k=1))
    return float(neighbour_recall(ids.codes[:, :2], left, right).lift[1])


def words(text: str) -> str:
    return f" {' '.join(plain_words(text))} "


def precision_and_recall(run: Run, interests: pl.DataFrame) -> tuple[float, float]:
    """The share of phrases that stand in a wording of an interest planted in their item, and of planted ones found."""
    wordings = json.loads((run.artifacts["prepare"] / "shop/truth/interest_phrases.json").read_text())
    folded = {name: [words(text) for text in texts] for name, texts in wordings.items()}
    truth, hits, found = planted(run), 0, set()
    for item_id, text in interests.select("item_id", "text").iter_rows():
        names = [name for name in truth[item_id] if any(words(text) in wording for wording in folded[name])]
        hits += bool(names)
        found |= {(item_id, name) for name in names}
    return hits / interests.height, len(found) / sum(map(len, truth.values()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all seeds: their wordings are the same, so most vectors are encoded once."""
    return tmp_path_factory.mktemp("planted")


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_planted_interests_are_found_sorted_out_and_spelled(
    home: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("DIG_HOME", str(home))
    titles = lift(tokenized(home, seed, *TITLES, *WITHOUT_PICTURES))
    run = tokenized(home, seed, *DESCRIPTIONS, *WITHOUT_PICTURES)
    descriptions = lift(run)
    pictures = lift(tokenized(home, seed, *DESCRIPTIONS))
    assert titles < 1.6, "titles say what an item is and nothing of why"
    assert descriptions > 5.0 * titles
    assert pictures > descriptions
    assert pictures > 10.0

    mined = pl.read_parquet(run.artifacts["label"] / "interests.parquet")
    precision, recall = precision_and_recall(run, mined)
    better, kept = precision_and_recall(run, mined.filter(pl.col("label") == 1))
    print(f"shop {seed}: precision {precision:.3f} -> {better:.3f}, recall {recall:.3f} -> {kept:.3f}")
    assert recall > 0.8, "the miner finds the planted interests"
    assert better > 1.8 * precision, "labels raise its precision"
    assert kept > 0.93 * recall, "at little cost in recall"
