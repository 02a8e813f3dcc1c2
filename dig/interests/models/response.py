"""What models are told and answer: messages, completions, a model of one's own, and the answers of an endpoint."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from dig.config.schema import ModelConfig
from dig.engine.secrets import hidden

__all__ = [
    "Completion",
    "LocalModel",
    "Message",
    "probable_tokens",
    "written_tokens",
    "ProviderError",
    "Response",
    "UnreadableError",
    "error_in",
    "in_order",
    "one_line",
    "read_response",
]


_BYTES_A_TOKEN = 4.0


class Message(NamedTuple):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str
    picture: Path | None = None
    """Goes before the text; only in a user's turn, and only for a model that sees."""


class Completion(NamedTuple):
    """An answer as the model wrote it; ``note`` is "cut short" at the token limit, "refused", "no UTF-8", or
    "too long" where the question does not fit into the context."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    note: str = ""
    estimated: bool = False
    """Whether the tokens are an estimate, since the endpoint does not count them."""


class LocalModel(Protocol):
    """A model in this process, asked in batches."""

    def answers(
        self, conversations: Sequence[Sequence[Message]], schemas: Sequence[Mapping[str, Any]] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """The place of a conversation and its answer, each as soon as it ends, in any order.

        Args:
            conversations: what is said to the model.
            schemas: the JSON schema of each answer, to which ``format`` decides whether it is held; None holds nothing.
        """
        ...


def in_order(answers: Iterator[tuple[int, Completion]]) -> list[Completion]:
    """All of them, in the order of the conversations."""
    return [completion for _, completion in sorted(answers, key=lambda answer: answer[0])]


def probable_tokens(config: ModelConfig, messages: list[Message]) -> float:
    """An estimate of the tokens of the messages."""
    pictures = sum(message.picture is not None for message in messages)
    size = sum(len(message.text.encode("utf-8", "replace")) for message in messages)
    return size / _BYTES_A_TOKEN + pictures * config.picture_tokens


def written_tokens(text: str) -> int:
    """An estimate of the tokens of an answer."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_A_TOKEN)


_SHOWN = 200
_MOST = 10**9
"""Tokens; a count above this is none."""
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(r"charset=[\"']?([\w.:\-]+)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_SIGN_OF_LIFE = re.compile(r"^:.*$", re.MULTILINE)
_KEY_LIKE = re.compile(r"\b(?:(?:sk|pk|rk|key)-|gsk_|xai-|AIza|Bearer\s+)[\w.\-]{8,}")
_UNPACKED = 4_000_000
"""Bytes of an unpacked body; more are not read."""
_ENVELOPES = ("data", "result", "response")
_CODES = ("code", "error_code", "status", "type")
_SAID = ("message", "msg", "error_msg", "detail")
_NO_ERROR = frozenset({"", "0", "null", "none", "ok", "success"})
_STATUS = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "not_found": 404,
    "insufficient_quota": 402,
    "billing_hard_limit_reached": 402,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "overloaded_error": 529,
    "overloaded": 529,
    "server_error": 500,
    "internal_error": 500,
    "api_error": 500,
    "unavailable": 503,
    "timeout": 504,
    "deadline_exceeded": 504,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
}
"""What the words that providers use for a kind of error would be as a status."""


class UnreadableError(Exception):
    """A body that is not an answer; says why, and what it looks like.

    Args:
        reason: a few words, to be counted by.
        excerpt: the beginning of the body.
        usage: (read, written) tokens where the body counts them all the same.
    """

    def __init__(self, reason: str, excerpt: str = "", usage: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.excerpt, self.usage = reason, excerpt, usage


class ProviderError(NamedTuple):
    """An error that an endpoint puts into a body."""

    status: int | None
    """What it would be as an HTTP status; None where nothing tells."""
    code: str
    """As it is written."""
    message: str
    billed: bool
    """Whether the body counts tokens all the same."""


class Response(NamedTuple):
    """What a model wrote, and what is told of the tokens; None where that is not told."""

    text: str
    tokens_in: int | None
    tokens_out: int | None
    note: str = ""
    thoughts: str = ""
    """What it thought aloud in a field of its own, which was written and paid, too."""
    model: str = ""
    """Who answered, by the endpoint's own account."""


def one_line(text: str, secret: str | None = None) -> str:
    """A provider's words as one printable line of bounded length, without keys."""
    text = text.replace(secret, "***") if secret else text  # before the cut, which could leave half of it
    text = hidden(_KEY_LIKE.sub("***", text[: 20 * _SHOWN]))
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SHOWN]


