import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dig.interests import Interest, to_frame
from dig.interests.features import FEATURES, interest_features, read_items, word_rarity
from dig.interests.phrases import plain_words


@pytest.fixture
def catalogue(make_catalogue):
    return make_catalogue(
        {
            "item_id": "A",
            "title": "Acme Nail Polish",
            "brand": "Acme",
            "categories": ["Beauty", "Nails"],
            "description": "Dries fast. Lasting colors",
        },
        {"item_id": "B"},
    )


def rows(frame, catalogue, captions=None):
    values = interest_features(frame, read_items(catalogue, captions or {}))
    assert values.shape == (frame.height, len(FEATURES)) and np.isfinite(values).all()
    return [dict(zip(FEATURES, row, strict=True)) for row in values]


def test_values_written_out(catalogue):
    frame = to_frame(
        [
            Interest("A", "nail-polish", "text", None, "m"),
            Interest("A", "Acme 24", "text", 0.5, "m"),
            Interest("A", "red box", "visual", None, "m"),
            Interest("B", "Nail-Polish", "text", None, "m"),
        ]
    )
    polish, acme, box, elsewhere = rows(frame, catalogue, {"A": "A red box."})
    assert polish == pytest.approx(
        {
            "log_items": math.log(3),
            "words": 2,
            "characters": 11,
            "has_digit": 0,
            "confidence": 0,
            "no_confidence": 1,
            "rank": 0,
            "in_title": 1,
            "in_description": 0,
            "in_categories": 0,
            "in_caption": 0,
            "grounded_share": 1,
            "brand_word": 0,
            "category_word": 1,  # "nails" without its plural
            "visual": 0,
            "log_text_words": math.log(1 + 3 + 2 + 4 + 3),
            "log_interests": math.log(4),
        }
    )
    expected = {
        "has_digit": 1,
        "confidence": 0.5,
        "no_confidence": 0,
        "rank": 1,
        "brand_word": 1,
        "grounded_share": 0.5,
    }
    assert {name: acme[name] for name in expected} == expected
    assert (box["in_caption"], box["visual"], box["rank"]) == (1, 1, 0)  # rank starts anew for each kind
    grounding = ("in_title", "grounded_share", "log_text_words", "category_word")
    assert [elsewhere[name] for name in grounding] == [0, 0, 0, 0]


def test_a_phrase_is_found_as_whole_words_in_one_field(catalogue):
    frame = to_frame([Interest("A", text, "text", None, "m") for text in ("lish", "fast lasting", "beauty nails", "★")])
    part, across_sentences, across_names, sign = rows(frame, catalogue)
    assert part["in_title"] == part["grounded_share"] == 0
    assert across_sentences["in_description"] == 1
    assert across_names["in_categories"] == 0 and across_names["grounded_share"] == 1
    assert sign["grounded_share"] == sign["words"] == 0


def test_an_item_outside_the_catalogue_is_refused(catalogue):
    with pytest.raises(ValueError, match="'Z'"):
        interest_features(to_frame([Interest("Z", "x", "text", None, "m")]), read_items(catalogue, {}))


WORDS = st.sampled_from(["nail", "nails", "polish", "acme", "fast", "★", "red", "a|b", "24"])
TEXT = st.lists(WORDS, max_size=4).map(" ".join)


def slowly(phrase: str, fields: dict[str, list[str]]) -> dict[str, float]:
    """Grounding, word by word."""
    words, runs = plain_words(phrase), {name: [plain_words(text) for text in texts] for name, texts in fields.items()}
    size = len(words)
    held = {
        name: any(run[at : at + size] == words for run in runs[name] for at in range(len(run) - size + 1)) and size > 0
        for name in runs
    }
    everything = {word for name in ("title", "description", "categories") for run in runs[name] for word in run}
    return {
        **{f"in_{name}": float(held[name]) for name in ("title", "description", "categories")},
        "grounded_share": sum(word in everything for word in words) / max(size, 1),
        "brand_word": float(any(word in run for word in words for run in runs["brand"])),
        "category_word": float(any(word in run for word in words for run in runs["categories"])),
    }


@settings(max_examples=150, deadline=None)
@given(TEXT.filter(str.strip), TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3))
def test_grounding_is_that_of_a_search_word_by_word(phrase, title, description, brand, categories):
    fields = {"title": [title], "description": [description], "brand": [brand], "categories": categories}
    catalogue = pl.DataFrame(
        {
            "item_id": ["A"],
            "title": [title],
            "description": [description],
            "brand": [brand],
            "categories": [categories],
        },
        schema_overrides={"categories": pl.List(pl.String)},
    )
    (found,) = rows(to_frame([Interest("A", phrase, "text", None, "m")]), catalogue)
    expected = slowly(phrase, fields)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_rarity_of_words_written_out(catalogue):
    rarity = word_rarity(read_items(catalogue, {"B": "polish"}), ["nail polish", "unheard", "★"])
    nail, polish, unheard = math.log(3 / 2), math.log(3 / 3), math.log(3 / 1)  # of two items 1, 2 and 0 hold them
    np.testing.assert_allclose(rarity, [[(nail + polish) / 2, nail], [unheard, unheard], [0, 0]])
    assert word_rarity(read_items(catalogue, {}), []).shape == (0, 2)
