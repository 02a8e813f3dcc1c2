"""The assignment network of IntRR, a baseline and a backbone of SFT and GRPO."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import NonNegativeFloat, PositiveFloat, Size, check_bounds

__all__ = ["AssignmentConfig"]


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
