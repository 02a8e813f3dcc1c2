"""An endpoint that speaks chat completions, through the official client: one request, and what became of it."""

from __future__ import annotations

import asyncio
import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from dig.config.errors import UserError, nearest
from dig.config.schema import ModelConfig
from dig.config.sections.checks import secret_value
from dig.engine.console import warn
from dig.engine.secrets import named_variable
from dig.interests.models import chat_turn
from dig.interests.models.response import (
    Completion,
    Message,
    ProviderError,
    UnreadableError,
    error_in,
    one_line,
    probable_tokens,
    read_response,
    written_tokens,
)

__all__ = ["Endpoint", "LostError", "RefusedError", "address_of", "check_credentials", "redacted", "secret_of"]

MAX_BODY = 4_000_000
"""Bytes of a response; more are not read."""
_FATAL = {
    401: "the key is not accepted",
    402: "the quota is used up",
    403: "the key may not do this",
    404: "there is no such model or page",
}
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_OTHER_KEY = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_UNWANTED = re.compile(r"instead|unsupported|not supported|unknown|unrecognized|not permitted|extra", re.IGNORECASE)
_TOO_LARGE = re.compile(r"too large|too long|exceed|maximum context|at most", re.IGNORECASE)
_CONTEXT = re.compile(
    r"exceed_context|context_length_exceeded|context (?:size|length|window|limit)|max_model_len|"
    r"(?:prompt|input|request|conversation|max_tokens|max_completion_tokens)\b.{0,80}\btoo (?:long|large|many)|"
    r"too many (?:input |prompt )?tokens|string_above_max_length",
    re.IGNORECASE,
)
"""What endpoints say where question and answer have more tokens than a model takes."""
_FORMAT = re.compile(
    r"response.?format|json.?(?:schema|object)|grammar|guided|structured.?output|output_config", re.IGNORECASE
)
"""What they say where they know no ``response_format``, or not this schema."""
_NO_MODEL = re.compile(
    r"model_not_found|\bmodel\b.{0,100}\b(?:not exist|not found|unknown|not a valid)|"
    r"(?:no such|unknown|invalid) model\b(?! param)|not a valid model",
    re.IGNORECASE,
)
_LOADING = re.compile(r"\bloading\b|starting up|warming up", re.IGNORECASE)
_OVERLOADED = {408, 429, 503, 504, 529}
_NAMED = 5
"""Models of an endpoint that are named."""
_PATIENT = 3.0
"""Times the configured limit of time, of the client's own; ours comes before it."""
_CONNECT = 10.0
"""Seconds until a connection must stand; a machine that is not there does not answer."""


