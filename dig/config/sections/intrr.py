"""IntRR: one vector an item, codes chosen inside one small network."""

from __future__ import annotations

from dataclasses import dataclass, field

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import (
    Dropout,
    Fraction,
    Layers,
    LearningRate,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Size,
    WeightDecay,
    check_bounds,
)

__all__ = ["AssignmentConfig", "IntRRConfig"]


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


@dataclass
class IntRRConfig:
    """IntRR (arXiv 2602.20704): a causal transformer that reads one vector an item and spells the next one's codes."""

    hidden_size: Size = 128
    """Width."""
    layers: Layers = 2
    """Depth."""
    heads: Size = 2
    """Attention heads."""
    feed_forward: Size = 1
    """Width of the feed-forward layers, times `hidden_size`."""
    dropout: Dropout = 0.5
    """Dropout of the transformer."""
    max_history: Size = 50
    """Latest items that it reads."""
    batch_size: Size = 128
    """Histories a step and device."""
    learning_rate: LearningRate = 1e-3
    """Highest learning rate."""
    warmup_fraction: Fraction = 0.02
    """Share of the steps in which the learning rate rises; a cosine down to 0 follows."""
    weight_decay: WeightDecay = 0.0
    """AdamW's weight decay."""
    epochs: PositiveInt = 26
    """Passes over the histories, at most."""
    patience: PositiveInt = 10
    """Stop after so many validations without improvement."""
    assignment: AssignmentConfig = field(default_factory=AssignmentConfig)

    def __post_init__(self) -> None:
        check_bounds("intrr", self)
        check(
            self.hidden_size % self.heads == 0,
            f"intrr.hidden_size={self.hidden_size} cannot be cut into intrr.heads={self.heads}",
        )
