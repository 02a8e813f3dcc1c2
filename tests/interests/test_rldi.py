import json
import time

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from datamodules.sources.quickstart import write_shop
from dig.config.schema import LabelConfig, MiningConfig
from dig.interests import (
    INTEREST_SCHEMA,
    InterestVectors,
    distinct_phrases,
    item_quality,
    label_interests,
    mine_lexical,
    mined_frame,
    read_interests,
)
from dig.interests.features import FEATURES, VECTOR_FEATURES
from dig.interests.lexical import plain_words

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
                interests.append((f"I{item}", name, "text", confidence, "m"))
    rng.shuffle(interests)
    catalogue = pl.DataFrame({"item_id": [f"I{n}" for n in range(ITEMS)], "title": [" ".join(t) for t in titles]})
    sequences = []
    for _ in range(USERS):
        wanted = holders_of_good[rng.integers(PHRASES)]
        bought = np.where(rng.random(8) < 0.7, rng.choice(wanted, 8), rng.integers(ITEMS, size=8))
        sequences.append(bought)
    return mined_frame(interests), catalogue, sequences


def label(interests, catalogue, sequences, config=None, seed=1, **given):
    labelled, report = label_interests(interests, catalogue, {}, sequences, config or LabelConfig(), seed, **given)
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
    first = report["features"][0]
    assert first["name"] in ("in_title", "grounded_share") and first["weight"] > 0
    assert first["meaning"] == FEATURES[first["name"]]
    assert {each["name"] for each in report["features"]} == set(FEATURES)  # nothing of behaviour, nothing of vectors
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


def random_vectors(interests, catalogue, told: bool, seed=0) -> InterestVectors:
    """Phrases that drive purchases lie in one half of the space if the vectors tell, else nowhere in particular."""
    rng = np.random.default_rng(seed)
    phrases = distinct_phrases(interests)
    of_phrases = rng.normal(size=(len(phrases), 16))
    if told:
        of_phrases[:, 0] += [4 if phrase.startswith("alpha") else -4 for phrase in phrases]
    return InterestVectors(phrases, of_phrases, rng.normal(size=(catalogue.height, 16)))


def test_vectors_tell_what_words_do_not():
    aucs = {True: [], False: []}
    for seed in range(2):
        interests, catalogue, sequences = planted(separable=False, seed=seed)
        for told in aucs:
            vectors = random_vectors(interests, catalogue, told)
            labelled, report = label(interests, catalogue, sequences, vectors=vectors)
            aucs[told].append(report["held_out"]["roc_auc"])
            if told:
                good = labelled["text"].str.starts_with("alpha")
                assert roc_auc_score(good, labelled["score"]) > 0.97
                assert report["features"][0]["name"].startswith("phrase_")
    assert np.mean(aucs[True]) > 0.9 and 0.35 < np.mean(aucs[False]) < 0.65
    names = {each["name"] for each in report["features"]}
    assert names == {
        *FEATURES,
        *VECTOR_FEATURES,
        "votes",
        "specificity",
        "rarest_word",
    }  # behaviour does not help itself


def test_a_judges_verdicts_stay_and_teach_the_rest():
    interests, catalogue, _ = planted(separable=True)
    good = interests["text"].str.starts_with("alpha").to_numpy()
    rng = np.random.default_rng(0)
    verdicts = np.where(rng.random(len(good)) < 0.5, good, -1).astype(np.int8)
    judged = np.flatnonzero(verdicts >= 0)
    contrary = judged[:5]
    verdicts[contrary] = 1 - verdicts[contrary]
    config = LabelConfig(source="judge", judge="m")
    labelled, report = label(interests, catalogue, [], config, verdicts=verdicts)
    found = labelled["label"].to_numpy()
    np.testing.assert_array_equal(found[judged], verdicts[judged])  # also where the classifier thinks otherwise
    left = verdicts < 0
    assert (found[left] == good[left]).mean() > 0.97
    assert ((labelled["score"].to_numpy() >= 0.5) == found)[left].all()
    assert report["source"] == "judge" and "weak_labels" not in report
    assert report["verdicts"] == {
        "positive": int((verdicts == 1).sum()),
        "negative": int((verdicts == 0).sum()),
        "unlabelled": int(left.sum()),
    }
    assert report["held_out"]["interests"] == len(judged) and report["held_out"]["roc_auc"] > 0.95
    kept = report["examples"]["kept"]
    assert all(row["text"].startswith("alpha") and row["lift"] is None and row["item"] for row in kept)  # no users


def test_how_copurchase_rises_helps_only_those_that_behaviour_did_not_teach():
    interests, catalogue, sequences = planted(separable=False)
    good = interests["text"].str.starts_with("alpha").to_numpy().astype(np.int8)
    _, alone = label(interests, catalogue, [], LabelConfig(source="file", file="f"), verdicts=good)
    _, helped = label(interests, catalogue, sequences, LabelConfig(source="file", file="f"), verdicts=good)
    assert helped["held_out"]["roc_auc"] > 0.95 > 0.7 > alone["held_out"]["roc_auc"]
    assert helped["features"][0]["name"] == "log_lift" and helped["features"][0]["weight"] > 0
    _, taught = label(interests, catalogue, sequences)
    assert "log_lift" not in {each["name"] for each in taught["features"]}


