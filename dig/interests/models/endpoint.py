"""An endpoint that speaks chat completions, through the official client: one request, and what became of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.interests.asking.conversation import Completion, Message
from dig.interests.models.pictures import chat_turn

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Endpoint", "LostError", "RefusedError", "redacted", "secret_of"]

MAX_BODY = 4_000_000
"""Bytes of a response; more are not read."""
_SHOWN = 200
_FATAL = {401: "the key is not accepted", 403: "the key may not do this", 404: "there is no such model or page"}
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")


class RefusedError(Exception):
    """The endpoint said no, so nothing was paid.

    Args:
        reason: a few words, to be counted by.
        transient: whether another attempt may do better.
        fatal: whether no request of this run will.
        retry_after: seconds that the endpoint asks to be left alone.
        healthy: whether the endpoint works and merely wants to be asked less.
    """

    def __init__(
        self,
        reason: str,
        transient: bool = True,
        fatal: bool = False,
        retry_after: float | None = None,
        healthy: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.fatal = reason, transient, fatal
        self.retry_after, self.healthy = retry_after, healthy


class LostError(Exception):
    """The request was sent and its end is unknown, so it may have been paid; says why in a few words."""

    def __init__(self, reason: str, transient: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.transient = reason, transient


def secret_of(name: str, config: ModelConfig) -> str | None:
    """The endpoint's key.

    Raises:
        UserError: its environment variable is not set.
    """
    variable = config.key_variable
    if variable is None:
        return None
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise UserError(f"the environment variable {variable} is not set, and mining.models.{name} needs it for the "
                        "key of its endpoint")  # fmt: skip
    return secret


def redacted(text: str, secret: str | None) -> str:
    """The text without the key, whatever a server puts into its messages."""
    return text.replace(secret, "***") if secret else text


class Endpoint:
    """A client of one endpoint.

    Args:
        name: of the model in ``mining.models``.
        config: the model.
        shape: what a usable answer is, for endpoints that take a schema.

    Raises:
        UserError: the key is missing.
    """

    def __init__(self, name: str, config: ModelConfig, shape: type[BaseModel]) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self.name, self.config = name, config
        self.secret = secret_of(name, config)
        self._client = AsyncOpenAI(api_key=self.secret or "none", base_url=config.base_url, max_retries=0,
                                   timeout=config.timeout, http_client=DefaultAioHttpClient())  # fmt: skip
        self._options = self._fixed(shape)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def _fixed(self, shape: type[BaseModel]) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {config.output_key: config.max_output, **config.extra}
        if config.temperature is not None:
            body["temperature"] = config.temperature
        if config.format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif config.format == "json_schema":
            schema = {"name": shape.__name__, "schema": shape.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def complete(self, messages: list[Message], request: str) -> Completion:
        """Asks once.

        Args:
            messages: the conversation.
            request: a name of the request for the provider's support, and for our books.

        Raises:
            RefusedError: nothing was paid.
            LostError: that is not known.
        """
        import openai

        turns = [await _turn(message) for message in messages]
        headers = {"X-Client-Request-Id": request}
        # In `messages` the client would look at every turn against its own types, which takes as long as sending them.
        body_of_ours = {**self._options, "messages": turns}
        try:
            async with asyncio.timeout(self.config.timeout):
                create = self._client.chat.completions.with_streaming_response.create
                async with create(model=self.config.model, messages=[], extra_headers=headers,
                                  extra_body=body_of_ours) as response:  # fmt: skip
                    body = await _read(response)
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except TimeoutError:
            raise LostError(f"no answer in {self.config.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise self._line(error) from None
        except (OSError, EOFError) as error:
            raise LostError(f"connection lost ({type(error).__name__})") from None
        except _READ_ERRORS as error:
            raise LostError(f"connection lost ({type(error).__name__})") from None
        return self._completion(body)

    def _line(self, error: Exception) -> RefusedError | LostError:
        """What a failure of the line means; a connection that never stood has carried no request."""
        cause = type(error.__cause__ or error).__name__
        if cause in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol"):
            return RefusedError(f"{self.config.base_url or 'OpenAI'} cannot be reached ({_deepest(error)})")
        if cause.endswith(("Timeout", "TimeoutError")):
            return LostError(f"no answer in {self.config.timeout:g} s")
        return LostError(f"connection lost ({cause})")

    def _refusal(self, error: Any) -> RefusedError:
        status, said = error.status_code, redacted(_one_line(str(error.message)), self.secret)
        fatal = _FATAL.get(status)
        if fatal or (status == 429 and any(code in str(error.body) for code in _QUOTA)):
            where = f" ({self.config.key_variable})" if status in (401, 403) and self.config.key_variable else ""
            return RefusedError(f"HTTP {status}: {fatal or 'the quota is used up'}{where}: {said}", False, fatal=True)
        if status in _TRANSIENT:
            return RefusedError(f"HTTP {status}", retry_after=_retry_after(error.response.headers),
                                healthy=status == 429)  # fmt: skip
        return RefusedError(f"HTTP {status}: {said}", transient=False)

    def _completion(self, body: bytes) -> Completion:
        """The answer in a response; one whose bytes are no UTF-8 is marked, and was paid all the same."""
        note = ""
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            text, note = body.decode("utf-8", "replace"), "no UTF-8"
        try:
            content = json.loads(text)
            tokens = int(content["usage"]["prompt_tokens"]), int(content["usage"]["completion_tokens"])
            choice = content["choices"][0]
            answer = choice["message"].get("content") or ""
            if not isinstance(answer, str):
                raise TypeError("content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise LostError(f"unreadable response ({type(error).__name__})") from None
        if choice.get("finish_reason") == "length":
            note = note or "cut short"
        return Completion(redacted(answer, self.secret), *tokens, note)


def _read_errors() -> tuple[type[Exception], ...]:
    """What the client's transport raises while a body is read; its name depends on the client's version."""
    found: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        try:
            found.append(__import__(name).HTTPError)
        except (ImportError, AttributeError):
            continue
    return tuple(found)


_READ_ERRORS = _read_errors()


async def _read(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.iter_bytes():
        size += len(part)
        if size > MAX_BODY:
            raise LostError("response too large", transient=False)
        parts.append(part)
    return b"".join(parts)


async def _turn(message: Message) -> dict[str, Any]:
    return chat_turn(message) if message.picture is None else await asyncio.to_thread(chat_turn, message)


def _retry_after(headers: Any) -> float | None:
    """Seconds that the endpoint asks for: a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _deepest(error: BaseException) -> str:
    """What the operating system says at the bottom of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _one_line(getattr(error, "strerror", None) or type(error).__name__)


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SHOWN]
