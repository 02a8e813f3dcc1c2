"""Settings of mining: miners, the models that are asked, and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from dig.config.sections.checks import (
    Bounds,
    Connections,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Seconds,
    Size,
    check,
    check_choice,
    check_values,
)
from dig.engine.secrets import address_secret, hidden, named_variable, variable_name

__all__ = [
    "BUILT_IN_MINERS",
    "MiningConfig",
    "KINDS",
    "ModelConfig",
    "LabelConfig",
]


BUILT_IN_MINERS = ("lexical", "imported", "openclip")


@dataclass
class MiningConfig:
    """MLIM: where the deep interests of an item come from."""

    miners: list[str] = field(default_factory=lambda: ["lexical"])
    """Miners: `lexical` (key phrases), `imported` (`mining.imports`), `openclip` (pictures), names of `mining.models`;
    [] mines nothing."""
    models: dict[str, ModelConfig] = field(default_factory=dict)
    """Models by a name of your own, which `mining.miners`, `mining.captioner` and `labels.judge` can call."""
    captioner: str | None = None
    """The model of `mining.models` that describes pictures of items without a caption; it must have vision."""
    interests_prompt: str = "interests-v1"
    """Prompt of the miners: one of ours by name (`interests-v1`, `interests-small-v1` for small models), or a file of
    your own."""
    caption_prompt: str = "caption-v1"
    """Prompt of the captioner: one of ours by name, or a file of your own."""
    max_cost_usd: PositiveFloat | None = None
    """Asking stops before it would cost more, earlier runs of the same mining included; unset knows no limit."""
    max_requests: PositiveInt | None = None
    """Asking stops after this many requests, earlier runs of the same mining included; unset knows no limit."""
    max_missing: Fraction = 0.02
    """Share of unanswered items per model above which the stage stops instead of continuing without them."""
    merge_similarity: Fraction = 0.9
    """Phrases of different miners about one item are one interest from this cosine of their text vectors on."""
    imports: list[str] = field(default_factory=list)
    """Files in the `interests.jsonl.gz` format, read by the miner `imported`."""
    fallback: Literal["lexical"] | None = None
    """Miner that stands in, with a warning, where a file of `mining.imports` is missing: `lexical`; unset refuses."""
    user_interests: str | None = None
    """File of users' interests (`user_id, miner, text, items_seen`), guarded against held-out items (`data.leaks`)."""
    captions: str | None = None
    """File of image captions (`image_captions.jsonl.gz`), an evidence for mining and a part of the embedded text."""
    max_interests: PositiveInt = 8
    """At most this many interests a miner and item are kept, the most confident first."""
    max_items: PositiveInt | None = None
    """Models are asked about at most this many items, those that were bought most often in the training part (then in
    the catalogue's order); unset asks about all."""
    grounded: bool = True
    """Drop interests of models that the item's own words do not bear out; false keeps them."""
    max_per_item: PositiveInt = 16
    """At most this many interests of an item are left when miners are merged, those with the most votes first."""
    max_document_share: PositiveFraction = 0.2
    """The lexical miner ignores phrases found in more than this share of the catalogue."""

    def __post_init__(self) -> None:
        check_values("mining", self)
        miners = (*BUILT_IN_MINERS, *self.models)
        for miner in self.miners:
            check_choice("mining.miners", miner, miners)
        for name in self.models:
            check(name not in BUILT_IN_MINERS, f"mining.models.{name}: {name} is the name of a miner of ours")
        check(
            "imported" not in self.miners or bool(self.imports),
            "mining.miners names `imported`, so mining.imports must name a file",
        )
        self._check_captioner()
        self._check_models()

    @property
    def asked(self) -> list[str]:
        """The miners that are models."""
        return [miner for miner in self.miners if miner in self.models]

    def _check_captioner(self) -> None:
        if self.captioner is None:
            return
        check(self.captioner in self.models, f"mining.captioner={self.captioner} is not a name of mining.models")
        check(
            self.models[self.captioner].vision,
            f"mining.captioner={self.captioner}, but mining.models.{self.captioner}.vision is false: a model without "
            "vision cannot describe pictures",
        )

    def _check_models(self) -> None:
        owners: dict[str, str] = {}
        for name, model in self.models.items():
            other = owners.setdefault(model.name, name)
            check(
                other == name,
                f"mining.models.{name} and mining.models.{other} are both kept as {model.name!r}; "
                f"give one another mining.models.{name}.identity",
            )
            if self.max_cost_usd is not None:
                for price in ("price_in", "price_out"):
                    check(
                        getattr(model, price) is not None,
                        f"mining.max_cost_usd is set, so mining.models.{name}."
                        f"{price} is needed (US dollars a million tokens, 0 for a model of your own)",
                    )


