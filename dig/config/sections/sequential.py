"""The sequential model whose opinion a reward may pay."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_fraction, check_positive

__all__ = ["SequentialConfig"]


@dataclass
class SequentialConfig:
    """SASRec with a full softmax (arXiv 1808.09781), frozen once trained; `grpo.reward.collaborative` asks for it."""

    hidden_size: int = 128
    """Width."""
    layers: int = 2
    """Depth."""
    heads: int = 2
    """Attention heads."""
    dropout: float = 0.5
    """Dropout."""
    max_history: int = 20
    """Latest items that it reads."""
    batch_size: int = 128
    """Histories a step and device."""
    learning_rate: float = 1e-3
    """Learning rate."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    epochs: int = 40
    """Passes over the histories, at most."""
    patience: int = 5
    """Stop after so many validations without improvement."""

    def __post_init__(self) -> None:
        check_positive("sequential", self, "hidden_size", "layers", "heads", "max_history", "batch_size",
                       "learning_rate", "epochs", "patience")  # fmt: skip
        check_fraction("sequential", self, "dropout")
        check(
            self.hidden_size % self.heads == 0,
            f"sequential.hidden_size={self.hidden_size} cannot be cut into sequential.heads={self.heads}",
        )
