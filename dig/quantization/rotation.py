"""How gradients pass the quantizer: straight through, or along the rotation that takes a latent to its code."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rotate", "straight_through"]

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
