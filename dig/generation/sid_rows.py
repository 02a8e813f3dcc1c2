"""The rows of SID tokens: where they start, and rows of items composed of their codes.

Rows start at random, where the tokenizer puts codes and items, or at the words of the items that they stand for. Under
composed rows, what is learned of an item is shared by all that share a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dig.generation.vocabulary import SidVocabulary

__all__ = [
    "ComposedRows",
    "compose_rows",
    "fold_rows",
    "level_vectors",
    "start_among_words",
    "start_at_texts",
    "start_from_scratch",
    "started_rows",
]

_SPREAD = 0.1
"""Spread of the rows around the text rows' mean, in standard deviations of a text row."""
_NOISE = 0.2
"""What is random in a row that starts at a vector; it tells tokens of equal vectors apart."""
_OWN = 0.2
"""What is left at the start of items' own rows, where rows are composed."""


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


@torch.no_grad()
def start_at_texts(model: Any, vocabulary: SidVocabulary, texts: Sequence[Sequence[int]], codes: Tensor) -> None:
    """Puts the row of a code at the mean of its items' texts, each the mean of its tokens' rows.

    The row of code c of level l is ``mean_{i: c_il = c} mean_{t in text_i} E_t``. A code without an item that has a
    text stays where it is.

    Args:
        model: a pretrained causal language model whose embedding has the rows already.
        vocabulary: where the SID tokens are.
        texts: token ids of each item's text, which may be empty; SID tokens in them are passed over.
        codes: (items, levels) of the leading levels.
    """
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    items = torch.arange(len(texts)).repeat_interleave(lengths)
    words = ~torch.isin(tokens, vocabulary.ids)
    tokens, items = tokens[words], items[words]
    counts = torch.bincount(items, minlength=len(texts))
    for table in _tables(model):
        means = F.embedding_bag(tokens, table.float(), counts.cumsum(0) - counts, mode="mean")
        for level, first, size in zip(codes.unbind(dim=1), vocabulary.first_ids, vocabulary.sizes, strict=False):
            told = (counts > 0) & (level >= 0)
            held = torch.bincount(level[told], minlength=size)
            sums = torch.zeros(size, means.shape[1]).index_add(0, level[told], means[told])
            ids = first + held.nonzero().flatten()
            table[ids] = (sums[held > 0] / held[held > 0].unsqueeze(1)).to(table.dtype)


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
        projected = (level.float() - level.float().mean(dim=0)) @ projection
        part = slice(begin, begin + len(level))
        result[part] = projected / projected.std().clamp(min=1e-12) + _NOISE * directions[part]
        begin += len(level)
    return result


class ComposedRows(nn.Module):
    """Adds to the row of an item's own token a row for each of its codes.

    With the output layer tied or composed alike, an item's logit is then a sum of heads on the levels and of a term of
    its own: ``h·(o_i + Σ_l r_l[c_il])``. All codes of an item are predicted in one step, and items of which little is
    known lean on their codes.

    Args:
        rows: (codes, width) of each level, where they start.
        codes: (items, levels).
        first: id of the first item's own token; the others follow.
    """

    codes: Tensor

    def __init__(self, rows: Sequence[Tensor], codes: Tensor, first: int) -> None:
        super().__init__()
        self.rows = nn.ParameterList(rows)
        self.register_buffer("codes", codes, persistent=False)
        self.first = first

    def forward(self, table: Tensor) -> Tensor:
        """(tokens, width) the table as the model sees it."""
        last = self.first + len(self.codes)
        shared = sum(rows[codes] for rows, codes in zip(self.rows, self.codes.unbind(dim=1), strict=True))
        return torch.cat([table[: self.first], table[self.first : last] + shared, table[last:]])


def started_rows(codebooks: Sequence[Tensor], codes: Tensor, width: int, scale: float) -> list[Tensor]:
    """(codes, width) rows of each level, projected at random from their codebook vectors, so large that the components
    of an item's sum have the standard deviation ``scale``.

    Args:
        codebooks: (codes, dim) of each level.
        codes: (items, levels).
        width: of the rows.
        scale: of the sums.
    """
    # Random projections keep angles (Johnson & Lindenstrauss 1984); one matrix for all levels keeps the sums.
    projection = torch.randn(codebooks[0].shape[1], width, generator=torch.Generator().manual_seed(0))
    rows = [(codebook.float() - codebook.float().mean(dim=0)) @ projection for codebook in codebooks]
    sums = torch.stack([level[column] for level, column in zip(rows, codes.unbind(dim=1), strict=True)]).sum(dim=0)
    return [level * (scale / sums.std().clamp(min=1e-12)) for level in rows]


def compose_rows(model: Any, composed: ComposedRows) -> None:
    """Lets the embedding, and the output layer, see composed rows; both share the rows of codes.

    Items' own rows shrink to a fifth, so that at first an item is what its codes are.
    """
    first, last = composed.first, composed.first + len(composed.codes)
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in (embedding, output)}.values():
            weight[first:last] *= _OWN
    for layer in (embedding, output):
        parametrize.register_parametrization(layer, "weight", composed)


def fold_rows(model: Any) -> None:
    """Makes composed rows plain ones; a model without them stays as it is."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if not parametrize.is_parametrized(embedding, "weight"):
        return
    # Not left parametrized by torch, which would write into the table that both layers share, and compose it twice.
    tables = [layer.weight.detach().clone() for layer in (embedding, output)]
    for layer in (embedding, output):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    tied = embedding.weight is output.weight
    embedding.weight = nn.Parameter(tables[0])
    output.weight = embedding.weight if tied else nn.Parameter(tables[1])
