"""IEID, first half: item text to a vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dig.config.sections.checks import check, check_choice
from dig.config.sections.numbers import Size, check_bounds

__all__ = ["VECTOR_FILES", "EmbeddingConfig"]

VECTOR_FILES = (".parquet", ".npz", ".safetensors")
"""Endings of files with vectors of items."""


@dataclass
class EmbeddingConfig:
    """IEID, first half: item text with its interests to a vector."""

    text_encoder: str = "all-MiniLM-L6-v2"
    """A sentence-transformers or transformers model by name or folder; the default works offline from a package."""
    vectors: str | None = None
    """Vectors of your own for items, in place of the encoded text: a .parquet, .npz or .safetensors file with ids."""
    interests: str = "all"
    """Which mined interests join the text: `all`, `positive` (RLDI label 1), or `none` (ablation: shallow text)."""
    fields: list[str] = field(default_factory=lambda: ["title", "brand", "categories", "description", "caption"])
    """Item fields that join the text, a line each, before the interests."""
    max_tokens: Size = 256
    """Texts are cut at this many tokens of the encoder."""
    instruction: str | None = None
    """Words before every text, or the name of one of the model's own prompts; unset takes its prompt for documents."""
    batch_size: Size = 64
    """Texts a batch; they are sorted by length first."""

    def __post_init__(self) -> None:
        check_bounds("embedding", self)
        check(
            self.vectors is None or Path(self.vectors).suffix.lower() in VECTOR_FILES,
            f"embedding.vectors={self.vectors} must end in {', '.join(VECTOR_FILES)}",
        )
        check_choice("embedding.interests", self.interests, ("all", "positive", "none"))
        allowed = ("title", "brand", "categories", "description", "caption")
        for name in self.fields:
            check_choice("embedding.fields", name, allowed)
        check(
            bool(self.fields) or self.interests != "none",
            "embedding.fields=[] and embedding.interests=none leave no text to embed",
        )
