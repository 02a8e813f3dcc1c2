import pytest

from dig.interests.phrases import (
    MAX_TEXT_CHARACTERS,
    MAX_WORD_CHARACTERS,
    candidate_phrases,
    clean_factor,
    plain_words,
    word_runs,
)


def test_punctuation_ends_a_run_and_hyphens_do_not():
    assert list(word_runs("Anti-Aging Cream, 0.5 oz (new)")) == [["anti-aging", "cream"], ["0.5", "oz"], ["new"]]


def test_markup_is_no_text():
    assert list(word_runs("soft<br/>skin &amp; hair")) == [["soft"], ["skin"], ["hair"]]


def test_stop_words_stand_inside_a_phrase_never_at_its_ends():
    found = set(candidate_phrases("gentle on skin for the"))
    assert found == {("gentle",), ("skin",), ("gentle", "on", "skin")}


def test_a_repeated_phrase_comes_once_an_occurrence():
    assert list(candidate_phrases("red, red")) == [("red",), ("red",)]


def test_long_words_and_long_texts_are_bounded():
    assert list(word_runs("x" * 500)) == [["x" * MAX_WORD_CHARACTERS]]
    assert sum(len(run) for run in word_runs("ab " * MAX_TEXT_CHARACTERS)) <= MAX_TEXT_CHARACTERS // 3 + 1


@pytest.mark.parametrize("pair", [(("cotton",), ("cotton", "100")), (("cotton", "100"), ("5", "oz"))])
def test_digits_and_units_cost(pair):
    assert clean_factor(pair[0]) > clean_factor(pair[1]) > 0


def test_plain_words_open_hyphens_and_drop_the_plural():
    assert plain_words("Bath-Bombs of Glass, kids' gas_mask") == ["bath", "bomb", "of", "glass", "kid", "gas", "mask"]
