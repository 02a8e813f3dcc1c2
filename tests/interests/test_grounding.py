"""What the item bears out stays; what was made up, repeated or contradicted goes, and is counted."""

import json
from pathlib import Path

import pytest

from dig.interests.asking.answers import MinedInterest
from dig.interests.asking.question import Evidence
from dig.interests.grounding import Dropped, content_stems, is_grounded

MAT = "Northpeak Yoga Mat. It wears the cheerful colours of the seventies. Both sides grip the floor; for commuters."


@pytest.mark.parametrize(
    ("phrase", "grounded"),
    [
        ("cheerful colours at home", True),
        ("commuting by bike", True),  # the stem of "commuters"
        ("griping floors", True),
        ("makeup for the sea", False),
        ("paint nails with acrylic paint", False),
        ("good quality", False),  # nothing but what every shop writes
        ("for the and of", False),
        ("安静的夜晚", True),  # another script, in which words cannot be compared
    ],
)
def test_an_interest_shares_a_content_word_with_the_item(phrase, grounded):
    assert is_grounded(phrase, MAT) is grounded


@pytest.mark.parametrize(
    ("quote", "grounded"),
    [
        ("Both sides grip the floor", True),
        ("grip and comfort", True),
        ("made of gold leaf", False),
        ("", False),
        ("it is", False),
    ],
)
def test_or_quotes_it(quote, grounded):
    assert is_grounded("safe inversions", MAT, quote) is grounded


def test_scripts_without_spaces_share_pairs_of_letters():
    assert is_grounded("安静的夜晚", "卧室台灯，适合安静的夜晚阅读")
    assert not is_grounded("厨房用品", "卧室台灯，适合安静的夜晚阅读")
    assert is_grounded("тихие вечера", "Лампа для тихих вечеров")  # two letters of other scripts are an ending
    assert not is_grounded("сухая кожа", "Лампа для тихих вечеров")
    assert is_grounded("лампа для чтения", "Лампа для тихих вечеров")


def test_stems():
    assert content_stems("Commuters") == content_stems("commuting") == content_stems("commuter's")
    assert content_stems("reflective strips") == content_stems("reflection strip")
    assert content_stems("bus") != content_stems("busy")


def mined(*phrases: str, **keys) -> list[MinedInterest]:
    return [MinedInterest(interest=phrase, confidence=0.5, **keys) for phrase in phrases]


def item(text: str, picture: Path | None = None) -> Evidence:
    return Evidence("I", json.dumps({"title": text}), picture)


def test_repeats_and_contradictions_are_dropped_and_counted():
    skin = item("Cream for dry skin, day after day; a gift for hikers")
    dropped = Dropped()
    given = mined(
        "dry skin care", "care for dry skin", "Dry  skin care", "oily skin relief", "hikers gift", "sea makeup"
    )
    assert [each.interest for each in dropped.kept(given, skin)] == ["dry skin care", "hikers gift"]
    assert dropped.counts == {"repeat another": 2, "contradict another": 1, "have nothing of the item's words": 1}
    assert dropped.summary() == (
        "4 of 6 interests are dropped (2 repeat another, 1 contradict another, 1 have nothing of the item's words)"
    )
    alone = Dropped()
    assert alone.kept(mined("oily skin relief"), skin) == [] and alone.counts == {"contradict the item": 1}
    both = item("For dry and oily skin")
    assert len(Dropped().kept(mined("oily skin relief"), both)) == 1


def test_what_is_seen_in_a_picture_is_not_looked_for_in_words(tmp_path):
    seen = mined("art deco curves", source="picture")
    assert len(Dropped().kept(seen, item("Lamp", tmp_path / "a.png"))) == 1
    assert Dropped().kept(seen, item("Lamp")) == []  # no picture was shown


def test_what_was_copied_from_the_prompt_is_dropped():
    """Entry 2: also beside an interest of its own, and where the item has its words."""
    dropped = Dropped()
    kept = dropped.kept(
        mined("Hikers on a budget", "dry skin care"), item("dry skin, for hikers"), {"hikers on a budget"}
    )
    assert [each.interest for each in kept] == ["dry skin care"] and dropped.counts == {"copy the prompt": 1}


def test_ungrounded_ones_can_be_kept():
    dropped = Dropped(grounded=False)
    assert [each.interest for each in dropped.kept(mined("sea makeup", "sea makeup"), item("Lamp"))] == ["sea makeup"]
    assert dropped.counts == {"repeat another": 1}