Kind = Literal["openai", "transformers", "vllm"]
KINDS: tuple[str, ...] = get_args(Kind)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass
class ModelConfig:
    """A model that mines, describes pictures or judges."""

    kind: Kind = "openai"
    """`openai` (any endpoint that speaks its chat completions), `transformers` (a local model), `vllm` (offline)."""
    model: str = ""
    """The endpoint's name of the model; of a local one `smollm2-135m`, a GGUF file, a folder or a hub id."""
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
    format: Literal["json_schema", "json_object", "none"] | None = None
    """What an answer is held to: `json_schema` (the bounded shape of an answer), `json_object` (any JSON object) or
    `none`; unset is `json_schema` for local models, which are held token by token, and `json_object` for endpoints."""
    interests_prompt: str | None = None
    """Prompt of this model as a miner, such as `interests-small-v1`; unset takes `mining.interests_prompt`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request's body, such as `reasoning_effort`."""
    concurrency: Connections = 16
    """Requests under way at once at most; a run begins with one, and more follow as long as none waits for another."""
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
    """This many failures in a row stop this endpoint for the run; the others continue."""
    max_unusable: PositiveInt | None = 8
    """A model is stopped for the run where its first answers, this many, are all unusable, each after a second chance,
    or nine tenths of the last five times as many; the others continue. null asks on whatever comes."""
    picture_tokens: PositiveInt = 1000
    """Tokens that a picture is taken for in estimates."""
    batch_size: Size = 8
    """Items a batch of a local model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of a local model's weights: `auto`, `float32`, `bfloat16`, `float16`."""

    def __post_init__(self) -> None:
        check_values("mining.models.*", self)
        check(bool(self.model), "mining.models.*.model is not set: name the model")
        if self.format is None:
            self.format = "json_object" if self.kind == "openai" else "json_schema"
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


@dataclass
class LabelConfig:
    """RLDI: the binary quality label of every mined interest."""

    enabled: bool = True
    """Label interests with the classifier; false leaves all of them positive, so that q = 1 (ablation)."""
    source: Literal["behaviour", "judge", "file"] = "behaviour"
    """What teaches the classifier: `behaviour` (does sharing an interest raise co-purchase in the training part),
    `judge` (a model's verdicts), or `file` (a person's)."""
    judge: str | None = None
    """The model of `mining.models` that judges."""
    judge_prompt: str = "judge-v1"
    """Prompt of the judge: one of ours by name, or a file of your own."""
    judge_sample: PositiveInt = 2000
    """This many interests are judged, drawn by the seed; the classifier carries their labels over to the others."""
    file: str | None = None
    """CSV of labels made by hand: `item_id,interest,label` (python -m dig.interests label)."""
    threshold: Fraction = 0.5
    """An interest is positive when the classifier's probability reaches this value."""
    folds: Annotated[int, Bounds(2, 1000)] = 5
    """Folds of the cross-validation behind the printed held-out quality."""
    min_items: Annotated[int, Bounds(2, 2**31 - 1)] = 3
    """An interest needs this many items before behaviour can say whether it is a good one."""

    def __post_init__(self) -> None:
        check_values("labels", self)
        check(
            self.source != "judge" or self.judge is not None,
            "labels.source=judge needs labels.judge, a name of mining.models",
        )
        check(self.source != "file" or self.file is not None, "labels.source=file needs labels.file, a CSV of labels")
