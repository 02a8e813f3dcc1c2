"""The schema that every model is held to: bounded in every place, and nothing in it is refused as an answer."""

import json
import re

import jsonschema
import pytest

from dig.config.schema import ModelConfig
from dig.interests.asking.answers import parse_answer
from dig.interests.asking.question import SHAPES, Evidence, PromptedModel, load_prompt, prompted_model
from dig.interests.asking.schema import CONFIDENCES, answer_schema, phrase_pattern

LAMP = Evidence("I1", '{"title": "Quiet reading lamp"}')


def asked(prompt: str = "interests-v1", purpose: str = "interests", limit: int = 3) -> PromptedModel:
    return prompted_model("m", ModelConfig(model="m"), load_prompt(prompt, "k"), purpose, limit)


def answer(count: int = 1, **keys) -> dict:
    one = {"interest": "quiet evenings", "confidence": 0.7, "evidence": "Quiet", "source": "text"}
    return {"ref": LAMP.ref, "reasoning": ["It is quiet."], "interests": [one | keys] * count}


def test_what_the_schema_allows_is_an_answer():
    schema = answer_schema(asked(), LAMP)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(answer(3), schema)
    assert len(parse_answer(json.dumps(answer(3)), SHAPES["interests"], LAMP.ref).interests) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        answer(0),
        answer(4),
        answer() | {"ref": "00000000"},
        answer() | {"more": 1},
        answer(confidence=0.0),
        answer(confidence=2.0),
        answer(interest="..."),
        answer(interest="1.1.1.1."),
        answer(interest=" quiet evenings"),
        answer(interest="quiet  evenings"),
        answer(interest="quiet evenings " * 20),
        answer(interest="a" * 300),
        answer(evidence="x" * 200),
        answer(source="seller"),
    ],
)
def test_what_it_bounds(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, answer_schema(asked(), LAMP))


def test_every_text_and_list_has_a_bound():
    """Entry 3: a model that is held to it cannot go on without end."""

    def check(part: dict) -> None:
        if part["type"] == "object":
            assert part["additionalProperties"] is False and part["required"] == list(part["properties"])
            for each in part["properties"].values():
                check(each)
        elif part["type"] == "array":
            assert part["maxItems"] <= 8
            check(part["items"])
        else:
            assert part.keys() & {"const", "enum", "maxLength", "pattern"}

    for prompt, purpose in (("interests-v1", "interests"), ("caption-v1", "caption"), ("judge-v1", "judge")):
        check(answer_schema(asked(prompt, purpose), LAMP))


def test_the_prompt_decides_the_fields(tmp_path):
    (tmp_path / "own.yaml").write_text(
        json.dumps(
            {"system": "s", "user": '$ref {"interests": [{"interest": "x y", "confidence": 0.5}]}', "repair": ""}
        )
    )
    schema = answer_schema(asked(str(tmp_path / "own.yaml")), LAMP)
    assert list(schema["properties"]) == ["ref", "interests"]
    item = schema["properties"]["interests"]["items"]["properties"]
    assert list(item) == ["interest", "confidence"] and item["confidence"]["enum"] == list(CONFIDENCES)


@pytest.mark.parametrize(
    ("text", "phrase", "fits"),
    [
        ("A lamp", "crème brûlée", False),
        ("A lamp", "do-it-yourself evenings", True),
        ("A lamp", "lamps", False),
        ("Crème pour le visage", "crème brûlée", True),
        ("台灯", "安静的夜晚", True),
        ("Лампа", "тихие вечера", True),
        ("台灯", "安静。夜晚", False),
        ("台灯", "\U0001f4a1", False),
    ],
)
def test_letters_are_those_of_the_item(text, phrase, fits):
    assert bool(re.search(phrase_pattern(text), phrase)) is fits


def test_captions_and_verdicts():
    caption = answer_schema(asked("caption-v1", "caption"), LAMP)
    jsonschema.validate({"ref": LAMP.ref, "caption": "A lamp on a table."}, caption)
    verdict = answer_schema(asked("judge-v1", "judge"), LAMP)
    jsonschema.validate({"ref": LAMP.ref, "label": 1}, verdict)
    for wrong in ({"ref": LAMP.ref, "label": 2}, {"ref": LAMP.ref, "label": "1"}, {"label": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, verdict)
