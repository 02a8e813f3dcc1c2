"""The Recursive-Assignment Network of IntRR (arXiv 2602.20704): one code after the other, out of guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Assigned", "RecursiveAssignment"]

_SPREAD = 0.02
"""Standard deviation of what starts at random."""


class Assigned:
    """What the network makes of guidance.

    Attributes:
        vectors: (rows, width) sums of the chosen codes' vectors.
        log_probs: (rows, codes) of each level.
        codes: (rows, levels) int64, the chosen ones.
    """

    def __init__(self, vectors: Tensor, log_probs: list[Tensor], codes: Tensor) -> None:
        self.vectors, self.log_probs, self.codes = vectors, log_probs, codes


class RecursiveAssignment(nn.Module):
    """Chooses a code a level: ``h_1 = g``, ``h_{l+1} = f_l([z_l; g])``, ``logits_l = h_l · C_lᵀ``.

    The same weights serve the input side, where ``g`` is what is known of an item, and the output side, where it is
    the state after a history.

    Args:
        sizes: codes a level.
        width: of guidance, states and codes.
        inner: width of the hidden layer of each ``f_l``.
        condition: what ``f_l`` reads of the codes so far: the ``previous`` one (the paper's) or the ``sum`` of all.
        residual: whether ``f_l`` is added to the guidance instead of replacing it.
        scale: logits are so many times the cosine of state and code; None takes the inner product, as the paper does.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        inner: int = 512,
        condition: str = "previous",
        residual: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.condition, self.residual, self.scale = condition, residual, scale
        self.codebooks = nn.ParameterList(nn.Parameter(_SPREAD * torch.randn(size, width)) for size in sizes)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, inner), nn.GELU(), nn.Linear(inner, width)) for _ in sizes[1:]
        )

    def conditioned(self, before: Tensor | None, codes: Tensor) -> Tensor:
        """What the next step reads of the codes so far (…, width).

        Args:
            before: the same after one code fewer, None at the first.
            codes: (…, width) vectors of the latest codes.
        """
        return codes if before is None or self.condition == "previous" else before + codes

    def step(self, level: int, condition: Tensor, guidance: Tensor) -> Tensor:
        """States (…, width) from which a level from 1 on is chosen (level 0 is chosen from the guidance itself).

        The hidden layer, several times as wide as a state, is computed again in the backward pass and not kept.
        """
        step = self.steps[level - 1]

        def run(condition: Tensor, guidance: Tensor) -> Tensor:
            found: Tensor = step(torch.cat([condition, guidance], dim=-1))
            return found

        if torch.is_grad_enabled():
            found: Tensor = checkpoint(run, condition, guidance, use_reentrant=False, preserve_rng_state=False)
        else:
            found = run(condition, guidance)
        return found + guidance if self.residual else found

    def codebook(self, level: int) -> Tensor:
        """(codes, width) what states of a level are multiplied with."""
        return self.scaled(self.codebooks[level])

    def scaled(self, table: Tensor) -> Tensor:
        """Rows as long as the scale, where there is one."""
        return table if self.scale is None else self.scale * F.normalize(table, dim=-1)

    def directed(self, states: Tensor) -> Tensor:
        """States of length 1, where there is a scale."""
        return states if self.scale is None else F.normalize(states.to(self.codebooks[0].dtype), dim=-1)

    def logits(self, level: int, states: Tensor) -> Tensor:
        """(…, codes) of states (…, width)."""
        return F.linear(self.directed(states), self.codebook(level))

    def forward(self, guidance: Tensor, there: Tensor | None = None) -> Assigned:
        """Assigns codes by straight-through choices: forward the code of the largest logit, backward the soft mixture.

        Args:
            guidance: (rows, width).
            there: (rows, levels) False at levels that a row does not have, such as the suffix of an item that shares
                its codes with none; None has all.
        """
        total, condition = torch.zeros_like(guidance), None
        log_probs, codes = [], []
        for level, codebook in enumerate(self.codebooks):
            states = guidance if condition is None else self.step(level, condition, guidance)
            log_probs.append(self.logits(level, states).log_softmax(dim=-1))
            codes.append(log_probs[-1].argmax(dim=-1))
            chosen = straight_through(log_probs[-1], codebook, codes[-1])
            condition = self.conditioned(condition, chosen)
            total = total + (chosen if there is None else chosen * there[:, level : level + 1])
        return Assigned(total, log_probs, torch.stack(codes, dim=-1))


def straight_through(log_probs: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
    """Vectors (rows, width) of codes (rows,), with the gradient of the mixture of the codebook by their probabilities.

    Args:
        log_probs: (rows, codes).
        codebook: (codes, width).
        codes: (rows,) what is chosen.
    """

    def mixed(log_probs: Tensor, codebook: Tensor) -> Tensor:
        return log_probs.exp().to(codebook.dtype) @ codebook

    if not torch.is_grad_enabled():
        return codebook[codes]
    # probabilities follow from what is kept anyway
    soft = checkpoint(mixed, log_probs, codebook, use_reentrant=False, preserve_rng_state=False)
    return codebook[codes].detach() + (soft - soft.detach())
