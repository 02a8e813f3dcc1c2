"""The language model and its prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from dig.config.sections.checks import (
    Bounds,
    Dropout,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Size,
    check,
    check_bounds,
    check_choice,
)

__all__ = [
    "BackboneConfig",
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
        check_bounds("backbone.lora", self)


@dataclass
class BackboneConfig:
    """The causal language model that generates Semantic IDs."""

    pretrained: str | None = None
    """Hub id or folder of a causal language model with its tokenizer; unset builds `backbone.config` from scratch."""
    config: dict[str, Any] = field(default_factory=dict)
    """Any transformers decoder, built from scratch: `model_type` and its own keys; used where `pretrained` is unset."""
    sid_rows: str = "random"
    """Where the rows of SID tokens start, in a pretrained backbone around the text rows' mean: `random`, or as the
    `codebook` vectors lie, an item's own token at the sum of its codes. `composed`, from scratch, also keeps an item's
    own token the sum of a row for each code and one of its own while SFT trains; a pretrained backbone starts as under
    `codebook`."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters, for a pretrained backbone only."""

    def __post_init__(self) -> None:
        check_choice("backbone.sid_rows", self.sid_rows, ("random", "codebook", "composed"))


@dataclass
class PromptConfig:
    """How a history becomes a prompt; one builder serves training, rollouts, evaluation and serving."""

    style: str = "auto"
    """`compact` (the history's SID tokens alone), `text` (words around them) or `auto` (compact from scratch)."""
    max_history: Size = 20
    """Items of a history that are kept, the latest; fewer where the backbone's context holds no more."""
    item_token: bool = False
    """For a backbone from scratch: end every item with a token of its own, in place of a suffix where codes collide. A
    pretrained backbone spells items by their codes."""
    codes: Annotated[int, Bounds(0, 64)] | None = None
    """Codes that are spelled before an item's own token, the leading ones; unset spells all."""
    max_text_tokens: Size = 64
    """Tokens of a title, a description or an item's interests that are kept, for backbones that know text."""

    def __post_init__(self) -> None:
        check_bounds("prompt", self)
        check_choice("prompt.style", self.style, ("auto", "compact", "text"))
        check(
            self.codes is None or self.item_token,
            f"prompt.codes={self.codes} leaves codes out, so that items could not be told apart; set "
            "prompt.item_token=true",
        )


@dataclass
class AssignmentConfig:
    """The Recursive-Assignment Network and what stands around it; `sft.item_tokens=one` reads this, too."""

    uid_size: Size = 128
    """Width of items' own embeddings (512 in the paper)."""
    inner_size: Size = 512
    """Width of the hidden layer of each step of the network."""
    alignment: NonNegativeFloat = 1.0
    """Weight λ of the alignment, which holds the codes that the input side chooses to those of the Semantic IDs."""
    condition: str = "previous"
    """What a step reads of the codes so far: the `previous` one, as the paper has it, or the `sum` of all."""
    residual: bool = True
    """Add each step's result to the guidance; false replaces the guidance by it, as the paper does."""
    scale: PositiveFloat | None = 18.0
    """A code's score is so many times the cosine of its vector and the state; unset takes inner products, as the paper
    does."""
    uid_input: bool = True
    """An item's vector is the sum of its codes' and its own embedding's; false leaves the latter out, as in the
    paper."""
    uid_output: bool = True
    """A code's vector, when it is scored, has the mean of the own embeddings of the items that it leads to added; false
    leaves that out, as in the paper."""
    softmax: str = "trie"
    """What a code competes with in the loss: its siblings in the catalogue's `trie`, or all codes of its `level`, as in
    the paper."""
    start: str = "codebook"
    """Where codebooks start: at the tokenizer's `codebook`, or at `random`."""

    def __post_init__(self) -> None:
        check_bounds("intrr.assignment", self)
        check_choice("intrr.assignment.condition", self.condition, ("previous", "sum"))
        check_choice("intrr.assignment.softmax", self.softmax, ("trie", "level"))
        check_choice("intrr.assignment.start", self.start, ("codebook", "random"))
        check(
            self.softmax == "trie" or not self.uid_output,
            "intrr.assignment.uid_output=true scores a code by the items below it, so it competes with its siblings; "
            "intrr.assignment.softmax=level needs uid_output=false",
        )
