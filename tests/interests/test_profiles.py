import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.interests import Interest, to_frame
from dig.interests.profiles import InterestProfiles


def interest(item: str, text: str, confidence: float | None = None, label: int = 1, score: float | None = None):
    return Interest(item, text, "text", confidence, "m", label, score)


FRAME = to_frame(
    [
        interest("a", "Slow mornings", 0.5, score=0.8),
        interest("a", "bargain", 0.9, label=0),
        interest("b", "slow  mornings"),
        interest("b", "garden", 0.5),
        interest("c", "garden", 1.0, score=0.5),
        interest("c", "travel"),
    ]
)


def test_weights_are_recency_times_confidence_times_score():
    profiles = InterestProfiles(FRAME, half_life=1.0)
    found = dict(profiles.interests(["a", "b", "c"]))
    weights = {"slow  mornings": 0.25 * 0.5 * 0.8 + 0.5, "garden": 0.5 * 0.5 + 0.5, "travel": 1.0}
    total = sum(weights.values())
    assert found == pytest.approx({text: weight / total for text, weight in weights.items()})
    assert [text for text, _ in profiles.interests(["a", "b", "c"], limit=2)] == ["travel", "garden"]


def test_the_latest_counts_most_and_twice_is_more_than_once():
    profiles = InterestProfiles(FRAME)
    late = dict(profiles.interests(["c", "a"]))
    early = dict(profiles.interests(["a", "c"]))
    assert late["Slow mornings"] > early["Slow mornings"]
    twice = dict(profiles.interests(["a", "a", "c"]))
    assert twice["Slow mornings"] > early["Slow mornings"]


def test_reasons_are_what_an_item_shares_with_the_history():
    profiles = InterestProfiles(FRAME, half_life=1.0)
    (reason,) = profiles.reasons(["a", "b", "a"], "c")
    assert reason.interest == "garden" and reason.because == ("b",)
    assert reason.share == pytest.approx(dict(profiles.interests(["a", "b", "a"]))["garden"])
    (reason,) = profiles.reasons(["a"], "b")
    assert reason.interest == "slow  mornings" and reason.because == ("a",) and reason.share == 1.0
    assert profiles.reasons(["a"], "c") == [] == profiles.reasons(["a"], "unknown")


def test_rejected_interests_explain_nothing():
    assert InterestProfiles(FRAME.with_columns(label=pl.lit(0, pl.Int8))).interests(["a", "b"]) == []
    assert InterestProfiles(FRAME).interests([]) == [] == InterestProfiles(FRAME.clear()).interests(["a"])
    with pytest.raises(ValueError, match="half_life"):
        InterestProfiles(FRAME, half_life=0.0)


@given(st.lists(st.sampled_from("abcx"), max_size=12))
def test_shares_add_up_to_one(history: list[str]):
    found = InterestProfiles(FRAME).interests(history, limit=100)
    assert all(share > 0 for _, share in found)
    assert sum(share for _, share in found) == pytest.approx(1.0 if set(history) - {"x"} else 0.0)
