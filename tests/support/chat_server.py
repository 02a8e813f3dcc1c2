"""A server of its own process that speaks chat completions, misbehaves on request, and keeps its own log.

``python chat_server.py FOLDER`` writes its address to ``FOLDER/url`` and a JSON line a request to ``FOLDER/log.jsonl``.
What it does is read from ``FOLDER/plan.json``: ``latency`` (seconds), ``faults`` (a list of names, dealt out by a hash
of what is asked, once each: the next attempt of the same request succeeds), ``fault_share``, ``dead`` (models that
answer nothing but 500), ``reply`` (what a good answer holds), ``habit`` (how every good answer is sent: ``HABITS``).
Limits of real servers: ``workers`` (this many requests are worked on at once, in order, also where nobody waits for
them any more), ``context`` (tokens of question and answer), ``formats`` (the ``response_format`` types that it takes),
``models`` (the names that it has; others are 404), ``serves`` (the name that it answers with whatever is asked for),
``colours`` (an interest is what colour the picture has), ``port`` (0 takes any).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = ("429", "500", "hang", "cut", "truncated", "shape", "prose", "empty", "another", "huge", "encoding")
PAID = {"truncated", "shape", "prose", "empty", "another", "huge", "encoding"}
"""Faults that come with usage: the provider bills them."""


HABITS = (
    "no_usage",
    "null_usage",
    "zero_usage",
    "usage_without_output",
    "other_usage",
    "parts",
    "bom",
    "stream",
    "text_plain",
    "fence_upper",
    "prose_before",
    "list_root",
    "confidence_text",
    "keys_upper",
    "wrapper",
    "thinking",
    "reasoning_only",
    "tool_call",
)
"""Habits of real endpoints under which every answer is a good one."""


class Plan:
    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "plan.json").read_text()) if (folder / "plan.json").is_file() else {}
        self.latency = float(content.get("latency", 0.0))
        self.faults = list(content.get("faults", ()))
        self.fault_share = float(content.get("fault_share", 0.0))
        self.dead = set(content.get("dead", ()))
        self.retry_after = str(content.get("retry_after", "0.05"))
        self.hang = float(content.get("hang", 3600.0))
        self.echo_key = bool(content.get("echo_key"))
        self.key = content.get("key")
        self.reply = content.get("reply")
        self.habit = content.get("habit", "")
        self.context = content.get("context")
        self.formats = content.get("formats")
        self.models = content.get("models")
        self.serves = content.get("serves")
        self.workers = content.get("workers")
        self.port = int(content.get("port", 0))
        self.colours = bool(content.get("colours"))
        self.lasting = bool(content.get("lasting"))  # a fault stays with what is asked, whatever the attempt

    def fault(self, fingerprint: str, attempt: int) -> str | None:
        draw = int(fingerprint[:8], 16) / 0xFFFFFFFF
        if not self.faults or draw >= self.fault_share or (attempt > 0 and not self.lasting):
            return None
        return self.faults[int(fingerprint[8:16], 16) % len(self.faults)]


class RequestLog:
    def __init__(self, folder: Path) -> None:
        self.plan = Plan(folder)
        self.file = (folder / "log.jsonl").open("a", buffering=1 << 16)
        self.attempts: dict[str, int] = {}
        self.busy = self.most_busy = 0
        self.places = asyncio.Semaphore(self.plan.workers) if self.plan.workers else None

    def write(self, **line: Any) -> None:
        self.file.write(json.dumps(line) + "\n")


class Chat(asyncio.Protocol):
    """One connection, kept alive; requests come one after the other."""

    def __init__(self, log: RequestLog) -> None:
        self.log = log
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self.buffer = rest[size:]
            asyncio.ensure_future(self.answer(head, rest[:size]))  # noqa: RUF006 - the connection keeps it alive

    async def answer(self, head: bytes, body: bytes) -> None:
        log, plan = self.log, self.log.plan
        path = head.split(b" ", 2)[1].decode()
        if path == "/quit":
            log.file.flush()
            self.send(200, b"{}")
            asyncio.get_running_loop().call_later(0.05, sys.exit, 0)
            return
        if path == "/v1/models":
            names = plan.models or [plan.serves or "any"]
            self.send(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())
            return
        if path != "/v1/chat/completions":
            self.send(404, b'{"error": {"message": "no such page"}}')
            return
        secret = re.search(rb"authorization: *bearer *(\S+)", head, re.IGNORECASE)
        key = secret[1].decode() if secret else ""
        if plan.key is not None and key != plan.key:
            self.send(401, json.dumps({"error": {"message": f"wrong key {key}"}}).encode())
            return
        asked = json.loads(body)
        if plan.habit == "new_limit" and "max_tokens" in asked:
            log.write(model=asked["model"], fault="400", paid=False)
            said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            self.send(400, json.dumps({"error": {"message": said, "param": "max_tokens"}}).encode())
            return
        if (refusal := refused(asked, plan)) is not None:
            status, said = refusal
            log.write(model=asked["model"], fault=str(status), paid=False)
            self.send(status, json.dumps({"error": {"message": said, "code": status}}).encode())
            return
        found = re.search(rb"x-client-request-id: *(\S+)", head, re.IGNORECASE)
        name = found[1].decode() if found else ""
        fingerprint = hashlib.sha256(json.dumps([asked["model"], asked["messages"][:2]]).encode()).hexdigest()
        attempt = log.attempts.get(fingerprint, 0)
        log.attempts[fingerprint] = attempt + 1
        log.busy += 1
        log.most_busy = max(log.most_busy, log.busy)
        try:
            if log.places is not None:
                async with log.places:
                    await asyncio.sleep(plan.latency)
            elif plan.latency:
                await asyncio.sleep(plan.latency)
            fault = "500" if asked["model"] in plan.dead else plan.fault(fingerprint, attempt)
            await self.serve(asked, fault, fingerprint, name, key)
        finally:
            log.busy -= 1

    async def serve(self, asked: dict[str, Any], fault: str | None, fingerprint: str, name: str, key: str) -> None:
        log, plan = self.log, self.log.plan
        line = {"id": name, "model": asked["model"], "fault": fault, "print": fingerprint[:16], "time": time.time()}
        if fault == "429":
            log.write(**line, paid=False)
            self.send(429, b'{"error": {"message": "slow down"}}', f"Retry-After: {plan.retry_after}\r\n")
            return
        if fault == "500":
            log.write(**line, paid=False)
            said = f"internal error while checking {key}" if plan.echo_key else "internal error"
            self.send(500, json.dumps({"error": {"message": said}}).encode())
            return
        if fault == "hang":
            log.write(**line, paid=False)
            await asyncio.sleep(plan.hang)
            self.transport.close()
            return
        pictures = [digest_and_colour(url) for url in picture_urls(asked["messages"])]
        content = content_of(asked, fault, plan.reply)
        if plan.colours and fault is None:
            content = coloured(content, [colour for _, colour in pictures])
        usage = {
            "prompt_tokens": len(json.dumps(asked["messages"])) // 4,
            "completion_tokens": min(len(content) // 4 + 1, asked.get("max_tokens", 1024)),
        }
        usage["total_tokens"] = sum(usage.values())
        answer = {
            "id": "a",
            "object": "chat.completion",
            "created": 0,
            "model": plan.serves or asked["model"],
            "usage": usage,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if fault == "truncated" else "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
        }
        body, kind = with_habit(answer, plan.habit, key)
        if fault == "encoding":
            body = body.replace(b"@", b"\xff\xfe")
        paid = fault is None or fault in PAID
        if self.transport.is_closing():  # nobody is there to be answered
            log.write(**line, paid=False, gone=True, busy=log.busy)
            return
        log.write(**line, paid=paid, pictures=pictures, busy=log.busy, **(usage if paid else {}))
        if fault == "cut":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body[: len(body) // 2])
            self.transport.close()
            return
        self.send(200, body, kind=kind)

    def send(self, status: int, body: bytes, extra: str = "", kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.transport.write(head.encode() + body)


def refused(asked: dict[str, Any], plan: Plan) -> tuple[int, str] | None:
    """Status and words of what a server with limits refuses."""
    form = asked.get("response_format", {}).get("type")
    if plan.models is not None and asked["model"] not in plan.models:
        return 404, f"The model `{asked['model']}` does not exist."
    if plan.formats is not None and form is not None and form not in plan.formats:
        return 400, f"response_format type must be one of {plan.formats}, but got: {form}"
    tokens = len(json.dumps(asked["messages"])) // 4
    if plan.context is not None and tokens + asked.get("max_tokens", 0) > plan.context:
        return 400, f"request ({tokens} tokens) exceeds the available context size ({plan.context} tokens)"
    return None


def picture_urls(messages: list[dict[str, Any]]) -> list[str]:
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    return [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]


def digest_and_colour(url: str) -> tuple[str, str]:
    """What came of a picture: its size, and which of red, green and blue is the strongest."""
    from PIL import Image

    head, _, content = url.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
        picture.load()
        assert head == "data:image/jpeg;base64" and picture.format == "JPEG"
        pixel = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
        return f"{picture.width}x{picture.height}", ("red", "green", "blue")[pixel.index(max(pixel))]


def coloured(content: str, colours: list[str]) -> str:
    """An answer that says what colour is seen, as a model with eyes would."""
    seen = [
        {"interest": f"{colour} things at home", "confidence": 0.9, "evidence": colour, "source": "picture"}
        for colour in colours
    ]
    answer = json.loads(content)
    return json.dumps(answer | {"interests": seen + answer["interests"]} if "interests" in answer else answer)


def with_habit(answer: dict[str, Any], habit: str, key: str) -> tuple[bytes, str]:
    """A good answer as an endpoint with a habit sends it, and its content type."""
    usage, message = answer["usage"], answer["choices"][0]["message"]
    text, kind = message["content"], "application/json"
    counted = {
        "no_usage": None,
        "null_usage": None,
        "zero_usage": dict.fromkeys(usage, 0),
        "usage_without_output": {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]},
        "other_usage": {"input_tokens": usage["prompt_tokens"], "total_tokens": float(usage["total_tokens"])},
    }
    written = {
        "parts": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": text[:9]}, {"text": text[9:]}],
        "fence_upper": f"```JSON\n{text}\n```\n",
        "prose_before": f"Here's the JSON you asked for:\n```json\n{text}\n```",
        "list_root": f"[{text}]",
        "confidence_text": re.sub(r'("confidence": )(0\.\d+)', r'\1"\2"', text),
        "keys_upper": text.replace('"interest', '"INTEREST').replace('"ref"', '"Ref"'),
        "wrapper": f'{{"result": {text}}}',
        "thinking": f"<think>\nis it {{a lamp}}?\n</think>\n\n{text}",
    }
    answer["usage"] = counted.get(habit, usage)
    message["content"] = written.get(habit, text)
    if habit == "no_usage":
        del answer["usage"]
    elif habit == "reasoning_only":
        message |= {"content": None, "reasoning_content": text}
    elif habit == "tool_call":
        message |= {"content": None, "tool_calls": [{"function": {"name": "answer", "arguments": text}}]}
    elif habit == "no_choices":
        answer["choices"] = None
    elif habit == "refusal":
        message |= {"content": None, "refusal": "I can't help with that."}
    elif habit.startswith("error_"):
        answer = {"error": {"message": f"Provider returned\nerror for {key}", "code": int(habit[6:])}, "user_id": "u"}
    body = json.dumps(answer).encode()
    if habit == "bom":
        body = b"\xef\xbb\xbf" + body
    elif habit == "text_plain":
        kind = "text/plain"
    elif habit == "page":
        body, kind = b"<!doctype html><html><head><title>Sign in</title></head><body>Hello</body></html>", "text/html"
    elif habit == "stream":
        chunks = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text[at : at + 7]}}]}
            for at in range(0, len(text), 7)
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
        body = b": hello\n\n" + b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks)
        body, kind = body + b"data: [DONE]\n\n", "text/event-stream"
    return body, kind


def content_of(asked: dict[str, Any], fault: str | None, reply: str | None) -> str:
    """What the model says: a good answer to whatever prompt it was, or a bad one."""
    text = spoken(asked["messages"])
    ref = (re.findall(r'ref="(\w+)"', text) or ["none"])[-1]
    good = good_answer(text, ref, reply)
    if fault == "another":
        return json.dumps({**good, "ref": "f" * 8})
    if fault == "truncated":
        text = json.dumps(good)
        return text[: text.index('"interest":') + 16] if "interests" in good else text[:-12]  # no interest is complete
    if fault == "shape":
        return json.dumps({"ref": ref, "answers": ["cosy"]})
    if fault == "prose":
        return "I think that people buy it for cosy evenings at home."
    if fault == "empty":
        return ""
    if fault == "huge":
        return json.dumps({**good, "reasoning": ["x" * 10_000_000]})
    if fault == "encoding":
        return json.dumps({**good, "reasoning": ["@"]})
    return json.dumps(good)


def spoken(messages: list[dict[str, Any]]) -> str:
    parts = []
    for message in messages:
        content = message["content"]
        parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(parts)


def good_answer(text: str, ref: str, reply: str | None) -> dict[str, Any]:
    if reply is not None:
        return {"ref": ref, **json.loads(reply)}
    if '"label"' in text:
        return {"ref": ref, "label": int(hashlib.sha256(text.encode()).digest()[0] % 2)}
    if '"caption": "..."' in text:
        return {"ref": ref, "caption": "A red kettle on a white table."}
    words = re.findall(r"[a-z]{4,}", text.rpartition("<item")[2].lower())[:40]
    names = [" ".join(words[start : start + 2]) for start in range(4, len(words) - 2, 7)][:4] or ["quiet evenings"]
    interests = [
        {"interest": name, "confidence": round(0.9 - 0.1 * rank, 2), "evidence": name, "source": "text"}
        for rank, name in enumerate(dict.fromkeys(names))
    ]
    return {"ref": ref, "reasoning": ["It says so."], "interests": interests}


async def main(folder: Path) -> None:
    log = RequestLog(folder)
    server = await asyncio.get_running_loop().create_server(lambda: Chat(log), "127.0.0.1", log.plan.port, backlog=1000)
    temporary = folder / "url.tmp"
    temporary.write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    temporary.rename(folder / "url")
    async with server:
        while True:
            await asyncio.sleep(0.05)
            log.file.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
