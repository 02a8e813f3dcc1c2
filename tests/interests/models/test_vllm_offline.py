"""What vLLM is given and what is made of its answers; a stand-in takes its place."""

import base64
import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from jinja2 import TemplateError
from PIL import Image
from support.tiny import text_tokenizer

from dig.config import UserError
from dig.config.schema import ModelConfig
from dig.interests.models.response import Completion, Message
from dig.interests.models.vllm_offline import VllmModel


class Llm:
    """Answers with the last turn's text in capitals, one token a word; says what ``refusal`` says, if it does."""

    refusal: Any = staticmethod(lambda messages: None)

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.asked: list[dict[str, Any]] = []

    def get_tokenizer(self) -> Any:
        return text_tokenizer()

    def chat(self, messages: list[list[dict[str, Any]]], **settings: Any) -> list[Any]:
        self.asked.append({"messages": messages, **settings})
        for conversation in messages:
            if error := self.refusal(conversation):
                raise error
        return [self._answer(conversation) for conversation in messages]

    def _answer(self, conversation: list[dict[str, Any]]) -> Any:
        text = str(conversation[-1]["content"])
        cut = SimpleNamespace(
            text=text.upper(), token_ids=text.split(), finish_reason="length" if "long" in text else "stop"
        )
        return SimpleNamespace(outputs=[cut], prompt_token_ids=list(range(len(conversation) + 3)))


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> type[Llm]:
    """The stand-in, in a class of its own a test; its parameters are dicts."""
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.setattr("dig.pretrained.names.ask_hub", lambda name: None)  # a hub that has every model
    package, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    fresh = type("Llm", (Llm,), {})
    vars(package).update(LLM=fresh, SamplingParams=dict, sampling_params=params)
    vars(params).update(StructuredOutputsParams=lambda **keys: ("structured", keys))
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    return fresh


def model_of(**keys: Any) -> VllmModel:
    return VllmModel(ModelConfig(**{"kind": "vllm", "model": "Qwen/Qwen3-8B", **keys}))


def user(text: str, picture: Path | None = None) -> list[Message]:
    return [Message("user", text, picture)]


def test_all_conversations_go_at_once_and_come_back_in_order(llm):
    model = model_of(max_output=77, dtype="bfloat16")
    conversations = [[Message("system", "s"), *user("a b")], user("so long"), [*user("c"), Message("assistant", "d")]]
    assert model.complete(conversations) == [
        Completion("A B", 5, 2),
        Completion("SO LONG", 4, 2, "cut short"),
        Completion("D", 5, 1),
    ]
    (asked,) = model._llm.asked
    assert asked["messages"] == [
        [{"role": "system", "content": "s"}, {"role": "user", "content": "a b"}],
        [{"role": "user", "content": "so long"}],
        [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
    ]
    assert asked["use_tqdm"] is False
    assert model._llm.settings == {
        "model": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",
        "load_format": "safetensors",
        "trust_remote_code": False,
    }
    sampling = {"temperature": 0.0, "max_tokens": 77, "structured_outputs": ("structured", {"json_object": True})}
    assert asked["sampling_params"] == [sampling] * 3


def test_nothing_is_asked(llm):
    model = model_of()
    assert model.complete([]) == [] and model._llm.asked == []


@pytest.mark.parametrize(("temperature", "sent"), [(None, 0.0), (0.0, 0.0), (0.7, 0.7)])
def test_temperature_and_free_form(llm, temperature, sent):
    model = model_of(temperature=temperature, format="none", max_output=5)
    model.complete([user("a")])
    assert model._llm.asked[0]["sampling_params"] == [{"temperature": sent, "max_tokens": 5}]


@pytest.mark.parametrize("held", ["json_schema", "json_object", "none"])
def test_each_answer_is_held_to_its_own_schema(llm, held):
    """Entry 6: the schema that endpoints get, for vLLM's own structured outputs."""
    schemas = [{"type": "object", "const": ref} for ref in ("a", "b")]
    model = model_of(format=held)
    assert list(model.answers([user("a"), user("b c")], schemas)) == [
        (0, Completion("A", 4, 1)),
        (1, Completion("B C", 4, 2)),
    ]
    sent = [each.get("structured_outputs") for each in model._llm.asked[0]["sampling_params"]]
    whole = [("structured", {"json": schema}) for schema in schemas]
    assert (
        sent
        == {"json_schema": whole, "json_object": [("structured", {"json_object": True})] * 2, "none": [None] * 2}[held]
    )


def sent_picture(model: VllmModel, path: Path) -> tuple[str, bytes] | None:
    """Type and bytes of the picture that goes with a question; None where the text goes alone."""
    model.complete([user("what?", path)])
    content = model._llm.asked[-1]["messages"][0][0]["content"]
    if isinstance(content, str):
        return None
    picture, text = content
    assert text == {"type": "text", "text": "what?"} and picture["type"] == "image_url"
    kind, _, data = picture["image_url"]["url"].partition(";base64,")
    return kind, base64.b64decode(data, validate=True)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp"])
def test_pictures_are_sent_as_small_jpegs(llm, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (1000, 500), "red").save(path)
    kind, data = sent_picture(model_of(vision=True), path)
    with Image.open(io.BytesIO(data)) as picture:
        assert (kind, picture.format, picture.mode, picture.size) == ("data:image/jpeg", "JPEG", "RGB", (768, 384))


def test_a_picture_that_cannot_be_decoded_is_not_sent(llm, tmp_path):
    Image.effect_noise((40, 40), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-200])
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    model = model_of(vision=True)
    assert sent_picture(model, tmp_path / "whole.png")
    assert not any(sent_picture(model, tmp_path / name) for name in ("cut.png", "page.jpg", "none.png"))


