"""SASRec: the baseline, and the sequential model whose opinion a reward may pay."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_fraction, check_positive

__all__ = ["SASRecConfig"]


@dataclass
class SASRecConfig:
    """SASRec with a full softmax (arXiv 1808.09781); `grpo.reward.collaborative` asks for it, too."""

    hidden_size: int = 128
    """Width."""
    layers: int = 2
    """Depth."""
    heads: int = 2
    """Attention heads."""
    feed_forward: int = 1
    """Width of the feed-forward layers, times `hidden_size` (1 in the paper)."""
    scale: float | None = 18.0
    """An item's score is so many times the cosine of its vector and the state, so that popular items' long vectors
    do not win by their length (NISER, arXiv 1909.04276); unset takes the inner product, as SASRec's paper does."""
    dropout: float = 0.5
    """Dropout."""
    max_history: int = 50
    """Latest items that it reads."""
    batch_size: int = 128
    """Histories a step and device."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises; a cosine down to 0 follows."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    epochs: int = 26
    """Passes over the histories, at most."""
    patience: int = 10
    """Stop after so many validations without improvement."""

    def __post_init__(self) -> None:
        check_positive("sasrec", self, "hidden_size", "layers", "heads", "feed_forward", "scale", "max_history",
                       "batch_size", "learning_rate", "epochs", "patience")  # fmt: skip
        check_fraction("sasrec", self, "dropout", "warmup_fraction")
        check(
            self.hidden_size % self.heads == 0,
            f"sasrec.hidden_size={self.hidden_size} cannot be cut into sasrec.heads={self.heads}",
        )