class RefusedError(Exception):
    """The endpoint said no, so nothing was paid.

    Args:
        reason: a few words, to be counted by.
        transient: whether another attempt may do better.
        fatal: whether no request of this run will.
        retry_after: seconds that the endpoint asks to be left alone.
        healthy: whether the endpoint works and merely wants to be asked less, or otherwise.
        unreachable: whether no connection stood at all, or the server is only starting.
        overloaded: whether it had too much to do.
        too_long: whether question and answer have more tokens than its context.
        listens: whether a server is there, and only starting.
    """

    def __init__(
        self,
        reason: str,
        transient: bool = True,
        fatal: bool = False,
        retry_after: float | None = None,
        healthy: bool = False,
        unreachable: bool = False,
        overloaded: bool = False,
        too_long: bool = False,
        listens: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.fatal = reason, transient, fatal
        self.retry_after, self.healthy, self.unreachable = retry_after, healthy, unreachable
        self.overloaded, self.too_long, self.listens = overloaded, too_long, listens


class LostError(Exception):
    """No answer came of a request that was sent, so it may have been paid.

    Args:
        reason: a few words, to be counted by.
        transient: whether another attempt may do better.
        excerpt: the beginning of a response that cannot be read; None where none came.
        usage: (read, written) tokens where the endpoint counted them all the same.
        timed_out: whether it did not come in time, so that a server may be working on it still.
    """

    def __init__(
        self,
        reason: str,
        transient: bool = True,
        excerpt: str | None = None,
        usage: tuple[int, int] | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.excerpt, self.usage = reason, transient, excerpt, usage
        self.timed_out = timed_out


def secret_of(name: str, config: ModelConfig) -> str | None:
    """The endpoint's key.

    Raises:
        UserError: its environment variable is not set.
    """
    variable = config.key_variable
    return (
        None
        if variable is None
        else secret_value(variable, f"mining.models.{name} needs it for the key of its endpoint")
    )


def address_of(name: str, config: ModelConfig) -> tuple[str | None, dict[str, str]]:
    """The endpoint's address without its query, and the query, which goes with every request.

    Raises:
        UserError: the environment variable of the address is not set, or holds none.
    """
    if config.base_url is None:
        return None, {}
    variable = named_variable(config.base_url)
    address = config.base_url
    if variable is not None:
        address = secret_value(variable, f"mining.models.{name}.base_url names it")
        if not address.startswith(("http://", "https://")):
            raise UserError(
                f"mining.models.{name}.base_url names the environment variable {variable}, which must hold "
                "an address that begins with http:// or https://"
            )
    plain, _, query = address.partition("?")
    return plain, dict(parse_qsl(query, keep_blank_values=True))


def check_credentials(name: str, config: ModelConfig) -> None:
    """Looks for all environment variables of an endpoint, before anything is sent anywhere.

    Raises:
        UserError: one of them is not set.
    """
    secret_of(name, config)
    address_of(name, config)
    _headers_of(name, config)


def redacted(text: str, *secrets: str | None) -> str:
    """The text without the credentials, whatever a server puts into its messages."""
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text


def _headers_of(name: str, config: ModelConfig) -> dict[str, str]:
    """Header → value; the name that the client knows, too, is written as the client writes it."""
    return {
        "Authorization" if header.lower() == "authorization" else header: secret_value(
            str(named_variable(value)), f"mining.models.{name}.headers.{header} names it"
        )
        for header, value in config.headers.items()
    }


class Endpoint:
    """A client of one endpoint.

    Args:
        name: of the model in ``mining.models``.
        config: the model.

    Raises:
        UserError: the key is missing.
    """

    def __init__(self, name: str, config: ModelConfig) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        self.name, self.config = name, config
        self.secret = secret_of(name, config)
        base_url, query = address_of(name, config)
        headers = _headers_of(name, config)
        self._secrets = (
            self.secret,
            *headers.values(),
            *(query.values() if named_variable(config.base_url or "") else ()),
        )
        # A redirect would carry headers of ours to whatever host it names; the client drops the key alone.
        client = DefaultAioHttpClient(follow_redirects=not headers)
        self._client = AsyncOpenAI(
            api_key=self.secret or "none",
            base_url=base_url,
            max_retries=0,
            timeout=Timeout(_PATIENT * config.timeout, connect=min(_CONNECT, config.timeout)),
            http_client=client,
            default_headers=headers,
            default_query=query,
        )
        self._output_key = config.output_key
        self._formats: list[str] = [config.format or "json_object"]
        self._told_of_usage = self._told_of_model = False
        self._place: str | None = None

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    @property
    def format(self) -> str:
        """How answers are asked to be held to JSON now."""
        return self._formats[-1]

    def _options(self, form: str, schema: dict[str, Any]) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {self._output_key: config.max_output, **config.extra}
        if config.temperature is not None:
            body["temperature"] = config.temperature
        if form == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif form == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return body

    async def complete(
        self, messages: list[Message], request: str, schema: dict[str, Any], timeout: float | None = None
    ) -> Completion:
        """Asks once.

        Args:
            messages: the conversation.
            request: a name of the request for the provider's support, and for our accounting.
            schema: of a usable answer, for endpoints that take one.
            timeout: seconds, None for the configured ones.

        Raises:
            RefusedError: nothing was paid.
            LostError: that is not known.
        """
        import openai

        seconds = self.config.timeout if timeout is None else timeout
        turns = [await _turn(message) for message in messages]
        headers = {"X-Client-Request-Id": request}
        # In `messages` the client would look at every turn against its own types, which takes as long as sending them.
        output_key, form = self._output_key, self.format
        body_of_ours = {**self._options(form, schema), "messages": turns}
        try:
            async with asyncio.timeout(seconds):
                create = self._client.chat.completions.with_streaming_response.create
                async with create(
                    model=self.config.model, messages=[], extra_headers=headers, extra_body=body_of_ours
                ) as response:
                    body = await _read(response)
                    kind = response.headers.get("content-type", "")
        except openai.APIStatusError as error:
            raise await self._with_place(self._refused(error, output_key, form)) from None
        except TimeoutError:
            raise LostError(f"no answer in {seconds:g} s", timed_out=True) from None
        except openai.APIConnectionError as error:
            raise self._line(error, seconds) from None
        except (OSError, EOFError) as error:
            raise LostError(f"connection lost ({type(error).__name__})") from None
        except _READ_ERRORS as error:
            raise LostError(f"connection lost ({type(error).__name__})") from None
        return self._completion(body, kind, messages)

    def _line(self, error: Exception, seconds: float) -> RefusedError | LostError:
        """What a failure of the line means; a connection that never stood has carried no request."""
        cause = type(error.__cause__ or error).__name__
        if cause in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol"):
            where = self.config.base_url or "OpenAI"
            return RefusedError(f"{where} cannot be reached ({_deepest(error)})", unreachable=True)
        if cause.endswith(("Timeout", "TimeoutError")):
            return LostError(f"no answer in {seconds:g} s", timed_out=True)
        return LostError(f"connection lost ({cause})")

    def _refused(self, error: Any, output_key: str, form: str) -> RefusedError:
        """What a status of refusal means."""
        status, body = error.status_code, error.body
        refusal = error_in(body if isinstance(body, dict) and "error" in body else {"error": body})
        said = one_line((refusal.message if refusal else "") or str(error.message), self.secret)
        whole = f"{said} {body}"
        if status in (400, 413, 422, 500) and _CONTEXT.search(whole):
            return RefusedError(f"HTTP {status}: {said}", transient=False, too_long=True)
        if status in (400, 422) and self._renames(output_key, whole):
            return RefusedError(f"HTTP {status}: {said}", healthy=True)
        if status in (400, 404, 415, 422, 500, 501) and self._reformats(form, whole, said):
            return RefusedError(f"HTTP {status}: {said}", healthy=True)
        if status in (400, 422, 500) and _NO_MODEL.search(f"{refusal.code if refusal else ''} {said}"):
            status = 404
        if status == 503 and _LOADING.search(said):
            return RefusedError(f"HTTP 503: {said}", unreachable=True, listens=True)
        quota = status == 429 and any(code in str(body) for code in _QUOTA)
        where = f"HTTP {error.status_code}"
        return self._refusal(402 if quota else status, where, said, _retry_after(error.response.headers))

    def _reformats(self, sent: str, whole: str, said: str) -> bool:
        """Whether answers are asked for in another format from now on, since the endpoint refuses this one."""
        if sent == "none" or not _FORMAT.search(whole):
            return False
        if sent == self.format:  # what was under way is merely sent again
            wishes = ["json_schema", "none"] if "json_schema" in said else ["none"]
            steps = ["json_object", "none"] if sent == "json_schema" else wishes
            self._formats.append(next(form for form in steps if form not in self._formats))
            warn(
                f"{self.name}: the endpoint refuses format={sent} ({said}) and is asked with format={self.format} in "
                f"this run; set mining.models.{self.name}.format={self.format}"
            )
        return True

    def _renames(self, sent: str, said: str) -> bool:
        """Whether the limit of an answer goes by its other name from now on, since the endpoint refuses the first."""
        other = _OTHER_KEY.get(sent)
        if other is None or sent not in said or not _UNWANTED.search(said) or _TOO_LARGE.search(said):
            return False
        if self._output_key == sent == self.config.output_key:  # once; what was under way is merely sent again
            self._output_key = other
            warn(
                f"{self.name}: the endpoint takes {other}, not {sent}, and is asked so in this run; set "
                f"mining.models.{self.name}.output_key={other}"
            )
        return self._output_key == other

    def _refusal(self, status: int | None, where: str, said: str, retry_after: float | None = None) -> RefusedError:
        """What a provider's error means, whether it came as a status or inside a body."""
        fatal = _FATAL.get(status or 0)
        if fatal:
            key = f" ({self.config.key_variable})" if status in (401, 403) and self.config.key_variable else ""
            return RefusedError(f"{where}: {fatal}{key}: {said}", transient=False, fatal=True)
        if status in _TRANSIENT or status is None:
            return RefusedError(
                f"{where}: {said}" if said else where,
                retry_after=retry_after,
                healthy=status == 429,
                overloaded=status in _OVERLOADED,
            )
        return RefusedError(f"{where}: {said}", transient=False)

    async def _with_place(self, refusal: RefusedError) -> RefusedError:
        """A refusal for good with what the endpoint itself says of its models, where that helps."""
        if not refusal.fatal or _FATAL[404] not in refusal.reason:
            return refusal
        if self._place is None:
            self._place = await self._looked_up()
        return RefusedError(f"{refusal.reason}{self._place}", transient=False, fatal=True)

    async def _looked_up(self) -> str:
        """The endpoint's models, or the address at which it has some."""
        key = f"mining.models.{self.name}"
        if names := await self._models_at(""):
            if self.config.model in names:
                return ""
            shown = ", ".join(one_line(each, self.secret) for each in names[:_NAMED])
            hint = nearest(self.config.model, names)
            return f"; it has {shown}; set {key}.model={one_line(hint or names[0], self.secret)}"
        plain = (self.config.base_url or "").rstrip("/")
        if not plain.endswith("/v1") and await self._models_at("/v1"):
            shown = "its address" if named_variable(plain) else f"{plain}/v1"
            return f"; did you mean {key}.base_url={shown}?" if shown != "its address" else f"; does {plain} lack /v1?"
        return ""

    async def _models_at(self, path: str) -> list[str]:
        """The names of the models that an endpoint lists, [] where it lists none."""
        address = str(self._client.base_url).rstrip("/") + path + "/models"
        try:
            async with asyncio.timeout(_CONNECT):
                content: Any = await self._client.get(address, cast_to=object)
        except Exception:  # it is asked for a hint only, and whatever comes is none
            return []
        listed = content.get("data") if isinstance(content, dict) else None
        return [str(each["id"]) for each in listed or () if isinstance(each, dict) and each.get("id")]

    def _compare_model(self, name: str) -> None:
        """Tells once where another model answers than the one that is asked for."""
        asked = self.config.model
        if self._told_of_model or not name or _plain_name(asked) in _plain_name(name) or _plain_name(name) in asked:
            return
        self._told_of_model = True
        warn(
            f"{self.name}: model={asked} is asked for, and the endpoint answers with {one_line(name, self.secret)}; "
            f"answers are kept as {self.config.name!r} (mining.models.{self.name}.model or .identity)"
        )

    def _completion(self, body: bytes, kind: str, messages: list[Message]) -> Completion:
        """The answer in a response; what the endpoint does not count is counted by an estimate."""
        try:
            response = read_response(body, kind, self.secret)
        except UnreadableError as error:
            raise LostError(error.reason, excerpt=error.excerpt, usage=error.usage) from None
        if isinstance(response, ProviderError):
            said = one_line(response.message, self.secret)
            code = f" {one_line(response.code, self.secret)}" if response.code else ""
            refusal = self._refusal(response.status, f"HTTP 200 with error{code}", said)
            if response.billed and not refusal.fatal:
                raise LostError(refusal.reason, refusal.transient)
            raise refusal
        self._compare_model(response.model)
        written = response.text + response.thoughts
        estimated = response.tokens_in is None or (response.tokens_out is None and bool(written))
        if estimated and not self._told_of_usage:
            self._told_of_usage = True
            warn(
                f"{self.name}: the endpoint does not say how many tokens its answers took; they are counted by an "
                "estimate, four bytes per token"
            )
        read = (
            response.tokens_in if response.tokens_in is not None else math.ceil(probable_tokens(self.config, messages))
        )
        out = response.tokens_out if response.tokens_out is not None else written_tokens(written)
        return Completion(redacted(response.text, *self._secrets), read, out, response.note, estimated)


def _plain_name(model: str) -> str:
    """A model's name without folders, the ending of a file, and case."""
    return model.rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf")


def _read_errors() -> tuple[type[Exception], ...]:
    """What the client's transport raises while a body is read; its name depends on the client's version."""
    errors: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        try:
            errors.append(__import__(name).HTTPError)
        except (ImportError, AttributeError):
            continue
    return tuple(errors)


_READ_ERRORS = _read_errors()


async def _read(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.iter_bytes():
        size += len(part)
        if size > MAX_BODY:
            raise LostError("response too large", transient=False, excerpt="")
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
    return one_line(getattr(error, "strerror", None) or type(error).__name__)
