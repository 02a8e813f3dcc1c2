"""How the rows of SID tokens start: at random, or where the tokenizer puts codes and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dig.generation.vocabulary import SidVocabulary

__all__ = ["level_vectors", "start_among_words", "start_from_scratch"]

_SPREAD = 0.1
"""Spread of the rows around the text rows' mean, in standard deviations of a text row."""
_NOISE = 0.2
"""What is random in a row that starts at a vector; it tells tokens of equal vectors apart."""


def level_vectors(codebooks: Sequence[Tensor], codes: Tensor, levels: int, item_token: bool) -> list[Tensor]:
    """(tokens, dim) vectors of each level's tokens: the codes' own, and the sum of an item's codes for its own token.

    Args:
        codebooks: (codes, dim) of each level.
        codes: (items, all levels).
        levels: leading levels that are spelled.
        item_token: whether a level of items' own tokens follows.
    """
    vectors = list(codebooks[:levels])
    if item_token:
        parts = [codebook[column] for codebook, column in zip(codebooks, codes.unbind(dim=1), strict=False)]
        vectors.append(torch.stack(parts).sum(dim=0))
    return vectors


@torch.no_grad()
def start_from_scratch(model: Any, vocabulary: SidVocabulary, vectors: Sequence[Tensor]) -> None:
    """Lets the rows of a fresh model start where the tokenizer puts codes and items, as large as its other rows."""
    ids, tables = vocabulary.ids, _tables(model)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(len(ids), tables[0].shape[1], generator=generator)
    directions = _projected(vectors, directions, generator)
    for table in tables:
        table[ids] = (getattr(model.config, "initializer_range", 0.02) * directions).to(table.dtype)


@torch.no_grad()
def start_among_words(model: Any, vocabulary: SidVocabulary, used: int, vectors: Sequence[Tensor] | None) -> None:
    """Puts the SID rows near the mean of the text rows, as far from it as text rows are small.

    Without vectors the direction from the mean is random. With them it is the token's vector, so that tokens that are
    near for the tokenizer start near; a level without vectors, the collision suffix, starts at random.

    Args:
        model: a pretrained causal language model whose embedding has the rows already.
        vocabulary: where the SID tokens are.
        used: rows from here on pad the embedding; no token ever trained them.
        vectors: (tokens, dim) of the first levels.
    """
    ids = vocabulary.ids
    generator = torch.Generator().manual_seed(0)  # the same start in every process
    for table in _tables(model):
        text = torch.arange(table.shape[0]) < used
        text[ids] = False
        rows = table[text].float()
        directions = torch.randn(len(ids), rows.shape[1], generator=generator)
        if vectors:
            directions = _projected(vectors, directions, generator)
        table[ids] = (rows.mean(dim=0) + _SPREAD * rows.std() * directions).to(table.dtype)


def _tables(model: Any) -> list[Tensor]:
    """The embedding's weight, and the output layer's unless it is the same."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    return [embedding.weight] if output.weight is embedding.weight else [embedding.weight, output.weight]


def _projected(vectors: Sequence[Tensor], directions: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors in the model's width, with components as large as those of ``directions``, which the rest keeps."""
    # Random projections keep angles (Johnson & Lindenstrauss 1984); one matrix for all levels keeps them across levels.
    projection = torch.randn(vectors[0].shape[1], directions.shape[1], generator=generator)
    result, begin = directions.clone(), 0
    for level in vectors:
        found = (level.float() - level.float().mean(dim=0)) @ projection
        part = slice(begin, begin + len(level))
        result[part] = found / found.std().clamp(min=1e-12) + _NOISE * directions[part]
        begin += len(level)
    return result
