"""Contradictions of phrases whose vectors are close: negation, numbers, opposites, and what only looks like them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from math import prod

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from dig.config.schema import MiningConfig
from dig.engine.folding import fold
from dig.interests import (
    INTEREST_SCHEMA,
    distinct_phrases,
    fold_column,
    from_frame,
    merge_interests,
    mine_lexical,
    mined_frame,
    read_interests,
)
from dig.interests.lexical import singular
from dig.interests.merging import OPPOSITES, contradict

CONTRADICT = [
    ("dry skin", "oily skin"),
    ("hot drinks", "cold drinks"),
    ("indoor plants", "outdoor plants"),
    ("men's razor", "women's razor"),
    ("mens shoes", "womens shoes"),
    ("day cream", "night cream"),
    ("light duty", "heavy duty"),
    ("light wood", "dark wood"),
    ("kids bike", "adult bike"),
    ("beginner guitar", "professional guitar"),
    ("thin hair", "thick hair"),
    ("left glove", "right glove"),
    ("summer tyres", "winter tyres"),
    ("cheap watch", "luxury watch"),
    ("kids", "adults"),
    ("spf 15", "spf 50"),
    ("2 in 1", "3 in 1"),
    ("two-piece set", "3 piece set"),
    ("1.5 l bottle", "1 l bottle"),
    ("fragrance-free", "fragrance"),
    ("fragrance free lotion", "fragrance lotion"),
    ("free of perfume", "perfume"),
    ("non-toxic paint", "toxic paint"),
    ("nonstick pan", "stick pan"),
    ("unscented soap", "scented soap"),
    ("without sugar", "with sugar"),
    ("no added sugar", "added sugar"),
    ("not waterproof", "waterproof"),
    ("anti-frizz", "frizz"),
    ("antibacterial gel", "bacterial gel"),
    ("sugarless gum", "sugar gum"),
    ("doesn't fade", "does fade"),
    ("unbreakable cup", "breakable cup"),
    ("wired mouse", "wireless mouse"),
    ("ladies' watch", "men's watch"),
    ("luxurious soap", "cheap soap"),
    ("free from nuts", "nuts"),
]
AGREE = [
    ("dry skin", "skin that is dry"),
    ("fragrance-free", "no added fragrance"),
    ("unscented", "scentless"),
    ("not non-toxic", "toxic"),
    ("stainless steel", "steel"),
    ("wireless mouse", "cordless mouse"),
    ("antique look", "vintage look"),
    ("united colours", "colours"),
    ("free shipping", "no fee at no cost"),
    ("spf 50", "sun protection"),
    ("1,000 pieces", "1000 pieces"),
    ("500 ml", "500ml"),
    ("15.0 inch", "15 inch"),
    ("two-piece set", "2 piece set"),
    ("day and night cream", "night cream"),
    ("hot and cold pack", "cold pack"),
    ("universal fit", "fits all"),
    ("unique gift", "special gift"),
    ("gift-ready", "gift ready"),
    ("", "anything"),
]


@pytest.mark.parametrize(("first", "second"), CONTRADICT)
def test_phrases_that_exclude_each_other(first: str, second: str):
    assert contradict(first, second) and contradict(second, first)


@pytest.mark.parametrize(("first", "second"), AGREE)
def test_phrases_that_may_mean_the_same(first: str, second: str):
    assert not contradict(first, second) and not contradict(second, first)


def test_the_list_of_opposites_is_in_the_form_that_is_looked_up():
    for left, right in OPPOSITES:
        assert left and right and left.isdisjoint(right)
        assert all(word and word == fold(word) for word in left | right)
        assert all(singular(word) == word for word in left | right)


@given(st.text(max_size=30).map(fold), st.text(max_size=30).map(fold))
def test_it_is_symmetric_and_no_phrase_contradicts_itself(first: str, second: str):
    assert contradict(first, second) == contradict(second, first)
    assert not contradict(first, first)


def test_a_hundred_thousand_questions_are_quick():
    phrases = [f"{side} cream {number}" for side in ("day", "night") for number in range(160)]
    start = time.process_time()
    found = sum(contradict(first, second) for first in phrases for second in phrases)
    assert found == len(phrases) ** 2 - len(phrases)  # another number, or another side
    assert time.process_time() - start < 2.0  # of computing, not of the clock


# Directions in degrees: two phrases are alike from a cosine of 0.9 on, up to 25.8 degrees apart.
ANGLES = {
    "soft": 0,
    "smooth": 20,
    "silky": 40,
    "gift": 90,
    "for gifts": 95,
    "dry skin": 180,
    "oily skin": 181,
    "spf 15": 270,
    "spf 50": 271,
}


def vectors(phrases: list[str]) -> np.ndarray:
    radians = np.radians([ANGLES[phrase] for phrase in phrases])
    return 3.0 * np.column_stack([np.cos(radians), np.sin(radians)])  # lengths do not count


def merge(rows: list, limit: int | None = None):
    frame = mined_frame(rows)
    phrases = distinct_phrases(frame)
    merged = merge_interests(frame, phrases, vectors(phrases), 0.9, limit)
    assert merged.interests.schema == INTEREST_SCHEMA
    return merged


def row(text: str, confidence: float | None, miner: str, item: str = "A", kind: str = "text") -> tuple:
    return item, text, kind, confidence, miner


def test_one_interest_with_its_provenance():
    found = merge([row("Soft", 0.5, "a"), row("smooth", 0.75, "b", kind="visual"), row(" SOFT", 0.5, "c")])
    (one,) = from_frame(found.interests)
    assert (one.text, one.miner, one.kind, one.votes) == ("smooth", "b", "text", 3)
    assert one.miners == ("b", "a", "c") and one.wordings == ("smooth", "Soft", " SOFT")
    assert one.confidence == 1 - 0.25 * 0.5 * 0.5
    assert (one.label, one.score, found.joined, found.cut) == (None, None, 2, 0)


def test_confidences_that_are_missing_are_left_out():
    alone = 0.1 + 0.2  # 0.30000000000000004, and 1 − (1 − c) is another number
    assert merge([row("soft", alone, "a"), row("soft", None, "b")]).interests["confidence"].to_list() == [alone]
    assert merge([row("soft", None, "a"), row("soft", None, "b")]).interests["confidence"].to_list() == [None]
    seen = merge([row("soft", 0.5, "a", kind="visual"), row("soft", 0.5, "b", kind="visual")]).interests
    assert seen.select("kind", "confidence").row(0) == ("visual", 0.75)


@pytest.mark.parametrize("pair", [("dry skin", "oily skin"), ("spf 15", "spf 50")])
def test_near_vectors_that_contradict_stay_apart(pair: tuple[str, str]):
    assert merge([row(pair[0], 0.5, "a"), row(pair[1], 0.4, "b")]).interests["votes"].to_list() == [1, 1]


def test_interests_of_one_miner_are_never_joined_with_each_other():
    found = merge([row("soft", 0.9, "a"), row("smooth", 0.8, "a"), row("smooth", 0.7, "b")]).interests
    assert found.select("text", "votes").rows() == [("smooth", 2), ("soft", 1)]  # the equal one, not the surer one


def test_a_phrase_must_be_like_all_of_those_that_it_joins():
    found = merge([row("soft", 0.9, "a"), row("smooth", 0.8, "b"), row("silky", 0.7, "c")]).interests
    assert [set(each) for each in found["wordings"].to_list()] == [{"soft", "smooth"}, {"silky"}]


def test_items_are_strangers_to_each_other():
    found = merge([row("soft", 0.9, "a", "A"), row("soft", 0.8, "b", "B")])
    assert found.joined == 0 and found.interests["item_id"].to_list() == ["A", "B"]


def test_votes_come_first_then_confidence_then_rank_and_the_limit_cuts_the_end():
    rows = [
        row("soft", 0.9, "a"),
        row("spf 15", None, "a"),
        row("gift", 0.2, "a"),
        row("oily skin", None, "b"),
        row("for gifts", 0.3, "b"),
        row("smooth", 0.95, "a", "B"),
    ]
    found = merge(rows)
    assert found.interests["text"].to_list() == ["for gifts", "soft", "oily skin", "spf 15", "smooth"]
    cut = merge(rows, limit=2)
    assert cut.interests["text"].to_list() == ["for gifts", "soft", "smooth"] and cut.cut == 2
    assert merge(rows, limit=4).cut == 0


def test_a_single_miners_list_stays_as_it_is():
    rows = [
        row("soft", 0.1, "a", "B"),
        row("smooth", 0.9, "a", "B"),
        row("gift", None, "a", "B"),
        row("soft", 0.5, "a", "A"),
        row("gift", 0.6, "b", "A"),
    ]
    found = merge(rows).interests
    assert found["text"].to_list() == ["soft", "smooth", "gift", "gift", "soft"]  # B's own order, A's by confidence
    alone = mined_frame(rows[:3])
    kept = merge(rows[:3]).interests
    assert_frame_equal(kept.drop("miners", "wordings"), alone.drop("miners", "wordings"))
    assert kept["wordings"].to_list() == [["soft"], ["smooth"], ["gift"]]


def test_a_text_without_a_vector_is_refused():
    with pytest.raises(ValueError, match="1 interests have no vector, for one 'gift'"):
        merge_interests(mined_frame([row("gift", None, "a")]), ["soft"], np.ones((1, 2)), 0.9)
    assert merge_interests(mined_frame([]), [], np.ones((0, 2)), 0.9).interests.schema == INTEREST_SCHEMA


CONFIDENCE = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
KEY = st.tuples(st.sampled_from("AB"), st.sampled_from("abc"), st.sampled_from(sorted(ANGLES)))
MINED = st.dictionaries(KEY, st.tuples(CONFIDENCE, st.sampled_from(["text", "visual"])), max_size=20).map(
    lambda found: [(item, text, kind, value, miner) for (item, miner, text), (value, kind) in found.items()]
)


def same(first: str, second: str) -> float | None:
    """The cosine of two phrases that say the same, else None."""
    cosine = float(np.cos(np.radians(ANGLES[fold(first)] - ANGLES[fold(second)])))
    if fold(first) == fold(second):
        return 1.0
    return cosine if cosine >= 0.9 and not contradict(fold(first), fold(second)) else None


def slowly(rows: list) -> set:
    """(item, miners with wordings, confidence) of every merged interest, by the words of the docstring."""
    ranks: Counter = Counter()
    of_item = defaultdict(list)
    for item, text, _, confidence, miner in rows:
        sure = (confidence is None, -(confidence or 0.0), ranks[item, miner], miner)
        ranks[item, miner] += 1
        of_item[item].append((sure, text, confidence, miner))
    result = set()
    for item, found in of_item.items():
        clusters: list[list] = []
        for one in sorted(found):
            values = []
            for cluster in clusters:
                alike = [same(one[1], other[1]) if one[3] != other[3] else None for other in cluster]
                values.append(-np.inf if None in alike else min(alike))
            if values and max(values) > -np.inf:
                clusters[int(np.argmax(values))].append(one)
            else:
                clusters.append([one])
        for cluster in clusters:
            given = [confidence for _, _, confidence, _ in cluster if confidence is not None]
            value = 1 - prod(1 - each for each in given) if given else None
            members = tuple((miner, text) for _, text, _, miner in cluster)
            result.add((item, members, value if value is None else round(value, 9)))
    return result


@settings(max_examples=300)
@given(MINED)
def test_it_is_what_the_slow_obvious_way_gives(rows):
    found = {
        (
            each.item_id,
            tuple(zip(each.miners, each.wordings, strict=True)),
            None if each.confidence is None else round(each.confidence, 9),
        )
        for each in from_frame(merge(rows).interests)
    }
    assert found == slowly(rows)


@settings(max_examples=200)
@given(MINED, st.permutations("abc"))
def test_what_holds_whatever_the_miners_say(rows, order):
    found = merge(rows)
    interests = from_frame(found.interests)  # validates ranges of votes and confidences
    for each in interests:
        assert each.votes == len(each.miners) == len(set(each.miners)) <= 3
        assert each.text == each.wordings[0] and each.miner == each.miners[0]
    # nothing is lost: every wording of every miner is in exactly one interest of its item
    said = Counter((each.item_id, *pair) for each in interests for pair in zip(each.miners, each.wordings, strict=True))
    assert said == Counter((item, miner, text) for item, text, _, _, miner in rows)
    assert found.joined == len(rows) - len(interests) and found.cut == 0
    # merged once is merged
    phrases = distinct_phrases(mined_frame(rows))
    again = merge_interests(found.interests, phrases, vectors(phrases), 0.9)
    assert_frame_equal(again.interests, found.interests)
    assert again.joined == 0
    # in whatever order the miners come, an item's list is the same
    moved = merge(sorted(rows, key=lambda row: order.index(row[4]))).interests
    for item in "AB":
        of_item = pl.col("item_id") == item
        assert_frame_equal(moved.filter(of_item), found.interests.filter(of_item))


def test_a_hundred_thousand_interests_of_three_miners():
    rng = np.random.default_rng(0)
    meanings, wordings = 2000, 4
    phrases = [f"phrase {number:05d}x" for number in range(meanings * wordings)]
    texts = [fold(phrase).replace(" ", "") for phrase in phrases]
    texts = ["".join(chr(97 + int(digit)) if digit.isdigit() else digit for digit in text) for text in texts]
    base = np.repeat(rng.normal(size=(meanings, 384)), wordings, axis=0)
    given_vectors = (base + 0.15 * rng.normal(size=base.shape)).astype(np.float32)
    rows = []
    for item in range(10_000):
        wanted = rng.choice(meanings, 4, replace=False)
        for miner, count in (("a", 4), ("b", 3), ("c", 3)):
            for meaning in wanted[:count]:
                text = texts[meaning * wordings + int(rng.integers(wordings))]
                rows.append((f"I{item}", text, "text", float(rng.random()), miner))
    frame = mined_frame(rows)
    start = time.process_time()
    found = merge_interests(frame, texts, given_vectors, 0.9)
    assert time.process_time() - start < 10  # of computing, not of the clock
    assert frame.height == 100_000
    assert found.interests["votes"].value_counts().sort("votes").rows() == [(1, 10_000), (3, 30_000)]


def test_what_real_models_wrote_is_joined_with_key_phrases(real_data, real_catalogue):
    """Beauty's interests by a 4B model and the lexical miner's, joined where they are the same words."""
    catalogue = real_catalogue("beauty").head(2000)
    written = read_interests(real_data("beauty") / "interests.jsonl.gz", catalogue["item_id"]).interests
    both = pl.concat([written, mine_lexical(catalogue, {}, MiningConfig())])
    phrases = distinct_phrases(both)
    merged = merge_interests(both, phrases, np.random.default_rng(0).normal(size=(len(phrases), 64)), 0.9).interests
    folded = both.with_columns(folded=fold_column(both["text"]))
    shared = folded.group_by("item_id", "folded").agg(pl.col("miner").n_unique()).filter(pl.col("miner") == 2)
    assert len(shared) == (merged["votes"] == 2).sum() > 500
    assert merged["votes"].sum() == len(both) and merged["votes"].max() == 2
    assert merged.filter(pl.col("votes") == 2)["miners"].list.n_unique().eq(2).all()
