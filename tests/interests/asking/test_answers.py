import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.interests.asking.answers import MAX_ANSWER, AnswerError, Caption, MinedInterests, Verdict, parse_answer

GOOD = {
    "ref": "abcd1234",
    "reasoning": ["a"],
    "interests": [
        {"interest": "slow mornings", "confidence": 0.9, "evidence": "slow", "source": "text"},
        {"interest": "warm  colours\n", "confidence": 1, "source": "picture"},
    ],
}


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


TEXT = json.dumps(GOOD)
FORMS = {
    "byte order mark": "\ufeff" + TEXT,
    "fence in capitals": f"```JSON\n{TEXT}\n```\n",
    "fence of another name": f"~~~ ```json5\n{TEXT}```",
    "fence never closed": f"```json\n{TEXT}",
    "prose before": f"Here's the JSON {{as asked}}:\n```json\n{TEXT}\n```",
    "prose before and after": f"Sure! [1] {TEXT}\nI hope that helps :}}",
    "thoughts whose opening tag the template wrote": f"it is {{a}} lamp\n</think>\n{TEXT}",
    "thoughts never closed": f"<think>\nit is a lamp\n{TEXT}",
    "thoughts in capitals": f"<THINKING>it is</THINKING>{TEXT}",
    "a list of one": json.dumps([GOOD]),
    "a wrapper": json.dumps({"result": GOOD}),
    "two wrappers and a list": json.dumps({"response": {"data": [GOOD]}}),
    "JSON in a string": json.dumps(TEXT),
    "a wrapper around JSON in a string": json.dumps({"output": TEXT}),
    "keys in other case": TEXT.replace('"ref"', '"Ref"').replace('"interest', '" Interest').replace("conf", "CONF"),
    "ref in capitals": json.dumps(GOOD | {"ref": " ABCD1234"}),
    "confidence as text": TEXT.replace("0.9", '"0.9"').replace(": 1,", ': "1.0",'),
    "confidence with a comma": TEXT.replace("0.9", '"0,9"'),
    "confidence in per cent": TEXT.replace("0.9", '"90%"').replace(": 1,", ': "100 %",'),
    "confidence from 0 to 100": TEXT.replace("0.9", "90").replace(": 1,", ": 100,"),
    "confidence from 0 to 100 as text": TEXT.replace("0.9", '"90"').replace(": 1,", ': "100",'),
    "source in capitals": TEXT.replace('"text"', '"TEXT"').replace('"picture"', '"Picture"'),
    "evidence that is null or a list": TEXT.replace('"evidence": "slow"', '"evidence": ["slow", "calm"]').replace(
        '"source": "picture"', '"evidence": null, "source": "picture"'
    ),
    "evidence in an object": TEXT.replace('"evidence": "slow"', '"evidence": {"title": ["slow", 5], "brand": null}'),
    "evidence in a list of objects": TEXT.replace('"evidence": "slow"', '"evidence": [{"text": "slow"}]'),
    "source by another word": TEXT.replace('"picture"', '"image"'),
    "interests by number": json.dumps(GOOD | {"interests": dict(enumerate(GOOD["interests"]))}),
    "thoughts longer than any answer": f"<think>{'hm ' * MAX_ANSWER}</think>{TEXT}",
    "commas behind the last": TEXT.replace("}]", "},]").replace("]}", "],\n}"),
    "Python": str({**GOOD, "reasoning": None}),
    "Python with a comma, in prose": "It's this: " + str(GOOD)[:-1] + ",}",
    "typographers' quotes": TEXT.replace('"', "\u201c"),
    "a line break in a text": TEXT.replace("slow mornings", "slow\nmornings"),
    "the same twice": TEXT + "\n" + TEXT,
}


@pytest.mark.parametrize("form", FORMS)
def test_form_is_taken_off_and_nothing_else(form: str):
    """Entry 16: fences, thoughts, prose, wrappers, case, numbers as text and quotes are form; content is the same."""
    answer = parse_answer(FORMS[form], MinedInterests, "abcd1234")
    assert [(mined.interest, mined.confidence, mined.source) for mined in answer.interests] == [
        ("slow mornings", 0.9, "text"),
        ("warm colours", 1.0, "picture"),
    ]
    assert reason(FORMS[form], ref="00000000") == "another item"


