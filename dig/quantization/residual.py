"""Residual quantizer: one codebook per level, for what the levels before left over; and the networks around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
import torch.nn.functional as F
from torch import Tensor, nn

from dig.quantization.kmeans import assign, kmeans
from dig.quantization.sinkhorn import sinkhorn

__all__ = [
    "ESTIMATORS",
    "UPDATES",
    "QuantizerOutput",
    "ResidualQuantizer",
    "mlp",
    "rotate",
    "straight_through",
    "broadcast",
    "distributed",
    "gather_rows",
    "rank",
    "sum_over_ranks",
]


UPDATES = ("gradient", "ema")
ESTIMATORS = ("straight-through", "rotation")
_SMOOTHING = 1e-5
"""Laplace smoothing of the moving counts, so that a code without items keeps its place (VQ-VAE, appendix A.1)."""


class QuantizerOutput(NamedTuple):
    """What quantising a batch gives."""

    quantized: Tensor
    """``(batch, dim)`` sum of the chosen codes; its gradient reaches the latents as ``estimator`` says."""
    codes: Tensor
    """``(batch, levels)`` int64."""
    loss: Tensor
    """0-d: codebook loss + β · commitment loss, a mean over batch and dimensions, summed over levels."""
    restarted: list[Tensor]
    """A bool mask ``(codes,)`` a level: codes that were restarted in this step."""


class ResidualQuantizer(nn.Module):
    """Residual quantisation with trained codebooks (RQ-VAE, arXiv 2203.01941; VQ-VAE, arXiv 1711.00937).

    Under ``torch.distributed`` all ranks hold equal codebooks: rank 0 initialises, usage and moving averages are summed
    over the ranks, and restarts draw from all ranks' residuals, so that N ranks do what one process with their joint
    batch does. Every rank has to make the same calls with equally many latents.

    Args:
        sizes: number of codes, one per level.
        dim: dimension of latents and codes.
        commitment_weight: weight β of the commitment loss.
        restart_after: a code unused for this many training steps moves to a random residual of the batch; 0: never.
        kmeans_iterations: Lloyd iterations of `initialise`.
        update: ``gradient`` trains the codebooks by their loss, ``ema`` moves them by averages of their residuals.
        ema_decay: share of the old average that a step keeps.
        estimator: how gradients pass: ``straight-through`` or ``rotation``
            (:func:`~dig.quantization.residual.rotate`, of a latent onto the sum of its codes).
        sinkhorn_levels: levels, from 1, at which training spreads a batch evenly over the codes by Sinkhorn's prices
            (LC-Rec, arXiv 2311.09049); `encode` takes the nearest code at every level.
        sinkhorn_epsilon: see :func:`~dig.quantization.sinkhorn.sinkhorn`.
        sinkhorn_iterations: see there.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dim: int,
        commitment_weight: float = 0.25,
        restart_after: int = 0,
        kmeans_iterations: int = 20,
        update: Literal["gradient", "ema"] = "gradient",
        ema_decay: float = 0.99,
        estimator: Literal["straight-through", "rotation"] = "straight-through",
        sinkhorn_levels: Sequence[int] = (),
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_iterations: int = 20,
    ) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.commitment_weight = commitment_weight
        self.restart_after = restart_after
        self.kmeans_iterations = kmeans_iterations
        self.update = update
        self.ema_decay = ema_decay
        self.estimator = estimator
        self.sinkhorn_levels = frozenset(sinkhorn_levels)
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        trained = update == "gradient"
        self.codebooks = nn.ParameterList(
            [nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size), trained) for size in sizes]
        )
        self.initialised: Tensor
        self.idle_steps: Tensor
        self.steps: Tensor
        self.ema_sizes: Tensor
        self.ema_sums: Tensor
        codes = sum(sizes)  # of all levels, end to end
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("idle_steps", torch.zeros(codes, dtype=torch.int64))
        self.register_buffer("steps", torch.tensor(0))  # seeds the restarts, so that a resumed run draws the same
        self.register_buffer("ema_sizes", torch.ones(codes if not trained else 0))
        self.register_buffer("ema_sums", torch.zeros(codes if not trained else 0, dim))

    @torch.no_grad()
    def initialise(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Sets each codebook by k-means on the residuals that the levels before it leave.

        Args:
            latents: ``(items, dim)``; under ``torch.distributed`` those of rank 0 count.
            generator: source of randomness, a CPU generator; None takes torch's global one.
        """
        if rank() == 0:
            residual = latents.float()
            for codebook in self.codebooks:
                codebook.copy_(kmeans(residual, len(codebook), self.kmeans_iterations, generator))
                residual = residual - codebook[assign(residual, codebook)]
        for codebook in self.codebooks:
            broadcast(codebook.data)
        self.idle_steps.zero_()
        if self.update == "ema":
            self.ema_sizes.fill_(1.0)
            self.ema_sums.copy_(torch.cat(list(self.codebooks)))
        self.initialised.fill_(True)

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantises latents ``(batch, dim)``; in training also counts usage, moves averages, restarts codes."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            residual, quantized = latents, torch.zeros_like(latents)
            loss = latents.new_zeros(())
            codes: list[Tensor] = []
            residuals: list[Tensor] = []
            for level, codebook in enumerate(self.codebooks, start=1):
                chosen = self._choose(residual.detach(), codebook, level)
                vectors = codebook[chosen]  # (batch, dim)
                if self.update == "gradient":
                    loss = loss + F.mse_loss(vectors, residual.detach())
                loss = loss + self.commitment_weight * F.mse_loss(residual, vectors.detach())
                codes.append(chosen)
                residuals.append(residual.detach())
                quantized = quantized + vectors.detach()
                residual = residual - vectors.detach()
            if self.training:
                self._average(codes, residuals)
            restarted = self._restart(codes, residuals) if self.training else self._none_restarted()
            passed = (
                rotate(latents, quantized) if self.estimator == "rotation" else straight_through(latents, quantized)
            )
        return QuantizerOutput(passed, torch.stack(codes, dim=1), loss, restarted)

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Codes ``(batch, levels)`` int64 of latents ``(batch, dim)``; counts and codebooks stay as they are."""
        residual = latents.float()
        codes = []
        for codebook in self.codebooks:
            codes.append(assign(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors ``(batch, dim)`` that codes ``(batch, <= levels)`` stand for; fewer levels give a coarser vector."""
        levels = zip(self.codebooks, codes.unbind(dim=1), strict=False)
        return torch.stack([codebook[chosen] for codebook, chosen in levels]).sum(dim=0)

    @torch.no_grad()
    def last_level_distances(self, latents: Tensor, codes: Tensor) -> Tensor:
        """What each code of the last level would cost items with the given codes before it.

        Args:
            latents: ``(batch, dim)``.
            codes: ``(batch, levels)``; the last column is not read.

        Returns:
            ``(batch, codes of the last level)`` squared distances.
        """
        residual = latents.float()
        if codes.shape[1] > 1:
            residual = residual - self.decode(codes[:, :-1])
        return torch.cdist(residual, self.codebooks[-1]).square()

    @torch.no_grad()
    def _choose(self, residual: Tensor, codebook: Tensor, level: int) -> Tensor:
        if not self.training or level not in self.sinkhorn_levels:
            return assign(residual, codebook)
        costs = torch.cdist(residual, codebook).square()
        prices = sinkhorn(costs, self.sinkhorn_epsilon, self.sinkhorn_iterations, sum_over_ranks)
        return (costs + prices).argmin(dim=1)

    @torch.no_grad()
    def _average(self, codes: list[Tensor], residuals: list[Tensor]) -> None:
        """Moves averages and codebooks towards the batch's residuals (VQ-VAE, appendix A.1)."""
        if self.update != "ema":
            return
        flat = torch.cat([chosen + start for chosen, start in zip(codes, self._starts(), strict=True)])
        sizes = torch.zeros_like(self.ema_sizes).index_add_(0, flat, torch.ones_like(flat, dtype=self.ema_sizes.dtype))
        sums = torch.zeros_like(self.ema_sums).index_add_(0, flat, torch.cat(residuals))
        sum_over_ranks(sizes), sum_over_ranks(sums)
        self.ema_sizes.lerp_(sizes, 1 - self.ema_decay)
        self.ema_sums.lerp_(sums, 1 - self.ema_decay)
        means = self.ema_sums / self.ema_sizes.clamp_min(_SMOOTHING)[:, None]
        for codebook, vectors in zip(self.codebooks, means.split(self.sizes), strict=True):
            codebook.copy_(vectors)

    @torch.no_grad()
    def _restart(self, codes: list[Tensor], residuals: list[Tensor]) -> list[Tensor]:
        """Counts the steps that each code went unused and moves the dead ones; gives a mask per level."""
        if not self.restart_after:
            return self._none_restarted()
        self.steps += 1
        used = torch.cat([torch.bincount(c, minlength=size) for c, size in zip(codes, self.sizes, strict=True)])
        sum_over_ranks(used)
        self.idle_steps.copy_(torch.where(used > 0, 0, self.idle_steps + 1))
        dead = self.idle_steps >= self.restart_after  # equal on all ranks, so that they broadcast in step
        self.idle_steps[dead] = 0
        masks = list(dead.split(self.sizes))
        if not dead.any():
            return masks
        generator = torch.Generator().manual_seed(int(self.steps))
        levels = zip(self.codebooks, residuals, masks, self._starts(), strict=True)
        for codebook, residual, mask, start in levels:
            count = int(mask.sum())
            if count:
                vectors = _sample_rows(gather_rows(residual), count, generator)
                codebook.data[mask] = vectors.to(codebook.dtype)
                if self.update == "ema":
                    rows = start + mask.nonzero()[:, 0]
                    self.ema_sizes[rows] = 1.0
                    self.ema_sums[rows] = vectors
        return masks

    def _starts(self) -> list[int]:
        """Where each level begins in what is stored end to end."""
        return [sum(self.sizes[:level]) for level in range(len(self.sizes))]

    def _none_restarted(self) -> list[Tensor]:
        return list(torch.zeros_like(self.idle_steps, dtype=torch.bool).split(self.sizes))


def _sample_rows(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random rows, each at most once until all were taken."""
    passes = [torch.randperm(len(rows), generator=generator) for _ in range(-(-count // len(rows)))]
    return rows[torch.cat(passes)[:count].to(rows.device)].contiguous()


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given widths, ``(batch, widths[0])`` to ``(batch, widths[-1])``, with SiLU between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


_TINY = 1e-6


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The quantized vectors ``(batch, dim)``; a gradient reaches the latents unchanged (VQ-VAE, arXiv 1711.00937)."""
    return latents + (quantized - latents).detach()


def rotate(latents: Tensor, quantized: Tensor) -> Tensor:
    """The quantized vectors ``(batch, dim)`` as the latents' rotation and rescaling (rotation trick, arXiv 2410.06424).

    With ``e`` a latent and ``q`` its quantized vector the result is ``‖q‖/‖e‖ · R e``, R the rotation in the plane of
    both; R and the norms are constants for the gradient, which so turns with the angle between e and q. A latent or a
    code of length zero has no direction and passes straight through.
    """
    length, target = (vectors.norm(dim=1, keepdim=True) for vectors in (latents.detach(), quantized.detach()))
    e, q = latents.detach() / length.clamp_min(_TINY), quantized.detach() / target.clamp_min(_TINY)
    middle = e + q
    norm = middle.norm(dim=1, keepdim=True)
    middle = middle / norm.clamp_min(_TINY)
    # R x = x - 2 m (m·x) + 2 q (e·x), with m the unit vector between e and q (the paper's equation 4)
    rotated = (
        latents
        - 2 * middle * (middle * latents).sum(dim=1, keepdim=True)
        + 2 * q * (e * latents).sum(dim=1, keepdim=True)
    )
    defined = (length > _TINY) & (target > _TINY) & (norm > _TINY)  # opposite vectors leave the plane open
    turned = target / length.clamp_min(_TINY) * rotated
    return torch.where(defined, turned + (quantized - turned).detach(), straight_through(latents, quantized))


def distributed() -> bool:
    """Whether there is a process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's rank."""
    return dist.get_rank() if distributed() else 0


def broadcast(tensor: Tensor) -> None:
    """Rank 0's values on every rank, in place."""
    if distributed():
        dist.broadcast(tensor, src=0)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if distributed():
        dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows ``(ranks · batch, …)``, differentiable; every rank must hold equally many.

    The ranks take turns, so the order is that of the batch which one process would have been dealt
    (`datamodules.loading.EpochBatchSampler`).
    """
    if not distributed() or dist.get_world_size() == 1:
        return rows
    if rows.requires_grad:
        parts = list(dist_functional.all_gather(rows))
    else:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
