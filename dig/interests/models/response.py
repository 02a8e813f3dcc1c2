"""The body of a response as real endpoints send it: an answer with what it took, a provider's error, or neither."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["ProviderError", "Response", "UnreadableError", "error_in", "one_line", "read_response"]

_SHOWN = 200
_MOST = 10**9
"""Tokens; a count above this is none."""
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_KEY_LIKE = re.compile(r"\b(?:(?:sk|pk|rk|key)-|gsk_|xai-|AIza|Bearer\s+)[\w.\-]{8,}")
_STATUS = {
    "invalid_api_key": 401, "authentication_error": 401, "permission_error": 403, "permission_denied": 403,
    "model_not_found": 404, "not_found_error": 404, "not_found": 404, "insufficient_quota": 402,
    "billing_hard_limit_reached": 402, "rate_limit_exceeded": 429, "rate_limit_error": 429, "resource_exhausted": 429,
    "too_many_requests": 429, "overloaded_error": 529, "overloaded": 529, "server_error": 500, "internal_error": 500,
    "api_error": 500, "unavailable": 503, "timeout": 504, "deadline_exceeded": 504, "invalid_request_error": 400,
    "invalid_argument": 400, "context_length_exceeded": 400, "content_filter": 400, "content_policy_violation": 400,
}  # fmt: skip
"""What the words that providers use for a kind of error would be as a status."""


class UnreadableError(Exception):
    """A body that is no answer; says why, and what it looks like.

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


def one_line(text: str, secret: str | None = None) -> str:
    """A provider's words as one printable line of bounded length, without keys."""
    text = text.replace(secret, "***") if secret else text  # before the cut, which could leave half of it
    text = _KEY_LIKE.sub("***", text[: 20 * _SHOWN])
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SHOWN]


def read_response(body: bytes, kind: str = "", secret: str | None = None) -> Response | ProviderError:
    """Reads the body of a response with status 200.

    Byte order marks, a wrong content type, a stream that nobody asked for, parts, missing counts and fields of other
    names are form. A body that is not UTF-8 is read with replacement characters and marked.

    Args:
        body: the bytes.
        kind: the content type that came with them.
        secret: the endpoint's key, which is not told in errors.

    Raises:
        UnreadableError: it holds neither an answer nor an error.
    """
    note = ""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, note = body.decode("utf-8", "replace").removeprefix("\ufeff"), "no UTF-8"
    content = _content(text.strip(), kind, secret)
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise UnreadableError("unreadable response: not a JSON object", one_line(text, secret))
    usage = _usage(content.get("usage"))
    if (error := error_in(content)) is not None:
        return error._replace(billed=bool(usage[0] or usage[1]))
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else choices
    if not isinstance(choice, dict):
        known = (usage[0] or 0, usage[1] or 0) if any(usage) else None
        raise UnreadableError("unreadable response: it holds no choices", one_line(text, secret), known)
    if (error := error_in(choice)) is not None:
        return error._replace(billed=bool(usage[0] or usage[1]))
    return _answer(choice, usage, note)


def error_in(content: dict[str, Any]) -> ProviderError | None:
    """The error that an object is or holds, None where it holds none."""
    error = content.get("error")
    if not error and "choices" not in content and "message" not in content:
        error = content.get("detail") or content.get("errors")
    elif not error and isinstance(content.get("message"), str) and "choices" not in content:
        error = content
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, str):
        return ProviderError(None, "", error, billed=False)
    if not isinstance(error, dict) or not error:
        return None
    words = [str(error[key]) for key in ("code", "status", "type") if isinstance(error.get(key), (str, int))]
    message = next((error[key] for key in ("message", "msg", "detail") if isinstance(error.get(key), str)), "")
    metadata = error.get("metadata")  # of a router: what the provider behind it said
    if isinstance(metadata, dict) and isinstance(raw := metadata.get("raw"), str):
        message = f"{message}: {raw}"
    status = next((found for word in words if (found := _status(word)) is not None), None)
    return ProviderError(status, words[0] if words else "", message or json.dumps(error), billed=False)


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
    if not text:
        raise UnreadableError("unreadable response: the body is empty")
    if text.startswith("<") or "html" in kind:
        title = _TITLE.search(text[:20_000])
        what = f"a web page{f' ({one_line(title[1], secret)})' if title else ''} instead of an answer"
        raise UnreadableError(f"unreadable response: {what}", one_line(text, secret))
    raise UnreadableError("unreadable response: not JSON", one_line(text, secret))


def _pieces(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a stream of server-sent events."""
    for line in text.splitlines():
        if line.startswith("data:") and line[5:].strip() not in ("", "[DONE]"):
            try:
                piece = json.loads(line[5:])
            except (ValueError, RecursionError):
                continue
            if isinstance(piece, dict):
                yield piece


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """One response out of the pieces of a stream: texts one behind the other, the last of everything else."""
    whole: dict[str, Any] = {}
    message: dict[str, str] = {}
    choice: dict[str, Any] = {}
    for piece in pieces:
        whole |= {key: value for key, value in piece.items() if key != "choices" and value is not None}
        choices = piece.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(first, dict):
            continue
        choice |= {key: value for key, value in first.items() if value is not None}
        delta = first.get("delta") or first.get("message")
        for key, value in delta.items() if isinstance(delta, dict) else ():
            if isinstance(value, str) and key != "role":
                message[key] = message.get(key, "") + value
    return whole | ({"choices": [choice | {"message": message}]} if choice else {})


def _answer(choice: dict[str, Any], usage: tuple[int | None, int | None], note: str) -> Response:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": message if message is not None else choice.get("text")}
    text = _text(message.get("content")) or _arguments(message)
    thoughts = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    refusal = _text(message.get("refusal"))
    finish = choice.get("finish_reason")
    if not text.strip() and refusal:
        text, note = refusal, note or "refused"
    elif not text.strip() and thoughts:
        text, thoughts = thoughts, ""  # servers that take an answer for a thought where no tag ends it
    if finish == "length":
        note = note or "cut short"
    elif finish == "content_filter" and not text.strip():
        note = note or "refused"
    return Response(text, *usage, note, thoughts)


def _text(content: Any) -> str:
    """A text out of a text, a part or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return "" if content.get("type") in ("thinking", "reasoning") else _text(content.get("text"))
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
