"""TIGER: the generative baseline, an encoder-decoder over Semantic IDs."""

from __future__ import annotations

from dataclasses import dataclass

from dig.config.sections.checks import check, check_fraction, check_positive

__all__ = ["TigerConfig"]


@dataclass
class TigerConfig:
    """TIGER (arXiv 2305.05065), a T5 from scratch that reads the Semantic IDs of a history and spells the next item's.

    The paper has 4 layers, 6 heads of 64 and 1024 in the feed-forward layers, and 200,000 steps; the defaults are what
    a single core trains in an hour and a half on Beauty.
    """

    layers: int = 2
    """Layers of the encoder, and as many of the decoder."""
    d_model: int = 128
    """Width."""
    d_ff: int = 512
    """Width of the feed-forward layers."""
    heads: int = 4
    """Attention heads."""
    d_kv: int = 32
    """Width of a head."""
    dropout: float = 0.1
    """Dropout on embeddings and on what attention and feed-forward layers compute."""
    max_history: int = 20
    """Latest items that it reads."""
    batch_size: int = 128
    """Next items a step and device."""
    learning_rate: float = 1.5e-3
    """Peak learning rate."""
    embedding_learning_rate: float = 7.5e-3
    """Peak learning rate of the token table, whose values start ten times as large as those of the other weights; T5's
    own optimiser makes its steps in proportion to a tensor's values, too (arXiv 1804.04235)."""
    warmup_steps: int = 500
    """Steps with a rising learning rate; a cosine down to 0 follows."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    label_smoothing: float = 0.0
    """Label smoothing of the token cross-entropy."""
    epochs: int = 26
    """Passes over the training part, at most."""
    patience: int = 10
    """Stop after so many validations without improvement."""

    def __post_init__(self) -> None:
        check_positive("tiger", self, "layers", "d_model", "d_ff", "heads", "d_kv", "max_history", "batch_size",
                       "learning_rate", "embedding_learning_rate", "epochs", "patience")  # fmt: skip
        check_fraction("tiger", self, "dropout", "label_smoothing")
        check(self.dropout < 1.0, "tiger.dropout must be below 1, it is 1.0")
        check(self.warmup_steps >= 0, f"tiger.warmup_steps must not be below 0, it is {self.warmup_steps}")
        check(self.weight_decay >= 0.0, f"tiger.weight_decay must not be below 0, it is {self.weight_decay}")
