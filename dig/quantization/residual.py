"""Residual quantizer: a codebook a level, each of them for what the levels before it left over."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dig.quantization.kmeans import assign, kmeans

__all__ = ["QuantizerOutput", "ResidualQuantizer"]


class QuantizerOutput(NamedTuple):
    """What quantising a batch gives."""

    quantized: Tensor
    """``(batch, dim)`` sum of the chosen codes; its gradient passes straight through to the latents."""
    codes: Tensor
    """``(batch, levels)`` int64."""
    loss: Tensor
    """0-d: codebook loss + β · commitment loss, a mean over batch and dimensions, summed over levels."""
    restarted: list[Tensor]
    """A bool mask ``(codes,)`` a level: codes that were restarted in this step."""


class ResidualQuantizer(nn.Module):
    """Residual quantisation with codebooks trained by gradients (RQ-VAE, arXiv 2203.01941; VQ-VAE, arXiv 1711.00937).

    Under ``torch.distributed`` all ranks hold equal codebooks: rank 0 initialises and draws restarts, usage is summed
    over the ranks. Every rank has to make the same calls.

    Args:
        sizes: number of codes, one a level.
        dim: dimension of latents and codes.
        commitment_weight: weight β of the commitment loss.
        restart_after: a code unused for this many training steps moves to a random residual of the batch; 0: never.
        kmeans_iterations: Lloyd iterations of `initialise`.
    """

    def __init__(
        self,
        sizes: list[int],
        dim: int,
        commitment_weight: float = 0.25,
        restart_after: int = 0,
        kmeans_iterations: int = 20,
    ) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.commitment_weight = commitment_weight
        self.restart_after = restart_after
        self.kmeans_iterations = kmeans_iterations
        self.codebooks = nn.ParameterList(
            [nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size)) for size in sizes]
        )
        self.initialised: Tensor
        self.idle_steps: Tensor
        self.steps: Tensor
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("idle_steps", torch.zeros(sum(sizes), dtype=torch.int64))  # of all levels, end to end
        self.register_buffer("steps", torch.tensor(0))  # seeds the restarts, so that a resumed run draws the same

    @torch.no_grad()
    def initialise(self, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Sets each codebook by k-means on the residuals that the levels before it leave.

        Args:
            latents: ``(items, dim)``; under ``torch.distributed`` those of rank 0 count.
            generator: source of randomness, a CPU generator; None takes torch's global one.
        """
        if _rank() == 0:
            residual = latents.float()
            for codebook in self.codebooks:
                codebook.copy_(kmeans(residual, len(codebook), self.kmeans_iterations, generator))
                residual = residual - codebook[assign(residual, codebook)]
        for codebook in self.codebooks:
            _broadcast(codebook.data)
        self.idle_steps.zero_()
        self.initialised.fill_(True)

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantises a batch of latents ``(batch, dim)``; in training also counts usage and restarts dead codes."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            residual, quantized = latents, torch.zeros_like(latents)
            loss = latents.new_zeros(())
            codes: list[Tensor] = []
            residuals: list[Tensor] = []
            for codebook in self.codebooks:
                chosen = assign(residual.detach(), codebook)
                vectors = codebook[chosen]  # (batch, dim)
                loss = loss + F.mse_loss(vectors, residual.detach())
                loss = loss + self.commitment_weight * F.mse_loss(residual, vectors.detach())
                codes.append(chosen)
                residuals.append(residual.detach())
                quantized = quantized + vectors.detach()
                residual = residual - vectors.detach()
            restarted = self._restart(codes, residuals) if self.training else self._none_restarted()
            straight_through = latents + (quantized - latents).detach()
        return QuantizerOutput(straight_through, torch.stack(codes, dim=1), loss, restarted)

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
    def _restart(self, codes: list[Tensor], residuals: list[Tensor]) -> list[Tensor]:
        """Counts the steps that each code went unused and moves the dead ones; gives a mask a level."""
        if not self.restart_after:
            return self._none_restarted()
        self.steps += 1
        used = torch.cat([torch.bincount(c, minlength=size) for c, size in zip(codes, self.sizes, strict=True)])
        if _distributed():
            dist.all_reduce(used)
        self.idle_steps.copy_(torch.where(used > 0, 0, self.idle_steps + 1))
        dead = self.idle_steps >= self.restart_after  # equal on all ranks, so that they broadcast in step
        self.idle_steps[dead] = 0
        masks = list(dead.split(self.sizes))
        if not dead.any():
            return masks
        generator = torch.Generator().manual_seed(int(self.steps))
        for codebook, residual, mask in zip(self.codebooks, residuals, masks, strict=True):
            count = int(mask.sum())
            if count:
                vectors = _sample_rows(residual, count, generator)
                _broadcast(vectors)
                codebook.data[mask] = vectors.to(codebook.dtype)
        return masks

    def _none_restarted(self) -> list[Tensor]:
        return list(torch.zeros_like(self.idle_steps, dtype=torch.bool).split(self.sizes))


def _sample_rows(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random rows, each at most once until all were taken."""
    passes = [torch.randperm(len(rows), generator=generator) for _ in range(-(-count // len(rows)))]
    return rows[torch.cat(passes)[:count].to(rows.device)].contiguous()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _rank() -> int:
    return dist.get_rank() if _distributed() else 0


def _broadcast(tensor: Tensor) -> None:
    if _distributed():
        dist.broadcast(tensor, src=0)
