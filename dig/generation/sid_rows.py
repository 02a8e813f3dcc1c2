"""How the rows of new SID tokens start in a pretrained backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dig.generation.vocabulary import SidVocabulary

__all__ = ["start_sid_rows"]

_NOISE = 0.1
"""Spread of the rows around the text rows' mean, in standard deviations of a text row."""


@torch.no_grad()
def start_sid_rows(model: Any, vocabulary: SidVocabulary, used: int, codebooks: Sequence[Tensor] | None = None) -> None:
    """Puts the SID rows near the mean of the text rows, as far from it as text rows are small.

    Without codebooks the direction from the mean is random. With them it is the code's vector, projected to the
    model's width by a random matrix, so that codes that are near in the codebook start near; a level without a
    codebook, the collision suffix, starts at random.

    Args:
        model: a causal language model whose embedding has the rows already.
        vocabulary: where the SID tokens are.
        used: rows from here on pad the embedding; no token ever trained them.
        codebooks: (codes, dim) vectors of the first levels.
    """
    ids = vocabulary.ids
    generator = torch.Generator().manual_seed(0)  # the same start in every process
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    for layer in [embedding] if output.weight is embedding.weight else [embedding, output]:
        text = torch.arange(layer.weight.shape[0]) < used
        text[ids] = False
        rows = layer.weight[text].float()
        directions = torch.randn(len(ids), rows.shape[1], generator=generator)
        if codebooks:
            directions = _projected(codebooks, directions, generator)
        layer.weight[ids] = (rows.mean(dim=0) + _NOISE * rows.std() * directions).to(layer.weight.dtype)


def _projected(codebooks: Sequence[Tensor], directions: Tensor, generator: torch.Generator) -> Tensor:
    """The codes' vectors in the model's width, with components as large as those of ``directions``, which the rest
    keeps."""
    dim, width = codebooks[0].shape[1], directions.shape[1]
    # Random projections keep angles (Johnson & Lindenstrauss 1984); one matrix for all levels keeps them across levels.
    projection = torch.randn(dim, width, generator=generator)
    for level, codes in enumerate(codebooks):
        begin = sum(len(earlier) for earlier in codebooks[:level])
        vectors = (codes.float() - codes.float().mean(dim=0)) @ projection
        directions[begin : begin + len(codes)] = vectors / vectors.std().clamp(min=1e-12)
    return directions
