import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.interests.asking.answers import MAX_ANSWER, AnswerError, Caption, MinedInterests, Verdict, parse_answer

GOOD = {"ref": "abcd1234", "reasoning": ["a"], "interests": [
    {"interest": "slow mornings", "confidence": 0.9, "evidence": "slow", "source": "text"},
    {"interest": "warm  colours\n", "confidence": 1, "source": "picture"}]}  # fmt: skip


def reason(text: str, shape=MinedInterests, ref: str = "abcd1234") -> str:
    with pytest.raises(AnswerError) as caught:
        parse_answer(text, shape, ref)
    return caught.value.reason


def test_a_good_answer_is_read_in_order_as_one_line_each():
    answer = parse_answer(json.dumps(GOOD), MinedInterests, "abcd1234")
    found = [(mined.interest, mined.confidence, mined.source) for mined in answer.interests]
    assert found == [("slow mornings", 0.9, "text"), ("warm colours", 1.0, "picture")]


@pytest.mark.parametrize(
    "wrapped", ["```json\n{}\n```", "```\n{}\n```", "<think>\nit is {{a}}\n</think>\n\n{}", "  {}\n"]
)
def test_thinking_and_one_code_block_are_taken_off(wrapped: str):
    text = wrapped.replace("{}", json.dumps(GOOD)).replace("{{", "{").replace("}}", "}")
    assert len(parse_answer(text, MinedInterests, "abcd1234").interests) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ref": "ffffffff"}, "another item"),
        ({"ref": 7}, "wrong shape"),
        ({"interests": []}, "wrong shape"),
        ({"interests": "cosy"}, "wrong shape"),
        ({"interests": [{"interest": "a b"}]}, "wrong shape"),
        ({"interests": [{"interest": " \u200b ", "confidence": 0.5}]}, "wrong shape"),
        ({"interests": [{"interest": "x" * 201, "confidence": 0.5}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": 1.5}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": "0.5"}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": True}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": float("nan")}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": 0.5, "source": "guess"}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": 0.5}] * 51}, "wrong shape"),
    ],
)
def test_what_has_another_shape_is_refused(change: dict, expected: str):
    assert reason(json.dumps(GOOD | change)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("```json\n\n```", "empty"),
        ("People want cosy evenings.", "no JSON"),
        ("Here it is: " + json.dumps(GOOD), "no JSON"),
        (json.dumps(GOOD)[:-5], "broken JSON"),
        (json.dumps(GOOD) + json.dumps(GOOD), "broken JSON"),
        (json.dumps([GOOD]), "wrong shape"),
        ("{" * 100_000, "broken JSON"),
        ("x" * (MAX_ANSWER + 1), "too long"),
    ],
)
def test_every_way_to_fail_has_a_name(text: str, expected: str):
    assert reason(text) == expected


def test_verdicts_are_nothing_but_zero_and_one():
    assert parse_answer('{"ref": "r", "label": 1}', Verdict, "r").label == 1
    for bad in ("2", '"1"', "true", "0.5", "null"):
        assert reason(f'{{"ref": "r", "label": {bad}}}', Verdict, "r") == "wrong shape"
    assert parse_answer('{"ref": "r", "caption": "a\\u0007 red\\nkettle"}', Caption, "r").caption == "a red kettle"


@given(st.text(max_size=300))
def test_whatever_a_model_writes_is_an_answer_or_a_reason(text: str):
    try:
        parse_answer(text, MinedInterests, "abcd1234")
    except AnswerError as error:
        assert error.reason in ("empty", "no JSON", "broken JSON", "wrong shape", "another item", "too long")
