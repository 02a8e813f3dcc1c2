"""Items' own tokens composed of their codes: what is learned of an item is shared by all that share a code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["ComposedRows", "compose_rows", "fold_rows", "started_rows"]

_OWN = 0.2
"""What is left at the start of items' own rows."""


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
