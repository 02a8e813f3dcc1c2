"""Supervision: who is labelled, with which weight, in which group, and when that is too little."""

import math

import numpy as np
import polars as pl
import pytest

from dig.config.schema import LabelConfig
from dig.interests import mined_frame
from dig.interests.supervision import by_behaviour, by_verdicts, weigh_phrases

ITEMS = [f"I{number}" for number in range(4)]


def interests(*pairs: tuple[str, str]):
    return mined_frame((item, text, "text", None, "m") for item, text in pairs)


@pytest.fixture
def evidence():
    frame = interests(("I0", "Soft"), ("I1", "soft"), ("I2", "red"), ("I1", "SOFT"), ("I3", "red"))
    return weigh_phrases(frame, pl.Series(ITEMS), [np.array([0, 1]), np.array([0, 1]), np.array([1, 2])])


def test_phrases_their_items_and_their_pairs_written_out(evidence):
    assert evidence.phrases.tolist() == ["red", "soft"]
    assert evidence.of_interest.tolist() == [1, 1, 0, 1, 0]
    assert evidence.item_rows.tolist() == [0, 1, 2, 1, 3]
    assert evidence.items.tolist() == [2, 2]  # an item that says a phrase twice holds it once
    assert evidence.observed.tolist() == [0, 2]
    degrees = [2, 3, 1, 0]  # of 3 pairs in all
    products = sum(a * b for place, a in enumerate(degrees) for b in degrees[place + 1 :])
    np.testing.assert_allclose(evidence.expected, [0, 3 * 6 / products])


def test_a_lift_of_little_support_is_drawn_towards_none(evidence):
    assert evidence.log_lift[0] == 0
    assert evidence.log_lift[1] == pytest.approx(math.log((2 + 5) / (18 / 11 + 5)))
    many = evidence._replace(observed=np.array([4e6, 0.0]), expected=np.array([1e6, 1e6]))
    assert many.log_lift == pytest.approx([math.log(4), math.log(5 / (1e6 + 5))], abs=1e-4)


def test_behaviour_labels_phrases_and_every_phrase_weighs_one(evidence):
    strong = evidence._replace(observed=np.array([0.0, 900.0]), expected=np.array([100.0, 100.0]))
    supervision, bar = by_behaviour(strong, min_items=2)
    assert 1.5 <= bar <= 3.0
    assert supervision.labels.tolist() == [1, 1, 0, 1, 0]
    assert supervision.groups.tolist() == [1, 1, 0, 1, 0]
    np.testing.assert_allclose(supervision.weights, [1 / 3, 1 / 3, 1 / 2, 1 / 3, 1 / 2])
    assert not supervision.binding
    nobody, _ = by_behaviour(strong, min_items=3)
    assert nobody.labels.tolist() == [-1] * 5 and nobody.weights.tolist() == [0] * 5


def test_verdicts_are_about_interests_and_stay(evidence):
    supervision = by_verdicts(evidence, np.array([1, 0, -1, -1, 1], dtype=np.int8), "judge")
    assert supervision.labels.tolist() == [1, 0, -1, -1, 1]
    assert supervision.weights.tolist() == [1, 1, 0, 0, 1]
    assert supervision.binding and supervision.source == "judge"
    assert (supervision.phrases(1), supervision.phrases(0)) == (2, 1)
    for wrong in (np.array([1, 0]), np.array([1, 0, 2, -1, -1])):
        with pytest.raises(ValueError, match="5 interests need as many verdicts"):
            by_verdicts(evidence, wrong, "file")


def test_ten_phrases_of_each_class_are_needed():
    texts = [f"phrase {number}" for number in range(20)]
    frame = interests(*[("I0", text) for text in texts])
    evidence = weigh_phrases(frame, pl.Series(ITEMS), [])
    folds = LabelConfig().folds
    enough = by_verdicts(evidence, np.arange(20) % 2, "judge")
    assert enough.obstacle(folds) is None and enough.obstacle(11) is not None
    few = by_verdicts(evidence, (np.arange(20) > 8).astype(int), "file")
    assert few.obstacle(folds) == (
        "not trained: the file calls 11 phrases good and 9 not, at least 10 of each are needed; "
        "all others count as positive"
    )
