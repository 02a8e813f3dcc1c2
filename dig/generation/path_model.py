"""The interface of models that spell paths: prompts are encoded once, and many paths are fed or scored behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from dig.generation.trie import CatalogueTrie

__all__ = ["PathModel", "PromptState", "TrainingRows"]


@dataclass
class PromptState(ABC):
    """Encoded prompts; implementations add what they need to continue them.

    Attributes:
        hidden: (batch, width) state after each prompt.
    """

    hidden: Tensor

    @abstractmethod
    def rewind(self) -> None:
        """Forgets what was fed since the prompts were encoded."""


class TrainingRows(Protocol):
    """What supervised losses read of a batch.

    Attributes:
        input_ids: (rows, length) tokens.
        attention_mask: (rows, length) 0 at padding, k at a row's k-th sample.
        labels: (rows, length) the token where it is supervised, else -100.
        weights: (rows, length) of each token in its answer, times the answer's.
        responses: 0-d, number of answers.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor
    responses: Tensor


class PathModel(ABC):
    """A model as search, sampling and scoring ask it.

    A path is a sequence of vocabulary ids behind a prompt. Paths (beams, rollouts, items to score) share their prompt,
    which is neither copied nor encoded again for each of them.

    Attributes:
        model: the model itself, bare or with adapters.
    """

    model: Any

    @property
    @abstractmethod
    def context(self) -> int | None:
        """Tokens that the model can read at once; None for no limit."""

    @abstractmethod
    def check(self, largest_token: int, attention_mask: Tensor, steps: int) -> None:
        """Refuses what the model cannot work with.

        Args:
            largest_token: largest vocabulary id that will be asked for.
            attention_mask: (batch, prompt).
            steps: tokens that will be fed behind a prompt.

        Raises:
            ValueError: the model has no such token, or a prompt is longer than it reads.
        """

    @abstractmethod
    def encode(self, input_ids: Tensor, attention_mask: Tensor, spare: int = 0) -> PromptState:
        """Encodes prompts.

        Args:
            input_ids: (batch, prompt), padded on either side.
            attention_mask: (batch, prompt).
            spare: tokens per prompt that will be fed behind them.
        """

    @abstractmethod
    def feed(self, state: PromptState, tokens: Tensor, parents: Tensor | None, depth: int) -> Tensor:
        """Feeds one token to every path and returns the states (batch, paths, width) after it.

        Args:
            state: the prompts, and what was fed behind them so far.
            tokens: (batch, paths) vocabulary ids.
            parents: (batch, paths) path that each path continues; None at the first call.
            depth: tokens of the path already fed, 0 at the first call.
        """

    @abstractmethod
    def run_tree(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One differentiable pass over prompts and the paths behind them.

        Args:
            input_ids: (batch, prompt), padded on either side.
            attention_mask: (batch, prompt).
            tokens: (batch, paths, steps) tokens of each path.

        Returns:
            States after the prompt (batch, width) and after each token of each path (batch, paths, steps, width).
        """

    @abstractmethod
    def logits(self, hidden: Tensor, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (…, tokens) of states (…, width), over given vocabulary ids or all."""

    def child_logits(self, hidden: Tensor, trie: CatalogueTrie, nodes: Tensor, children: Tensor, depth: int) -> Tensor:
        """Logits (…, children) of the next nodes.

        Args:
            hidden: (…, width) states after the tokens that led to ``nodes``.
            trie: the catalogue.
            nodes: (…) nodes at one depth.
            children: (…, children) as `CatalogueTrie.allowed` gives them; what stands where there is no child is of no
                meaning.
            depth: that depth.
        """
        tokens = trie.tokens_of_level(depth)
        return self.logits(hidden, tokens).gather(-1, trie.slots_of(children).clamp_(max=len(tokens) - 1))
