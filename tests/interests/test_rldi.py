import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from dig.config.schema import LabelConfig
from dig.interests import INTEREST_SCHEMA, item_quality, label_interests, read_interests, rldi
from dig.interests.features import FEATURES

ITEMS, PHRASES, HOLDERS, USERS = 400, 24, 14, 1200


def planted(separable: bool, seed: int = 0):
    """Phrases ``good n`` drive purchases, ``bad n`` are held at random; only good ones show in titles if separable."""
    rng = np.random.default_rng(seed)
    titles: list[list[str]] = [["thing"] for _ in range(ITEMS)]
    interests, holders_of_good = [], []
    for good in (True, False):
        for number in range(PHRASES):
            holders = rng.choice(ITEMS, HOLDERS, replace=False)
            if good:
                holders_of_good.append(holders)
            name = ("alpha" if good else "omega") + "abcdefghijklmnopqrstuvwxyz"[number] * 3
            for item in holders:
                shows = good if separable else rng.random() < 0.5
                if shows:
                    titles[item].append(name)
                confidence = float(np.clip(rng.normal(0.6 if shows else 0.4, 0.1), 0, 1))
                interests.append((f"I{item}", name, "text", confidence, "m", None, None))
    rng.shuffle(interests)
    catalogue = pl.DataFrame({"item_id": [f"I{n}" for n in range(ITEMS)], "title": [" ".join(t) for t in titles]})
    sequences = []
    for _ in range(USERS):
        wanted = holders_of_good[rng.integers(PHRASES)]
        bought = np.where(rng.random(8) < 0.7, rng.choice(wanted, 8), rng.integers(ITEMS, size=8))
        sequences.append(bought)
    return pl.DataFrame(interests, schema=INTEREST_SCHEMA, orient="row"), catalogue, sequences


def label(interests, catalogue, sequences, config=None, seed=1):
    labelled, report = label_interests(interests, catalogue, {}, sequences, config or LabelConfig(), seed)
    assert labelled.schema == INTEREST_SCHEMA
    assert_frame_equal(labelled.drop("label", "score"), interests.drop("label", "score"))
    assert labelled["label"].null_count() == 0
    json.dumps(report)  # plain values only
    return labelled, report


def test_labels_separate_what_drives_purchases_from_what_does_not():
    interests, catalogue, sequences = planted(separable=True)
    labelled, report = label(interests, catalogue, sequences)
    good = labelled["text"].str.starts_with("alpha")
    assert report["classifier"] == "logistic regression"
    weak = report["weak_labels"]
    # a random phrase may by chance hold two items of one good phrase, so not every one of them is clearly bad
    assert PHRASES - 2 <= weak["positive"] <= PHRASES + 3 and weak["negative"] >= PHRASES // 2
    held_out = report["held_out"]
    # a bad phrase that chance calls good is one that the features cannot predict: of 25, each costs the AUC about 0.02
    assert held_out["roc_auc"] > 0.93 and held_out["precision"] > 0.9 and held_out["recall"] > 0.9
    assert ((labelled["label"] == 1) == good).mean() > 0.97
    assert roc_auc_score(good, labelled["score"]) > 0.99  # against the planted truth
    assert ((labelled["score"] >= 0.5) == (labelled["label"] == 1)).all()
    first = next(iter(report["coefficients"]))
    assert first in ("in_title", "grounded_share") and report["coefficients"][first] > 0
    examples = report["examples"]
    assert all(row["text"].startswith("alpha") and row["lift"] > 2 for row in examples["kept"])
    assert examples["rejected"] and all(row["text"].startswith("omega") for row in examples["rejected"])
    quality = item_quality(labelled, catalogue["item_id"])
    assert 0.3 < quality.mean() < 0.7


def test_features_that_say_nothing_predict_nothing():
    aucs = []
    for seed in range(3):
        interests, catalogue, sequences = planted(separable=False, seed=seed)
        _, report = label(interests, catalogue, sequences)
        assert min(report["weak_labels"]["positive"], report["weak_labels"]["negative"]) >= 10
        aucs.append(report["held_out"]["roc_auc"])
    assert 0.35 < np.mean(aucs) < 0.65


