""""""

import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dig.config.schema import MiningConfig
from dig.interests import INTEREST_SCHEMA, fold_column, mine_lexical, read_captions
from dig.interests.lexical import (
    MAX_TEXT_CHARACTERS,
    MAX_WORD_CHARACTERS,
    candidate_phrases,
    clean_factor,
    phrase_worth,
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


def texts(frame: pl.DataFrame, item_id: str) -> list[str]:
    return frame.filter(pl.col("item_id") == item_id)["text"].to_list()


@pytest.fixture
def shop(make_catalogue):
    rows = [
        {
            "item_id": f"I{n}",
            "title": f"Acme thing{n} 500 ml",
            "brand": "Acme",
            "categories": ["Shop", "Skin Care"],
            "description": "Made for sensitive skin." if n % 5 == 0 else "A plain everyday staple.",
        }
        for n in range(40)
    ]
    return make_catalogue(*rows)


def test_shared_phrases_are_found_brands_and_common_words_are_not(shop):
    mined = mine_lexical(shop, {}, MiningConfig())
    assert mined.schema == INTEREST_SCHEMA
    assert texts(mined, "I0")[0] == "sensitive skin"
    said = set(mined["text"])
    assert not any("acme" in text.split() for text in said)
    assert "shop" not in said and "skin care" not in said  # in every item, above max_document_share
    assert not any(text in said for text in ("500", "ml", "500 ml"))
    assert mined["confidence"].is_between(0, 1).all() and mined["confidence"].min() > 0
    assert mined["label"].null_count() == mined["score"].null_count() == mined.height


def test_document_share_and_cap_are_obeyed(shop):
    wide = mine_lexical(shop, {}, MiningConfig(max_document_share=1.0))
    assert "skin care" in set(wide["text"])
    one = mine_lexical(shop, {}, MiningConfig(max_interests=1))
    assert one.group_by("item_id").len()["len"].to_list() == [1] * shop.height


def test_the_best_comes_first_and_adds_a_word(shop):
    mined = mine_lexical(shop, {}, MiningConfig())
    for item_id in ("I0", "I1"):
        rows = mined.filter(pl.col("item_id") == item_id)
        assert rows["confidence"].is_sorted(descending=True)
        assert "sensitive" not in rows["text"].to_list()  # said by "sensitive skin"


def test_phrases_of_the_caption_alone_are_visual(make_catalogue):
    catalogue = make_catalogue({"item_id": "A", "title": "velvet sofa"}, {"item_id": "B", "title": "oak table"})
    mined = mine_lexical(catalogue, {"A": "a velvet sofa, emerald green, brass legs"}, MiningConfig(max_interests=20))
    kinds = dict(mined.filter(pl.col("item_id") == "A").select("text", "kind").iter_rows())
    assert kinds["velvet sofa"] == "text"
    assert kinds["emerald green"] == "visual"


def test_every_item_with_words_gets_an_interest(make_catalogue):
    catalogue = make_catalogue(
        {"item_id": "same1", "title": "lamp"},
        {"item_id": "same2", "title": "lamp"},
        {"item_id": "same3", "title": "lamp"},
        {"item_id": "digits", "title": "332"},
        {"item_id": "nothing"},
        {"item_id": "stop", "title": "the and of"},
        {"item_id": "thai", "title": "ครีมบำรุงผิว"},
    )
    mined = mine_lexical(catalogue, {}, MiningConfig())
    assert [texts(mined, f"same{n}") for n in (1, 2, 3)] == [["lamp"]] * 3
    assert texts(mined, "digits") == ["332"]
    assert texts(mined, "thai")
    assert texts(mined, "nothing") == texts(mined, "stop") == []


def test_optional_columns_may_be_missing_and_empty_is_fine():
    assert texts(mine_lexical(pl.DataFrame({"item_id": ["A"], "title": ["blue vase"]}), {}, MiningConfig()), "A")
    none = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
    assert mine_lexical(none, {}, MiningConfig()).schema == INTEREST_SCHEMA


def test_twice_the_same_and_ties_go_by_text(make_catalogue):
    catalogue = make_catalogue({"item_id": "A", "title": "zebra, mango, apple"})
    first = mine_lexical(catalogue, {}, MiningConfig())
    assert texts(first, "A") == ["apple", "mango", "zebra"]
    assert_frame_equal(first, mine_lexical(catalogue, {}, MiningConfig()))


def test_worth_peaks_between_one_off_and_everywhere():
    worth = [phrase_worth(documents, 10_000) for documents in (1, 100, 9_999)]
    assert worth[1] > worth[0] > worth[2] > 0
    assert worth[1] == pytest.approx(1.0, abs=0.01)
    a, b = math.log(101 / 4), math.log(5)
    assert phrase_worth(4, 100) == pytest.approx(4 * a * b / (a + b) ** 2)
    assert phrase_worth(1, 1) == pytest.approx(1.0)


def test_real_items_with_captions(real_catalogue, real_data):
    catalogue = real_catalogue("industrial")
    captions = read_captions(real_data("industrial") / "image_captions.jsonl.gz", catalogue["item_id"])
    mined = mine_lexical(catalogue, captions, MiningConfig())
    assert mined["item_id"].n_unique() == catalogue.height == 1204
    assert mined.group_by("item_id").len()["len"].max() <= 8
    assert (mined["kind"] == "visual").sum() > 200
    assert fold_column(mined["text"]).equals(mined["text"])
    duplicates = mined.group_by("item_id", "text").len()
    assert duplicates["len"].max() == 1
