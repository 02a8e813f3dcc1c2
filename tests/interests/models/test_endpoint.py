import asyncio
import base64
import io
import time
from email.utils import formatdate

import pytest
from PIL import Image

from dig.config import UserError
from dig.config.schema import ModelConfig
from dig.interests.models.endpoint import Endpoint, _retry_after, redacted, secret_of
from dig.interests.models.response import Message

SCHEMA = {"type": "object", "properties": {"ref": {"const": "a"}}, "required": ["ref"]}


def body_of(config: ModelConfig, messages: list[Message]) -> dict:
    """What is sent for a conversation, taken where the official client gets it."""
    sent = {}
    endpoint = Endpoint("m", config)

    class Listening:
        def __init__(self, **body):
            sent.update(body)

        async def __aenter__(self):
            raise ConnectionResetError

        async def __aexit__(self, *_):
            return None

    endpoint._client.chat.completions.with_streaming_response.create = Listening
    with pytest.raises(Exception, match="connection lost"):
        asyncio.run(endpoint.complete(messages, "dig-7", SCHEMA))
    assert sent["messages"] == []  # they are in extra_body, which takes their place
    return sent | {"messages": sent["extra_body"].pop("messages")}


def test_the_body_says_what_is_configured():
    config = ModelConfig(model="gpt", base_url="http://localhost:1/v1", max_output=55, extra={"seed": 3})
    sent = body_of(config, [Message("system", "a"), Message("user", "b")])
    assert sent["model"] == "gpt" and sent["extra_headers"] == {"X-Client-Request-Id": "dig-7"}
    assert sent["messages"] == [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert sent["extra_body"] == {
        "max_tokens": 55,
        "seed": 3,
        "temperature": 0.0,
        "response_format": {"type": "json_object"},
    }
    config = ModelConfig(
        model="gpt",
        base_url="http://localhost:1/v1",
        temperature=None,
        format="json_schema",
        output_key="max_completion_tokens",
    )
    options = body_of(config, [Message("user", "b")])["extra_body"]
    assert options["max_completion_tokens"] == 1024 and "temperature" not in options
    schema = options["response_format"]["json_schema"]
    assert schema == {"name": "answer", "schema": SCHEMA}
    plain = ModelConfig(model="gpt", base_url="http://localhost:1/v1", format="none")
    assert "response_format" not in body_of(plain, [Message("user", "b")])["extra_body"]


def test_pictures_go_along_small_and_those_that_cannot_be_decoded_do_not(tmp_path):
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGBA", (2000, 500), (200, 10, 10, 255)).save(good)
    bad.write_bytes(b"no picture")
    config = ModelConfig(model="m", base_url="http://localhost:1/v1", vision=True)
    (turn,) = body_of(config, [Message("user", "what is it?", good)])["messages"]
    picture, text = turn["content"]
    head, _, content = picture["image_url"]["url"].partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as sent:
        assert head == "data:image/jpeg;base64" and sent.size == (768, 192)
        assert abs(sent.getpixel((5, 5))[0] - 200) < 5
    assert text == {"type": "text", "text": "what is it?"}
    assert body_of(config, [Message("user", "what?", bad)])["messages"] == [{"role": "user", "content": "what?"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3.0), ("0.5", 0.5), (None, None), ("soon", None), ("-3", None)],
)
def test_retry_after_in_seconds(value, expected):
    assert _retry_after({} if value is None else {"retry-after": value}) == expected


def test_retry_after_as_a_date():
    assert 20 < _retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert _retry_after({"retry-after": formatdate(time.time() - 30)}) == 0.0


def test_keys_come_from_the_environment_alone(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"OPENAI_API_KEY is not set, and mining\.models\.gpt needs it"):
        secret_of("gpt", ModelConfig(model="m"))
    monkeypatch.setenv("OPENAI_API_KEY", " sk-1 \n")
    assert secret_of("gpt", ModelConfig(model="m")) == "sk-1"
    assert secret_of("own", ModelConfig(model="m", base_url="http://localhost:1/v1")) is None
    assert redacted("no such key: sk-1.", "sk-1") == "no such key: ***." and redacted("a", None) == "a"
