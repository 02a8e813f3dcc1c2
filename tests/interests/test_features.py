import math

import numpy as np
import pytest

from dig.interests import Interest, to_frame
from dig.interests.features import FEATURES, interest_features


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
    values = interest_features(frame, catalogue, captions or {})
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
        interest_features(to_frame([Interest("Z", "x", "text", None, "m")]), catalogue, {})
