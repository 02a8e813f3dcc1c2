"""Contradictions of phrases whose vectors are close: negation, numbers, opposites, and what only looks like them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.engine.folding import fold
from dig.interests.contradictions import OPPOSITES, contradict
from dig.interests.phrases import singular

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