def read_response(body: bytes, kind: str = "", secret: str | None = None) -> Response | ProviderError:
    """Reads the body of a response with status 200.

    Byte order marks, a wrong content type, a stream that nobody asked for, parts, missing counts and fields of other
    names are form. A body that is neither UTF-8 nor what its type says is read with replacement characters and marked.

    Args:
        body: the bytes.
        kind: the content type that came with them.
        secret: the endpoint's key, which is not told in errors.

    Raises:
        UnreadableError: it holds neither an answer nor an error.
    """
    note, body = "", _unpacked(body)
    try:
        text = body.decode(json.detect_encoding(body)).removeprefix("\ufeff")
    except UnicodeDecodeError:
        text, note = _decoded(body, kind)
    content = _content(text.strip(), kind, secret)
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and "choices" not in content:  # a gateway's own envelope
        content = next(
            (inner for name in _ENVELOPES if isinstance(inner := content.get(name), dict) and "choices" in inner),
            content,
        )
    if not isinstance(content, dict):
        raise UnreadableError("unreadable response: not a JSON object", one_line(text, secret))
    usage = _usage(content.get("usage"))
    if (error := error_in(content)) is not None:
        return error._replace(billed=bool(usage[0] or usage[1]))
    choice = _choice(content.get("choices"))
    if choice is None:
        tokens_used = (usage[0] or 0, usage[1] or 0) if any(usage) else None
        raise UnreadableError("unreadable response: it holds no choices", one_line(text, secret), tokens_used)
    if (error := error_in(choice)) is not None:
        return error._replace(billed=bool(usage[0] or usage[1]))
    model = content.get("model")
    return _answer(choice, usage, note)._replace(model=model if isinstance(model, str) else "")


def _unpacked(body: bytes) -> bytes:
    """The body out of gzip that no header tells of."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(31).decompress(body, _UNPACKED)
    except zlib.error:
        return body


def _decoded(body: bytes, kind: str) -> tuple[str, str]:
    """What is not UTF-8, in the encoding of its content type, else with replacement characters and a note."""
    charset = _CHARSET.search(kind)
    try:
        return body.decode(charset[1] if charset else "utf-8"), ""
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace").removeprefix("\ufeff"), "no UTF-8"


def _choice(choices: Any) -> dict[str, Any] | None:
    """The first choice by number that says something, else the first; one was asked for."""
    if isinstance(choices, dict):
        is_choice = any(name in choices for name in ("message", "text", "delta", "error"))
        choices = [choices] if is_choice else list(choices.values())
    mappings = [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []
    mappings.sort(key=lambda each: each["index"] if type(each.get("index")) is int else 0)
    return next(
        (each for each in mappings if _answer(each, (None, None), "").text.strip()), mappings[0] if mappings else None
    )


def error_in(content: dict[str, Any]) -> ProviderError | None:
    """The error that an object is or holds, None where it holds none.

    Beside choices, an error without words or code (``""``, ``{"code": 0, "message": ""}``) says that there is none.
    """
    error = content.get("error")
    if not error and "choices" not in content and "message" not in content:
        error = content.get("detail") or content.get("errors")
    if not error and not content.get("choices") and any(isinstance(content.get(name), str) for name in _SAID):
        error = content
    if isinstance(error, list):
        error = error[0] if error else None
    if content.get("choices") and _says_none(error):
        return None
    if isinstance(error, str):
        return ProviderError(None, "", error, billed=False)
    if not isinstance(error, dict) or not error:
        return None
    words = [str(error[key]) for key in _CODES if isinstance(error.get(key), (str, int))]
    message = next((error[key] for key in _SAID if isinstance(error.get(key), str)), "")
    metadata = error.get("metadata")  # of a router: what the provider behind it said
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str):
        message = f"{message}: {raw}"
    status = next((code for word in words if (code := _status(word)) is not None), None)
    return ProviderError(status, words[0] if words else "", message or json.dumps(error), billed=False)


def _says_none(error: Any) -> bool:
    """Whether what stands in the place of an error is none."""
    if isinstance(error, dict):
        return all(_says_none(value) for value in error.values())
    return error in (None, "", 0, False) or (isinstance(error, str) and error.strip().lower() in _NO_ERROR)


def _status(word: str) -> int | None:
    if word.isdecimal() and word.isascii() and 400 <= int(word[:4]) < 600:
        return int(word)
    return _STATUS.get(word.strip().lower())


def _content(text: str, kind: str, secret: str | None) -> Any:
    """The JSON of a body, pieces of a stream put together."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    pieces = list(_pieces(text))
    if pieces:
        return _joined(pieces)
    if text.startswith(":"):  # a stream's signs of life in front of an answer that is none
        return _content(_SIGN_OF_LIFE.sub("", text).strip(), kind, secret)
    if not text:
        raise UnreadableError("unreadable response: the body is empty")
    if text.startswith("<") or "html" in kind:
        title = _TITLE.search(text[:20_000])
        what = f"a web page{f' ({one_line(title[1], secret)})' if title else ''} instead of an answer"
        raise UnreadableError(f"unreadable response: {what}", one_line(text, secret))
    raise UnreadableError("unreadable response: not JSON", one_line(text, secret))