def test_too_few_verdicts_stay_and_all_others_are_positive():
    interests, catalogue, sequences = planted(separable=True)
    verdicts = np.full(interests.height, -1, dtype=np.int8)
    verdicts[:4] = [0, 1, 0, 1]
    labelled, report = label(interests, catalogue, sequences, LabelConfig(source="file", file="f"), verdicts=verdicts)
    assert labelled["label"].to_list() == [0, 1, 0] + [1] * (interests.height - 3)
    assert report["classifier"].startswith("not trained: the file calls") and "all others" in report["classifier"]
    assert report["positive_interests"] == interests.height - 2
    with pytest.raises(ValueError, match=r"labels\.source=file needs verdicts"):
        label(interests, catalogue, sequences, LabelConfig(source="file", file="f"))


def test_the_report_measures_what_it_says():
    interests, catalogue, sequences = planted(separable=False)
    _, report = label(interests, catalogue, sequences, vectors=random_vectors(interests, catalogue, True))
    bins, held_out = report["reliability"], report["held_out"]
    assert sum(each["weight"] for each in bins) == pytest.approx(1, abs=1e-3)
    assert sum(each["observed"] * each["weight"] for each in bins) == pytest.approx(held_out["base_rate"], abs=1e-3)
    error = sum(abs(each["observed"] - each["predicted"]) * each["weight"] for each in bins)
    assert held_out["calibration_error"] == pytest.approx(error, abs=1e-3)
    assert held_out["phrases"] == report["weak_labels"]["positive"] + report["weak_labels"]["negative"]
    assert 0 < held_out["brier"] < held_out["base_rate"] * (1 - held_out["base_rate"])
    titles = dict(catalogue.iter_rows())
    for row in report["examples"]["kept"]:
        holders = interests.filter(pl.col("text") == row["text"])["item_id"]
        assert row["items"] == holders.n_unique() and row["item"] == titles[holders[0]]
    scores = [[row["score"] for row in report["examples"][name]] for name in ("kept", "rejected")]
    assert scores == [sorted(scores[0], reverse=True), sorted(scores[1])] and scores[0][-1] >= 0.5 > scores[1][-1]


def bag_of_words(texts: list[str], rng: np.random.Generator, words: dict[str, np.ndarray]) -> np.ndarray:
    """Sums of a random vector a word, a poor man's text encoder."""
    of_text = [[words.setdefault(word, rng.normal(size=64)) for word in plain_words(text)] for text in texts]
    return np.array([np.sum([np.zeros(64), *found], axis=0) for found in of_text])


def test_labels_raise_the_share_of_planted_interests_of_the_shop(tmp_path):
    write_shop(tmp_path, 300, 400, 11)
    table = pl.read_ndjson(tmp_path / "items.jsonl")
    catalogue = table.with_columns(categories=pl.col("categories").list.first())
    truth = {
        name: json.loads((tmp_path / f"truth/{name}.json").read_text())
        for name in ("item_interests", "interest_phrases")
    }
    said = {
        name: " | ".join(f" {' '.join(plain_words(phrase))} " for phrase in phrases)
        for name, phrases in truth["interest_phrases"].items()
    }
    interests = mine_lexical(catalogue, {}, MiningConfig())
    planted_too = np.array(
        [
            any(f" {' '.join(plain_words(text))} " in said[name] for name in truth["item_interests"][item])
            for item, text in interests.select("item_id", "text").iter_rows()
        ]
    )
    rows = {item: row for row, item in enumerate(catalogue["item_id"])}
    bought = pl.read_csv(tmp_path / "interactions.csv").group_by("user_id", maintain_order=True).agg("item_id")
    sequences = [np.array([rows[item] for item in items[:-2]]) for items in bought["item_id"].to_list()]
    rng, words = np.random.default_rng(0), {}
    phrases = distinct_phrases(interests)
    texts = [f"{title} {text}" for title, text in catalogue.select("title", "description").iter_rows()]
    vectors = InterestVectors(phrases, bag_of_words(phrases, rng, words), bag_of_words(texts, rng, words))
    labelled, _ = label(interests, catalogue, sequences, vectors=vectors)
    kept = (labelled["label"] == 1).to_numpy()
    assert planted_too[kept].mean() > planted_too.mean() + 0.2
    assert kept[planted_too].mean() > 0.8


def test_a_hundred_thousand_interests_are_labelled_in_time():
    rng = np.random.default_rng(0)
    items, phrases = 10_000, [f"{a}{b} word" for a in "abcdefghijklmnopqrstuvwxyz" for b in range(800)]
    worth = rng.random(len(phrases)) ** 4
    chosen = rng.choice(len(phrases), (items, 10), p=worth / worth.sum())
    interests = mined_frame((f"I{item}", phrases[p], "text", None, "m") for item in range(items) for p in chosen[item])
    catalogue = pl.DataFrame(
        {"item_id": [f"I{n}" for n in range(items)], "title": [" ".join(phrases[p] for p in row[:4]) for row in chosen]}
    )
    verdicts = np.where(rng.random(interests.height) < 0.02, rng.integers(2, size=interests.height), -1)
    vectors = InterestVectors(
        distinct_phrases(interests),
        *(rng.normal(size=(count, 384)).astype(np.float32) for count in (interests["text"].n_unique(), items)),
    )
    start = time.process_time()
    label(
        interests,
        catalogue,
        [rng.integers(items, size=9) for _ in range(20_000)],
        LabelConfig(source="judge", judge="m"),
        vectors=vectors,
        verdicts=verdicts,
    )
    assert time.process_time() - start < 25  # of computing, not of the clock