def test_texts_in_other_forms_are_joined_and_one_interest_needs_no_list():
    """Entry 16: nested evidence, an interest without a list around it."""
    alone = GOOD | {"interests": {"Interest": "calm", "confidence": "0,8", "evidence": {"title": ["slow", 5], "b": {}}}}
    (found,) = parse_answer(json.dumps(alone), MinedInterests, "abcd1234").interests
    assert (found.interest, found.confidence, found.evidence) == ("calm", 0.8, "slow; 5; ")


@pytest.mark.parametrize(
    "said",
    [
        "...",
        "\u2026",
        "1.1.1.1.",
        "24/7",
        "-",
        "a",
        "<interest>",
        "[phrase]",
        "String",
        "n/a",
        "interest.",
        "\U0001f56f",
    ],
)
def test_rubbish_is_no_interest_and_no_caption(said: str):
    """Entry 16: the prompt's own dots, numbers without a letter and stand-ins say nothing, whatever else is right."""
    bad = {"interest": said, "confidence": 0.5}
    assert reason(json.dumps({"ref": "r", "interests": [bad]}), ref="r") == "nothing said"
    assert reason(json.dumps(GOOD | {"interests": [GOOD["interests"][0], bad]})) == "nothing said"
    assert reason(json.dumps({"ref": "r", "caption": said}), Caption, "r") == "nothing said"


def test_short_interests_that_say_something_are_kept():
    for said in ("茶", "4x4", "tv", "été", "<3 of tea", "none of that"):
        answer = parse_answer(
            json.dumps({"ref": "r", "interests": [{"interest": said, "confidence": 1}]}), MinedInterests, "r"
        )
        assert answer.interests[0].interest == said


def test_a_verdict_in_another_form_is_a_verdict_and_the_example_of_the_prompt_is_none():
    """Entry 16: the judge's answers are read as the miners' are."""
    for text in (
        '```JSON\n{"Ref": "r", "LABEL": "1"}\n```',
        '{"verdict": {"ref": "r", "label": 1}}',
        '[{"ref":"r","label":1,}]',
    ):
        assert parse_answer(text, Verdict, "r").label == 1
    assert reason('{"ref": "r", "label": 0} or {"ref": "r", "label": 1}', Verdict, "r") == "several answers"


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
        ({"interests": [{"interest": "cosy", "confidence": "high"}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": "1.5"}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": None}]}, "wrong shape"),
        ({"interests": [{"interest": "cosy", "confidence": 9}, {"interest": "warm", "confidence": 8}]}, "wrong shape"),
        (
            {"interests": [{"interest": "cosy", "confidence": 90}, {"interest": "b c", "confidence": 0.8}]},
            "wrong shape",
        ),
        ({"interests": [{"interest": "cosy", "confidence": 101}]}, "wrong shape"),
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
        ("no", "no JSON"),
        ("<think>" + json.dumps(GOOD) + "</think>", "empty"),
        ("<think>\nit is about", "no JSON"),
        (json.dumps(GOOD)[:-5], "broken JSON"),
        (json.dumps(GOOD) + json.dumps(GOOD | {"interests": GOOD["interests"][:1]}), "several answers"),
        (json.dumps([GOOD, GOOD | {"ref": "ffffffff"}]), "no JSON"),
        (json.dumps([]), "no JSON"),
        ("[" * 100_000, "broken JSON"),
        ('{"a":' * 40_000, "broken JSON"),
        ("{" * 100_000, "broken JSON"),
        ("x" * (MAX_ANSWER + 1), "too long"),
    ],
)
def test_every_way_to_fail_has_a_name(text: str, expected: str):
    assert reason(text) == expected


def test_verdicts_are_nothing_but_zero_and_one():
    assert parse_answer('{"ref": "r", "label": 1}', Verdict, "r").label == 1
    for bad in ("2", '"2"', '"yes"', "true", "0.5", "null"):
        assert reason(f'{{"ref": "r", "label": {bad}}}', Verdict, "r") == "wrong shape"
    assert parse_answer('{"ref": "r", "caption": "a\\u0007 red\\nkettle"}', Caption, "r").caption == "a red kettle"


@given(st.text(max_size=300))
def test_whatever_a_model_writes_is_an_answer_or_a_reason(text: str):
    try:
        parse_answer(text, MinedInterests, "abcd1234")
    except AnswerError as error:
        assert error.reason in (
            "empty",
            "no JSON",
            "broken JSON",
            "wrong shape",
            "another item",
            "too long",
            "several answers",
            "nothing said",
        )
