"""The quickstart shop's planted interests: Semantic IDs find why items are bought, best with pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

from dig import load_config, run_experiment
from dig.evaluation.neighbours import neighbour_recall
from dig.quantization import SemanticIds

TITLES = ["embedding.fields=[title,brand,categories]", "embedding.interests=none"]
DESCRIPTIONS = ["embedding.fields=[]", "embedding.interests=positive"]  # mined from the descriptions
WITHOUT_PICTURES = ["visual.model=null", "mining.miners=[lexical]"]


def lift(home: Path, seed: int, *settings: str) -> float:
    """How much more often than chance items of one planted interest share two leading codes."""
    before = set(home.glob("artifacts/tokenize/*/semantic_ids.parquet"))
    overrides = ["stages=[tokenize]", f"data.shop.seed={seed}", "data.shop.items=400", "rqvae.epochs=80",
                 "visual.adapt.epochs=15", f"runs_dir={home}/runs", "logging.progress=false", *settings]  # fmt: skip
    run_experiment(load_config("quickstart", overrides))
    (made,) = set(home.glob("artifacts/tokenize/*/semantic_ids.parquet")) - before
    ids = SemanticIds.load(made)
    truth = next(
        json.loads(file.read_text()) for file in home.glob("artifacts/prepare/*/shop/truth/item_interests.json")
        if json.loads((file.parents[2] / "manifest.json").read_text())["origin"]["reads"]["data.shop"]["seed"] == seed
    )  # fmt: skip
    main = np.array([truth[item][0] for item in ids.item_ids])
    left, right = np.nonzero(np.triu(main[:, None] == main[None, :], k=1))
    return float(neighbour_recall(ids.codes[:, :2], left, right).lift[1])


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_items_of_one_interest_share_leading_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    monkeypatch.setenv("DIG_HOME", str(tmp_path))
    titles = lift(tmp_path, seed, *TITLES, *WITHOUT_PICTURES)
    descriptions = lift(tmp_path, seed, *DESCRIPTIONS, *WITHOUT_PICTURES)
    pictures = lift(tmp_path, seed, *DESCRIPTIONS)
    assert titles < 1.6, "titles say what an item is and nothing of why"
    assert descriptions > 5.0 * titles, "labelled interests stand for what is planted"
    assert pictures > descriptions
    assert pictures > 10.0
