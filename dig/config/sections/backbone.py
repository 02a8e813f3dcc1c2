"""The language model and its prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dig.config.sections.checks import check_choice, check_fraction, check_positive

__all__ = ["BackboneConfig", "LoraConfig", "PromptConfig"]


@dataclass
class LoraConfig:
    """Low-rank adapters (peft) for a pretrained backbone."""

    enabled: bool = True
    """Train adapters and the new SID rows; false trains all weights."""
    rank: int = 16
    """Rank r of the adapters."""
    alpha: int = 32
    """Scale of the adapters."""
    dropout: float = 0.05
    """Dropout on the adapters' input."""
    targets: Any = "all-linear"
    """Names of the modules that get an adapter, or `all-linear`."""

    def __post_init__(self) -> None:
        check_positive("backbone.lora", self, "rank", "alpha")
        check_fraction("backbone.lora", self, "dropout")


@dataclass
class BackboneConfig:
    """The causal language model that generates Semantic IDs."""

    pretrained: str | None = None
    """Hub id or folder of a causal language model with its tokenizer; unset builds `backbone.config` from scratch."""
    config: dict[str, Any] = field(default_factory=dict)
    """Any transformers decoder, built from scratch: `model_type` and its own keys; used where `pretrained` is unset."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters, for a pretrained backbone only."""


@dataclass
class PromptConfig:
    """How a history becomes a prompt; one builder serves training, rollouts, evaluation and serving."""

    style: str = "auto"
    """`compact` (the history's SID tokens alone), `text` (words around them) or `auto` (compact from scratch)."""
    max_history: int = 20
    """Items of a history that are kept, the latest."""

    def __post_init__(self) -> None:
        check_choice("prompt.style", self.style, ("auto", "compact", "text"))
        check_positive("prompt", self, "max_history")