def test_a_phrase_is_never_in_training_and_test_at_once(monkeypatch):
    groups = np.repeat(np.arange(40), 5)
    features = np.tile(groups[:, None], len(FEATURES)).astype(float)
    tested = []

    class Guard:
        def __init__(self, train, labels, weights):
            self.train = set(train[:, 0])
            assert set(labels) == {0, 1}

        def predict_proba(self, test):
            assert self.train.isdisjoint(test[:, 0])
            tested.extend(test[:, 0])
            return np.full((len(test), 2), 0.5)

    monkeypatch.setattr(rldi, "_fit", Guard)
    quality = rldi._held_out(features, groups % 2, groups, np.full(200, 0.2), LabelConfig(), seed=0)
    assert sorted(tested) == sorted(groups)
    assert (quality["roc_auc"], quality["base_rate"], quality["recall"]) == (0.5, pytest.approx(0.5), 1.0)
    assert (quality["phrases"], quality["interests"]) == (40, 200)


def test_shuffled_purchases_teach_nothing():
    interests, catalogue, sequences = planted(separable=True)
    everything = np.random.default_rng(5).permutation(np.concatenate(sequences))
    labelled, report = label(interests, catalogue, np.split(everything, USERS))
    assert report["weak_labels"]["positive"] <= 1
    assert report["classifier"].startswith("not trained: behaviour calls")
    assert labelled["label"].to_list() == [1] * labelled.height
    assert labelled["score"].null_count() == labelled.height


def test_the_threshold_the_seed_and_the_support_count():
    interests, catalogue, sequences = planted(separable=True)
    loose, _ = label(interests, catalogue, sequences, LabelConfig(threshold=0.0))
    assert loose["label"].sum() == loose.height
    strict, _ = label(interests, catalogue, sequences, LabelConfig(threshold=1.0))
    assert strict["label"].sum() == 0
    again, report = label(interests, catalogue, sequences)
    assert report == label(interests, catalogue, sequences)[1]
    assert_frame_equal(again, label(interests, catalogue, sequences)[0])
    _, rare = label(interests, catalogue, sequences, LabelConfig(min_items=HOLDERS + 1))
    assert rare["classifier"].startswith("not trained: behaviour calls 0 phrases good and 0 not")


@pytest.mark.parametrize("case", ["disabled", "no interests", "no users", "one phrase", "one class"])
def test_degenerate_cases_are_all_positive_and_say_why(case):
    interests, catalogue, sequences = planted(separable=True)
    config = LabelConfig(enabled=case != "disabled")
    if case == "no interests":
        interests = interests.clear()
    if case == "no users":
        sequences = []
    if case == "one phrase":
        interests = interests.filter(pl.col("text") == interests["text"][0])
    if case == "one class":
        interests = interests.filter(pl.col("text").str.starts_with("omega"))
    labelled, report = label(interests, catalogue, sequences, config)
    assert report["classifier"].startswith("not trained: ")
    assert labelled["label"].to_list() == [1] * interests.height
    assert labelled["score"].null_count() == interests.height
    assert "held_out" not in report


def test_spellings_of_one_phrase_count_together():
    interests, catalogue, sequences = planted(separable=True)
    spelled = interests.with_columns(
        text=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("text").str.to_uppercase()).otherwise(pl.col("text"))
    )
    _, report = label(spelled, catalogue, sequences)
    _, plain = label(interests, catalogue, sequences)
    assert report["phrases"] == 2 * PHRASES
    assert report["weak_labels"] == plain["weak_labels"]


def test_real_interests_by_real_behaviour(real_data, real_catalogue):
    catalogue = real_catalogue("beauty")
    rows = {item: row for row, item in enumerate(catalogue["item_id"])}
    table = pl.read_csv(real_data("beauty") / "interactions.csv.gz").with_columns(
        row=pl.col("item_id").replace_strict(rows)
    )
    users = table.group_by("user_id", maintain_order=True).agg(pl.col("row").head(pl.len() - 2))
    sequences = [users_rows.to_numpy() for users_rows in users["row"]]
    interests = read_interests(real_data("beauty") / "interests.jsonl.gz", catalogue["item_id"]).interests
    labelled, report = label(interests, catalogue, sequences)
    assert report["held_out"]["roc_auc"] > 0.8
    assert min(report["weak_labels"]["positive"], report["weak_labels"]["negative"]) > 40
    rejected = labelled.filter(pl.col("label") == 0)["text"].unique()
    assert {"natural", "hair", "moisturizing"} <= set(rejected)
    assert labelled["label"].mean() > 0.5