def test_a_text_model_does_not_see(llm):
    with pytest.raises(ValueError, match="does not see"):
        model_of().complete([user("a", Path("a.png"))])


@pytest.mark.parametrize("error", [TemplateError("no system"), ValueError("no system")])
def test_a_system_turn_that_the_template_refuses_is_folded_from_then_on(llm, error):
    llm.refusal = staticmethod(lambda messages: error if messages[0]["role"] == "system" else None)
    model = model_of()
    conversations = [user("b"), [Message("system", "s"), *user("a")]]
    for _ in range(2):
        assert [answer.text for answer in model.complete(conversations)] == ["B", "S\n\nA"]
    assert len(model._llm.asked) == 3  # one refused, and it is not tried again


def test_what_vllm_refuses_is_said_in_a_line(llm):
    llm.refusal = staticmethod(lambda messages: ValueError("prompt too long\nand more") if len(messages) < 3 else None)
    model = model_of(identity="ours")
    for conversation in (user("a"), [Message("system", "s"), *user("a")]):
        with pytest.raises(UserError, match=r"^mining model ours: vLLM refuses: prompt too long$"):
            model.complete([conversation])
    kept = [Message("system", "s"), *user("a"), Message("assistant", "b")]
    model.complete([kept])  # what was refused was not a system turn, so they stay
    assert model._llm.asked[-1]["messages"][0][0] == {"role": "system", "content": "s"}


def test_vllm_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"mining model ours: vLLM cannot be imported .*pip install 'dig\[vllm\]'$"):
        model_of(identity="ours")


def test_a_vllm_without_structured_outputs(llm, monkeypatch):
    monkeypatch.delattr(sys.modules["vllm.sampling_params"], "StructuredOutputsParams")
    with pytest.raises(UserError, match=r"format=json_schema needs vLLM 0\.11 or later"):
        model_of()
    model_of(format="none")


def test_a_model_that_cannot_be_loaded(llm, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=f"there is no folder {tmp_path}/none"):
        model_of(model=f"{tmp_path}/none")

    def broken(self: Any, **settings: Any) -> None:
        raise RuntimeError("Engine core initialization failed.\nSee above.")

    monkeypatch.setattr(llm, "__init__", broken)
    with pytest.raises(
        UserError, match=r"^mining model ours: vLLM cannot load a/b: Engine core initialization failed\.$"
    ):
        model_of(identity="ours", model="a/b")
