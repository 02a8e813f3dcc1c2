"""A language or vision-language model that is asked about items: where it is, its prices and its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import (
    Bounds,
    Connections,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seconds,
    Size,
    check_bounds,
)
from dig.engine.secrets import address_secret, hidden, named_variable, variable_name

__all__ = ["KINDS", "ModelConfig"]

KINDS = ("openai", "transformers", "vllm")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass
class ModelConfig:
    """A model that mines, describes pictures or judges."""

    kind: str = "openai"
    """`openai` (any endpoint that speaks its chat completions), `transformers` (a local model), `vllm` (offline)."""
    model: str = ""
    """The endpoint's name of the model, or a folder or hub id."""
    identity: str | None = None
    """Name under which its answers are kept; unset takes `model`. Two models of one name need different ones."""
    base_url: str | None = None
    """Address of the endpoint, up to and with `/v1`; unset is OpenAI's own. `env:NAME` takes it from an environment
    variable, for an address that holds a credential."""
    key: str | None = None
    """Environment variable that holds the endpoint's key; unset sends none, but to OpenAI OPENAI_API_KEY."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request, each from an environment variable: `{Authorization: env:NAME}`."""
    vision: bool = False
    """Whether it can look at pictures; then an item's picture goes with its text."""
    price_in: NonNegativeFloat | None = None
    """US dollars a million tokens read; needed under `mining.max_cost_usd`, 0 for a model of your own."""
    price_out: NonNegativeFloat | None = None
    """US dollars a million tokens written."""
    temperature: Annotated[float, Bounds(0, 100)] | None = 0.0
    """Sampling temperature; null sends none, for models that refuse one."""
    max_output: PositiveInt = 1024
    """Tokens an answer may have, thinking included."""
    output_key: str = "max_tokens"
    """The endpoint's name of that limit; newer OpenAI models want `max_completion_tokens`."""
    format: str = "json_object"
    """How an endpoint is held to JSON: `json_schema`, `json_object`, or `none` for one that knows neither."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request's body, such as `reasoning_effort`."""
    concurrency: Connections = 16
    """Requests under way at once."""
    requests_per_minute: PositiveFloat | None = None
    """The endpoint's limit; unset knows none."""
    tokens_per_minute: Annotated[float, Bounds(0, 1e12, above=True)] | None = None
    """The endpoint's limit, read and written together; unset knows none."""
    timeout: Seconds = 120.0
    """Seconds until a request without an answer is given up."""
    retries: Annotated[int, Bounds(0, 1000)] = 6
    """Further attempts after a refusal, a failure of the server or of the line."""
    backoff: Annotated[float, Bounds(0, 3600)] = 1.0
    """Seconds of the first pause between attempts; doubled each time, with jitter, up to a minute."""
    breaker: PositiveInt = 20
    """So many failures in a row stop this endpoint for the run; the others go on."""
    max_unusable: PositiveInt | None = 8
    """A model is stopped for the run where its first answers, so many, are all unusable, each after a second chance,
    or nine tenths of the last five times as many; the others go on. null asks on whatever comes."""
    picture_tokens: PositiveInt = 1000
    """Tokens that a picture is taken for in estimates."""
    batch_size: Size = 8
    """Items a batch of a local model."""
    dtype: str = "auto"
    """Number format of a local model's weights: `auto`, `float32`, `bfloat16`, `float16`."""

    def __post_init__(self) -> None:
        check_bounds("mining.models.*", self)
        check_choice("mining.models.*.kind", self.kind, KINDS)
        check_choice("mining.models.*.format", self.format, ("json_schema", "json_object", "none"))
        check_choice("mining.models.*.dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        check(bool(self.model), "mining.models.*.model is not set: name the model")
        self._check_credentials()

    def _check_credentials(self) -> None:
        """Credentials are named, never written."""
        check(
            self.key is None or variable_name(self.key),
            "mining.models.*.key must be the name of an environment "
            "variable, in capitals such as OPENAI_API_KEY, never the key itself",
        )
        for name, value in self.headers.items():
            is_name = isinstance(name, str) and _HEADER.fullmatch(name)  # OmegaConf lets numbers and lists through here
            check(bool(is_name), f"mining.models.*.headers: {str(name)[:60]!r} is not the name of a header")
            named = isinstance(value, str) and named_variable(value) is not None
            check(
                named,
                f"mining.models.*.headers.{name} must be env:NAME, with the name "
                "of the environment variable that holds it, in capitals",
            )
        if self.base_url is None or named_variable(self.base_url):
            return
        rule = address_secret(self.base_url)
        check(
            rule is None,
            f"mining.models.*.base_url {rule}, which would be written to disk; name the key's "
            "environment variable in `key`, or the whole address' with base_url=env:NAME",
        )
        check(
            self.base_url.startswith(("http://", "https://")),
            f"mining.models.*.base_url={hidden(self.base_url)!r} must begin with http:// or https://, or be env:NAME",
        )

    @property
    def name(self) -> str:
        """What its answers are kept under."""
        return self.identity or self.model

    @property
    def key_variable(self) -> str | None:
        """The environment variable of its key, None where it needs none."""
        return self.key or ("OPENAI_API_KEY" if self.kind == "openai" and self.base_url is None else None)
