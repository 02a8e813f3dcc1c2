"""What a server honours, asked of it without ``dig``: each probe is a request or two, and says what came of them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from endpoints.servers import CONTEXT, Running

__all__ = ["PROBES", "probe"]

_SAY = [{"role": "user", "content": "Say something about a red kettle."}]
_COUNT = [{"role": "user", "content": "Write a very long story about a red kettle that travels around the world."}]


def _ask(server: Running, timeout: float = 240.0, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and content of a response."""
    content = {"model": server.model, "messages": _SAY, "max_tokens": 24, "temperature": 0.0, **body}
    request = urllib.request.Request(  # noqa: S310 - a server of ours
        f"{server.url}/chat/completions", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"text": text[:300]}


def _said(content: dict[str, Any]) -> str:
    error = content.get("error", content)
    error = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(error).split())[:140]


def _schema(**properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _held(server: Running, form: dict[str, Any]) -> str | dict[str, Any]:
    """The object in an answer of a format, or why there is none."""
    status, content = _ask(server, response_format=form, max_tokens=60)
    if status != 200:
        return f"refused ({status}: {_said(content)})"
    text = content["choices"][0]["message"]["content"]
    try:
        value = json.loads(text)
    except ValueError:
        cut = content["choices"][0].get("finish_reason") == "length" and text.lstrip().startswith("{")
        return {} if cut else f"ignored ({text[:40]!r})"
    return value if isinstance(value, dict) else f"ignored ({text[:40]!r})"


def json_schema(server: Running) -> str:
    """Keys, a constant and a choice."""
    value = _held(server, _schema(ref={"type": "string", "const": "a1b2"}, size={"enum": [0.3, 0.9]}))
    if isinstance(value, str):
        return value
    return "held" if value.get("ref") == "a1b2" and value.get("size") in (0.3, 0.9) else f"not held ({value})"


def json_object(server: Running) -> str:
    """Any object."""
    value = _held(server, {"type": "json_object"})
    return value if isinstance(value, str) else "held"


def bounds(server: Running) -> str:
    """Largest number, longest list and text, pattern; an answer that wants to go beyond each."""
    asked = "Answer in JSON: number 2.0, list of ten animals, and a long sentence."
    form = _schema(
        number={"type": "number", "minimum": 0, "maximum": 1},
        list={"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
        text={"type": "string", "pattern": "^[a-z]{2,5}$"},
    )
    status, content = _ask(server, response_format=form, messages=[{"role": "user", "content": asked}], max_tokens=80)
    if status != 200:
        return f"refused ({status}: {_said(content)})"
    text = content["choices"][0]["message"]["content"]
    try:
        value = json.loads(text)
        tests = {
            "maximum": 0 <= value["number"] <= 1,
            "maxItems": len(value["list"]) <= 2,
            "maxLength": all(len(each) <= 8 for each in value["list"]),
            "pattern": value["text"].isalpha() and value["text"].islower() and 2 <= len(value["text"]) <= 5,
        }
    except (ValueError, KeyError, TypeError):
        return f"no such object ({text[:60]!r})"
    broken = [name for name, holds in tests.items() if not holds]
    return f"not {', '.join(broken)} ({json.dumps(value)[:80]})" if broken else "held"


def max_tokens(server: Running) -> str:
    """A limit of eight tokens."""
    status, content = _ask(server, messages=_COUNT, max_tokens=8)
    if status != 200:
        return f"refused ({status}: {_said(content)})"
    written = (content.get("usage") or {}).get("completion_tokens")
    return f"{written} of 8, finish_reason {content['choices'][0].get('finish_reason')}"


def usage(server: Running) -> str:
    """Tokens that are told."""
    _, content = _ask(server)
    told = content.get("usage") or {}
    return f"{told.get('prompt_tokens')} read, {told.get('completion_tokens')} written"


def model_name(server: Running) -> str:
    """A name that it does not have."""
    status, content = _ask(server, model="no-such-model", max_tokens=2)
    if status == 200:
        return f"any is taken; the answer names {str(content.get('model')).rpartition('/')[2]!r}"
    return f"{status}: {_said(content)}"


def overflow(server: Running) -> str:
    """A question longer than the context, and one that leaves too little for the answer."""
    long = [{"role": "user", "content": "word " * (2 * CONTEXT)}]
    nearly = [{"role": "user", "content": "word " * (CONTEXT - 200)}]
    parts = []
    for what, messages, most in (("question", long, 8), ("with answer", nearly, 400)):
        begun = time.monotonic()
        status, content = _ask(server, messages=messages, max_tokens=most)
        took = time.monotonic() - begun
        parts.append(f"{what}: {status}" + (f" ({_said(content)})" if status != 200 else f" after {took:.0f} s"))
    return "; ".join(parts)


def abandoned(server: Running) -> str:
    """Whether a short question waits for a long one whose asker has gone."""
    alone = _seconds(server)
    with suppress(TimeoutError, OSError):
        _ask(server, timeout=1.0, messages=_COUNT, max_tokens=400)
    after = _seconds(server)
    which = "computed to their end" if after > 2 * alone + 1.0 else "ended"
    return f"{which} (a short answer takes {alone:.1f} s, behind an abandoned one {after:.1f} s)"


def _seconds(server: Running) -> float:
    begun = time.monotonic()
    _ask(server, max_tokens=4)
    return time.monotonic() - begun


def at_once(server: Running) -> str:
    """Eight requests at the same time."""
    alone = _seconds(server)
    with ThreadPoolExecutor(8) as pool:
        begun = time.monotonic()
        statuses = sorted({status for status, _ in pool.map(lambda _: _ask(server, max_tokens=4), range(8))})
        took = time.monotonic() - begun
    return f"statuses {statuses}; eight take {took:.1f} s, one {alone:.1f} s"


PROBES = {
    "json_schema": json_schema,
    "bounds of a schema": bounds,
    "json_object": json_object,
    "max_tokens": max_tokens,
    "usage": usage,
    "another model's name": model_name,
    "longer than the context": overflow,
    "abandoned requests": abandoned,
    "eight at once": at_once,
}


def probe(server: Running) -> dict[str, str]:
    """What came of every probe."""
    results = {}
    for name, function in PROBES.items():
        begun = time.monotonic()
        try:
            results[name] = function(server)
        except (OSError, TimeoutError) as error:
            results[name] = f"no answer ({type(error).__name__} after {time.monotonic() - begun:.0f} s)"
        print(f"  {name}: {results[name]}", flush=True)
    return results
