"""Bodies with status 200, as endpoints and what stands before them send them."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig.interests.models.response import ProviderError, Response, UnreadableError, one_line, read_response


def body(message: dict | None = None, **rest) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": message or {"role": "assistant", "content": "hi"}}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return json.dumps({"choices": [choice | rest.pop("choice", {})], "usage": usage} | rest).encode()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ("many", (None, None)),
        ({"prompt_tokens": 10}, (10, None)),
        ({"prompt_tokens": 10, "completion_tokens": None, "total_tokens": 13}, (10, 3)),
        ({"completion_tokens": 3, "total_tokens": 13}, (10, 3)),
        ({"prompt_tokens": 10, "total_tokens": 10}, (10, None)),
        ({"input_tokens": 10, "output_tokens": 3.0}, (10, 3)),
        ({"prompt_tokens": "10", "completion_tokens": "3"}, (10, 3)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": 1e300, "completion_tokens": float("nan")}, (None, None)),
    ],
)
def test_tokens_are_what_is_told_and_nothing_is_made_up(usage, expected):
    """Entry 16: an answer without a whole count of tokens is an answer."""
    assert read_response(body(usage=usage)) == Response("hi", *expected)


@pytest.mark.parametrize(
    ("message", "text", "note"),
    [
        ({"content": [{"type": "text", "text": "h"}, {"type": "reasoning", "text": "x"}, "i"]}, "hi", ""),
        ({"content": {"type": "text", "text": {"value": "hi", "text": "hi"}}}, "hi", ""),
        ({"content": None, "reasoning_content": "hi"}, "hi", ""),
        ({"content": "", "reasoning": "hi"}, "hi", ""),
        ({"content": None, "refusal": "I won't"}, "I won't", "refused"),
        ({"content": None}, "", ""),
        ({"content": 7}, "", ""),
        ({"content": None, "tool_calls": [{"function": {"arguments": "hi"}}]}, "hi", ""),
        ({"content": None, "function_call": {"arguments": {"a": 1}}}, '{"a": 1}', ""),
        ({"content": {"a": 1}}, '{"a": 1}', ""),
        ({"content": [{"a": 1}]}, '{"a": 1}', ""),
        ({"content": None, "parsed": {"a": 1}}, '{"a": 1}', ""),
        ({"content": {}}, "", ""),
    ],
)
def test_the_text_of_an_answer_is_found_where_endpoints_put_it(message, text, note):
    """Entry 16: parts, thoughts in a field of their own, refusals and calls of functions."""
    found = read_response(body(message))
    assert (found.text, found.note) == (text, note)


def test_forms_of_the_body_are_no_faults():
    """Entry 16: a byte order mark, another content type, blanks in front, a list of one, a choice without a list."""
    good = Response("hi", 10, 3)
    for form in (b"\xef\xbb\xbf" + body(), b"\n \n" + body(), b"[" + body() + b"]", body(error=None)):
        assert read_response(form, "text/plain; charset=utf-8") == good
    assert read_response(body(choice={"message": None, "text": "hi"})) == good
    for finish in ("length", "max_tokens", "MAX_TOKENS"):
        assert read_response(body(choice={"finish_reason": finish})).note == "cut short"
    for form in (gzip.compress(body()), body().decode().encode("utf-16"), b": ping\n\n: ping\n\n" + body()):
        assert read_response(form) == good
    for envelope in ("data", "result", "response"):
        assert read_response(json.dumps({"code": 0, envelope: json.loads(body())}).encode()) == good
    with pytest.raises(UnreadableError, match="not JSON"):
        read_response(b"\x1f\x8bno gzip")
    assert read_response(body({"content": None}, choice={"finish_reason": "content_filter"})).note == "refused"
    assert read_response(body().replace(b'"hi"', b'"h\xff"')) == Response("h\ufffd", 10, 3, "no UTF-8")
    latin = body({"content": "hü"}).replace(b"\\u00fc", b"\xfc")
    assert read_response(latin, "application/json; charset=ISO-8859-1") == Response("hü", 10, 3)
    assert read_response(latin, "application/json; charset=nonsense").note == "no UTF-8"
    thinking = read_response(body({"content": "hi", "reasoning_content": "it is"}, usage=None))
    assert (thinking.text, thinking.thoughts) == ("hi", "it is")


def test_a_stream_that_nobody_asked_for_is_put_together():
    """Entry 16: `data:` lines are the answer in pieces."""
    pieces = [{"choices": [{"delta": {"role": "assistant", "content": part}}]} for part in ("h", "i")]
    pieces += [{"choices": [{"delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": {"prompt_tokens": 10}}]
    lines = [": ping", *(f"data: {json.dumps(piece)}" for piece in pieces), "data: [DONE]", "data: {broken"]
    assert read_response("\n\n".join(lines).encode(), "text/event-stream") == Response("hi", 10, None, "cut short")


def test_of_several_choices_the_first_that_says_something_is_taken():
    """Entry 16: choices out of order, empty ones, a null, numbers as keys."""
    said = {"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}
    later, empty = said | {"index": 1, "message": {"content": "no"}}, {"index": 0, "message": {"content": ""}}
    for choices in ([later, said], [None, said], [empty, said | {"index": 1}], said, {"0": said, "1": later}):
        assert read_response(body(choices=choices)) == Response("hi", 10, 3)


@pytest.mark.parametrize("none", ["", None, False, 0, {}, [], "null", {"code": 0, "message": ""}, {"code": "ok"}])
def test_an_error_that_says_that_there_is_none_throws_no_answer_away(none):
    """Entry 16: fields that every response has."""
    assert read_response(body(error=none)) == Response("hi", 10, 3)


def test_a_stream_is_read_to_the_letter_or_not_at_all():
    """Entry 16: line breaks of Unicode inside a piece, parts, calls, a second choice between; a gap is told."""

    def stream(*deltas: dict, index: int = 0) -> bytes:
        pieces = [{"choices": [{"index": index, "delta": delta}]} for delta in deltas]
        lines = [f"data: {json.dumps(piece, ensure_ascii=False)}" for piece in pieces]
        return "".join(f"{line}\r\n\r\n" for line in lines).encode()

    assert read_response(stream({"content": "h\u2028\x85"}, {"content": "i"})).text == "h\u2028\x85i"
    assert read_response(stream({"content": [{"type": "text", "text": "h"}]}, {"content": ["i"]})).text == "hi"
    calls = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in "hi"]
    assert read_response(stream(*calls)).text == "hi"
    assert read_response(stream(*({"function_call": {"arguments": part}} for part in "hi"))).text == "hi"
    between = stream({"content": "h"}) + stream({"content": "XX"}, index=1) + stream({"content": "i"})
    assert read_response(between).text == "hi"
    with pytest.raises(UnreadableError, match="a piece of its stream is broken"):
        read_response(stream({"content": "h"}) + b'data: {"choices": [{"del\n\n' + stream({"content": "i"}))


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ({"error": {"message": "Provider returned error", "code": 502}}, 502, "Provider returned error"),
        ({"error": {"message": "slow down", "code": "429"}}, 429, "slow down"),
        ({"error": {"message": "no", "type": "insufficient_quota", "code": None}}, 402, "no"),
        ({"error": {"message": "no", "code": "x-17", "type": "overloaded_error"}}, 529, "no"),
        ({"error": {"message": "no", "status": "RESOURCE_EXHAUSTED"}}, 429, "no"),
        ({"error": "no such model"}, None, "no such model"),
        ([{"error": {"message": "bad", "code": 400}}], 400, "bad"),
        ({"object": "error", "message": "bad", "code": 400}, 400, "bad"),
        ({"detail": "Not Found"}, None, "Not Found"),
        ({"detail": [{"msg": "field required", "type": "missing"}]}, None, "field required"),
        ({"error_code": 17, "error_msg": "daily limit reached"}, None, "daily limit reached"),
        ({"code": 1302, "msg": "slow down", "success": False}, None, "slow down"),
        ({"choices": [{"error": {"message": "upstream", "code": 503}, "message": {"content": ""}}]}, 503, "upstream"),
        ({"error": {"message": "no", "code": 500, "metadata": {"raw": "out of memory"}}}, 500, "no: out of memory"),
    ],
)
def test_an_error_in_a_body_keeps_the_providers_words_and_what_they_mean(content, status, message):
    """Entry 16: HTTP 200 with an error inside."""
    found = read_response(json.dumps(content).encode())
    assert isinstance(found, ProviderError)
    assert (found.status, found.message, found.billed) == (status, message, False)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "the body is empty"),
        (b"<html><head><title>Sign\nin</title></head></html>", "a web page (Sign in) instead of an answer"),
        (b"no healthy upstream", "not JSON"),
        (b"null", "not a JSON object"),
        (b'"hi"', "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"choices": []}', "it holds no choices"),
        (b'{"choices": [null], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}', "it holds no choices"),
    ],
)
def test_what_is_no_answer_says_what_it_is(sent: bytes, reason: str):
    """Entry 16: pages of proxies, empty bodies and answers without choices."""
    with pytest.raises(UnreadableError) as caught:
        read_response(sent)
    assert caught.value.reason == f"unreadable response: {reason}"
    assert caught.value.usage == ((4, 2) if b"usage" in sent else None)


def test_a_providers_words_are_one_line_without_keys():
    assert one_line("a\x1b[31mb\u202e\nc") == "a [31mb c"
    secret = "own-" + "key" * 4
    assert secret not in one_line("x" * 190 + secret, secret) and "own-" not in one_line("x" * 195 + secret, secret)
    assert one_line("wrong key sk-abcdefgh1234.", None) == "wrong key ***"


# all of Unicode would be listed first, which takes seconds; any bytes are tried as well
LETTERS = st.sampled_from('{}[]":,.-0179 aenrulst<>\\\n\r\t\0\ufeff\u2028\x85\xe9\u4f60\U0001f600')


@given(st.binary(max_size=200) | st.text(LETTERS, max_size=200).map(str.encode))
def test_any_body_is_an_answer_an_error_or_a_reason(sent: bytes):
    try:
        read_response(sent)
    except UnreadableError as error:
        assert error.reason.startswith("unreadable response: ")


KEYS = ("choices", "message", "content", "error", "usage", "text", "prompt_tokens", "code", "delta", "tool_calls")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(LETTERS, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_any_json_is_an_answer_an_error_or_a_reason(content):
    try:
        read_response(json.dumps(content).encode())
    except UnreadableError as error:
        assert error.reason.startswith("unreadable response: ")
