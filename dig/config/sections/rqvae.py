"""IEID, second half: the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dig.config.sections.checks import (
    Fraction,
    LearningRate,
    Level,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Size,
    Temperature,
    WeightDecay,
    check,
    check_values,
)

__all__ = ["RQVAEConfig"]

_MOST_CODES = 2**20


@dataclass
class RQVAEConfig:
    """IEID, second half: the tokenizer that turns vectors into Semantic IDs."""

    tokenizer: Literal["rqvae", "kmeans", "balanced-kmeans", "imported"] = "rqvae"
    """`rqvae`, or without training `kmeans` (residual k-means), `balanced-kmeans` (every code its share of items) or
    `imported` (codes from a file; collisions get a suffix)."""
    imported: str | None = None
    """JSON of Semantic IDs that others made, plain or .gz: `{item: codes}`, or several of these by name."""
    imported_name: str | None = None
    """Which of several tables in that file."""
    inputs: Literal["auto", "text", "image", "fused"] = "auto"
    """Vectors that it reads: `text`, `image`, `fused`, or `auto`: fused where `visual.model` is set, else text."""
    codebook_size: Any = 256
    """Codes per level: one number for all levels, or a list with a number for each level."""
    levels: Level = 3
    """Number of levels L; follows from `codebook_size` when that is a list."""
    collisions: Literal["suffix", "reassign", "keep"] = "reassign"
    """Items with equal codes: `reassign` (next-best last codes), `suffix` (one more code where needed) or `keep`."""
    latent_dim: Size = 32
    """Dimension of the latent space and of every codebook."""
    hidden_dims: list[Size] = field(default_factory=lambda: [256, 128])
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    visual_dim: Size = 64
    """Width of W_v f_CLIP, the projected picture in the fusion."""
    image_weight: NonNegativeFloat = 1.0
    """Weight of the pictures' reconstruction beside the text's."""
    commitment_weight: NonNegativeFloat = 0.25
    """Weight β of the commitment loss (0.25 in MiniOneRec); more leaves fewer collisions and more error."""
    codebook_update: Literal["gradient", "ema"] = "gradient"
    """How codebooks learn: `gradient` of their loss, or `ema`, moving averages of the residuals."""
    ema_decay: Fraction = 0.99
    """Share of the old average that a step keeps under `ema`."""
    estimator: Literal["straight-through", "rotation"] = "straight-through"
    """How gradients pass the quantizer: `straight-through` or `rotation` (the rotation trick)."""
    sinkhorn_levels: list[Level] = field(default_factory=list)
    """Levels, from 1, at which training spreads a batch evenly over the codes by Sinkhorn's algorithm."""
    sinkhorn_epsilon: PositiveFloat = 0.05
    """Entropy of that spreading, relative to the mean cost; smaller is sharper."""
    info_nce_weight: NonNegativeFloat = 0.0
    """Weight of the contrast that pulls co-purchased items (training part) together; 0 leaves it out."""
    info_nce_dim: Size = 8
    """Width of the projection that the contrast sees; the rest of the latent space stays free to tell items apart."""
    collaborative_weight: NonNegativeFloat = 0.0
    """Weight of LETTER's alignment with collaborative vectors (training part); 0 leaves it out."""
    collaborative_dim: Size = 32
    """Width of the collaborative vectors."""
    temperature: Temperature = 0.1
    """Temperature of the contrast and of the alignment."""
    diversity_weight: NonNegativeFloat = 0.0
    """Weight of LETTER's diversity of codes; 0 leaves it out."""
    diversity_clusters: Size = 10
    """Clusters of codes for that term."""
    learning_rate: LearningRate = 8e-3
    """AdamW's peak learning rate; what suits batches of 512."""
    warmup_steps: PositiveInt = 100
    """Steps with a rising learning rate, at most a tenth of all; a linear decay to zero follows."""
    weight_decay: WeightDecay = 1e-4
    """AdamW's weight decay."""
    batch_size: Size = 512
    """Items per step."""
    epochs: PositiveInt = 250
    """Passes over the catalogue; a catalogue of a few hundred items needs more of them, in smaller batches."""
    kmeans_iterations: PositiveInt = 20
    """Lloyd iterations of each codebook, at the start of `rqvae` and as the whole of `kmeans`."""
    restart_after: NonNegativeInt = 30
    """A code unused for this many steps is restarted at a random residual of the batch; 0 never restarts."""

    def __post_init__(self) -> None:
        check_values("rqvae", self)
        check(
            isinstance(self.codebook_size, (int, list)),
            f"rqvae.codebook_size must be a number or a list of numbers, it is {self.codebook_size!r}",
        )
        sizes = self.sizes
        check(
            all(isinstance(size, int) and 2 <= size <= _MOST_CODES for size in sizes) and sizes != [],
            f"rqvae.codebook_size must hold numbers from 2 to {_MOST_CODES:,}, it is {self.codebook_size!r}",
        )
        if isinstance(self.codebook_size, list):
            self.levels = len(self.codebook_size)
        check(
            (self.tokenizer == "imported") == (self.imported is not None),
            "rqvae.tokenizer=imported and rqvae.imported=FILE go together",
        )
        check(
            all(1 <= level <= self.levels for level in self.sinkhorn_levels),
            f"rqvae.sinkhorn_levels must name levels from 1 to {self.levels}, it is {self.sinkhorn_levels}",
        )
        check(
            not (self.diversity_weight and self.codebook_update == "ema"),
            "rqvae.diversity_weight moves codebooks by their gradient and needs rqvae.codebook_update=gradient",
        )

    @property
    def sizes(self) -> list[int]:
        """Codebook sizes, one per level."""
        return list(self.codebook_size) if isinstance(self.codebook_size, list) else [self.codebook_size] * self.levels