def _pieces(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a stream of server-sent events, up to its end.

    Raises:
        UnreadableError: one of them is broken, so what the others say has a gap.
    """
    for line in _LINE_END.split(text):  # other line breaks may stand in the JSON
        content = line[5:].strip() if line.startswith("data:") else ""
        if content == "[DONE]":
            return
        if not content.startswith("{"):
            continue
        try:
            yield json.loads(content)
        except (ValueError, RecursionError):
            raise UnreadableError("unreadable response: a piece of its stream is broken", one_line(content)) from None


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """One response out of the pieces of a stream: texts one behind the other, the last of everything else."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    for piece in pieces:
        whole |= {key: value for key, value in piece.items() if key != "choices" and value is not None}
        first = _choice(piece.get("choices"))
        if first is None or first.get("index", 0) != choice.get("index", first.get("index", 0)):
            continue  # a second answer between the pieces of the first
        choice |= {key: value for key, value in first.items() if value is not None}
        delta = first.get("delta") or first.get("message")
        for key, value in delta.items() if isinstance(delta, dict) else ():
            if key in ("tool_calls", "function_call"):
                key, value = "function_call", _arguments({key: value})
            elif key == "content":
                value = _text(value)
            if isinstance(value, str) and key != "role":
                message[key] = message.get(key, "") + value
    if "function_call" in message:
        message |= {"function_call": {"arguments": message["function_call"]}}
    return whole | ({"choices": [choice | {"message": message}]} if choice else {})


def _answer(choice: dict[str, Any], usage: tuple[int | None, int | None], note: str) -> Response:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": message if message is not None else choice.get("text")}
    text = _text(message.get("content")) or _arguments(message) or _text(message.get("parsed"))
    thoughts = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    refusal = _text(message.get("refusal"))
    finish = choice.get("finish_reason")
    if not text.strip() and refusal:
        text, note = refusal, note or "refused"
    elif not text.strip() and thoughts:
        text, thoughts = thoughts, ""  # servers that take an answer for a thought where no tag ends it
    if str(finish).lower() in ("length", "max_tokens", "max_output_tokens"):
        note = note or "cut short"
    elif finish == "content_filter" and not text.strip():
        note = note or "refused"
    return Response(text, *usage, note, thoughts)


def _text(content: Any) -> str:
    """A text out of a text, a part or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        if not content or content.get("type") in ("thinking", "reasoning"):
            return ""
        is_part = "text" in content or isinstance(content.get("type"), str)
        return _text(content.get("text")) if is_part else json.dumps(content)  # an answer that is not written as text
    return "".join(map(_text, content)) if isinstance(content, list) else ""


def _arguments(message: dict[str, Any]) -> str:
    """What a server that answers by calling a function hands to it."""
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and calls else None
    function = call.get("function") if isinstance(call, dict) else message.get("function_call")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    return json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments)


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """(read, written) tokens, None where they are not told."""
    if not isinstance(usage, dict):
        return None, None
    read = _count(usage, "prompt_tokens", "input_tokens")
    written = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    if read is None and total is not None and written is not None and total > written:
        read = total - written
    if written is None and total is not None and read is not None and total > read:
        written = total - read
    return read, written


def _count(usage: dict[str, Any], *names: str) -> int | None:
    """A count above 0; a question and an answer have a token each, so 0 tells nothing."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value[:12])
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST:
            return int(value) or None
    return None
