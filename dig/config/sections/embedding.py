"""Settings of the encoders of text and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dig.config.sections.checks import (
    Fraction,
    LearningRate,
    NonNegativeInt,
    PositiveInt,
    Size,
    WeightDecay,
    Workers,
    check,
    check_choice,
    check_values,
)

__all__ = [
    "VECTOR_FILES",
    "EmbeddingConfig",
    "FROM_SCRATCH",
    "AdaptConfig",
    "VisualConfig",
]


VECTOR_FILES = (".parquet", ".npz", ".safetensors")
"""Endings of files with vectors of items."""


@dataclass
class EmbeddingConfig:
    """IEID, first half: item text with its interests to a vector."""

    text_encoder: str = "all-MiniLM-L6-v2"
    """A sentence-transformers or transformers model by name or folder; the default works offline from a package."""
    vectors: str | None = None
    """Vectors of your own for items, in place of the encoded text: a .parquet, .npz or .safetensors file with ids."""
    interests: Literal["all", "positive", "none"] = "all"
    """Which mined interests join the text: `all`, `positive` (RLDI label 1), or `none` (ablation: shallow text)."""
    fields: list[str] = field(default_factory=lambda: ["title", "brand", "categories", "description", "caption"])
    """Item fields that join the text, a line each, before the interests."""
    max_tokens: Size = 256
    """Texts are cut at this many tokens of the encoder."""
    instruction: str | None = None
    """Words before every text, or the name of one of the model's own prompts; unset takes its prompt for documents."""
    batch_size: Size = 64
    """Texts per batch; they are sorted by length first."""

    def __post_init__(self) -> None:
        check_values("embedding", self)
        check(
            self.vectors is None or Path(self.vectors).suffix.lower() in VECTOR_FILES,
            f"embedding.vectors={self.vectors} must end in {', '.join(VECTOR_FILES)}",
        )
        allowed = ("title", "brand", "categories", "description", "caption")
        for name in self.fields:
            check_choice("embedding.fields", name, allowed)
        check(
            bool(self.fields) or self.interests != "none",
            "embedding.fields=[] and embedding.interests=none leave no text to embed",
        )


FROM_SCRATCH = "scratch"
"""`visual.pretrained` of a model that starts from random weights and is trained here."""


@dataclass
class AdaptConfig:
    """Contrastive tuning of the open_clip model on the catalogue's own pictures and texts."""

    epochs: NonNegativeInt = 0
    """Passes over the pairs; 0 takes the model as it is."""
    fields: list[str] = field(default_factory=lambda: ["title", "description"])
    """Item fields that make the text of a pair."""
    learning_rate: LearningRate = 5e-4
    """AdamW's peak learning rate; for a pretrained ViT-L-14 about 1e-5."""
    weight_decay: WeightDecay = 0.1
    """AdamW's weight decay."""
    warmup_ratio: Fraction = 0.1
    """Share of the steps with a rising learning rate; a cosine follows."""
    batch_size: Size = 64
    """Pairs per step and device; a pair's negatives are the others of all devices."""
    holdout: Fraction = 0.1
    """Share of the pairs that tuning never sees; how well they find each other is reported."""

    def __post_init__(self) -> None:
        check_values("visual.adapt", self)
        for name in self.fields:
            check_choice("visual.adapt.fields", name, ("title", "brand", "categories", "description", "caption"))
        check(bool(self.fields), "visual.adapt.fields=[] leaves a picture without a text")


@dataclass
class VisualConfig:
    """Pictures: the open_clip model that reads them, and the visual interests that it finds."""

    model: str | None = None
    """open_clip architecture (`ViT-L-14`), `hf-hub:…` or `local-dir:…`; unset leaves pictures out."""
    pretrained: str | None = None
    """Pretrained tag (such as `openai`) or checkpoint file of that architecture; `scratch` trains it from nothing."""
    config: dict[str, Any] = field(default_factory=dict)
    """An architecture of your own in open_clip's terms (embed_dim, vision_cfg, text_cfg), from scratch; not read where
    `model` or `pretrained` name weights."""
    folder: str | None = None
    """Folder of the pictures that items name by relative path; unset takes `data.path`."""
    batch_size: Size = 64
    """Pictures encoded at a time."""
    num_workers: Workers = 0
    """Worker processes that decode pictures."""
    vocabulary: str = "auto"
    """Phrases to look for: a file with one per line, `none`, or `auto` (a list of ours, but none from scratch)."""
    mined_phrases: NonNegativeInt = 200
    """The most frequent phrases of the other miners join the vocabulary, at most this many."""
    max_interests: PositiveInt = 3
    """At most this many visual interests per item."""
    min_confidence: Fraction = 0.1
    """Less confident ones are left out."""
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    """Contrastive tuning."""

    def __post_init__(self) -> None:
        check_values("visual", self)
        check(
            not self.config or {"embed_dim", "vision_cfg", "text_cfg"} <= self.config.keys(),
            "visual.config must hold embed_dim, vision_cfg and text_cfg",
        )
        if self.model is not None:
            self._check_weights(self.model)

    def _check_weights(self, model: str) -> None:
        """Weights have a source; only a model that is trained here may start from random ones, and only if told to."""
        schema, colon, _ = model.partition(":")
        located = bool(colon)
        if located:
            check_choice("the part of visual.model before its colon", schema, ("hf-hub", "local-dir"))
        check(
            not (located and self.pretrained),
            f"visual.model={model} brings its own weights, so "
            f"visual.pretrained={self.pretrained} would not be read; leave it out",
        )
        check(
            located or bool((self.pretrained or "").strip()) or (self.pretrained is None and bool(self.config)),
            f"visual.model={model} would read pictures with random weights; name visual.pretrained (a tag or a "
            f"file), or train it with visual.pretrained={FROM_SCRATCH} and visual.adapt.epochs",
        )
        check(
            not self.from_scratch or self.adapt.epochs > 0,
            f"visual.model={model} would read pictures with random weights; name visual.pretrained, or train it "
            "with visual.adapt.epochs",
        )

    @property
    def from_scratch(self) -> bool:
        """Whether the model starts from random weights, which it does only where none are named."""
        if ":" in (self.model or ""):
            return False
        return self.pretrained == FROM_SCRATCH or (self.pretrained is None and bool(self.config))
