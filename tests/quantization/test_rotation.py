"""The rotation trick against an explicit rotation matrix."""

import torch

from dig.quantization.residual import rotate, straight_through


def vectors(seed: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(e: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The matrix that turns e to q in their plane, built from the plane's own basis."""
    u = e / e.norm()
    v = q - (q @ u) * u
    v = v / v.norm()
    cosine = (e @ q) / (e.norm() * q.norm())
    sine = (1 - cosine**2).sqrt()
    basis = torch.stack([u, v], dim=1)
    turn = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=e.dtype)
    return torch.eye(len(e), dtype=e.dtype) - basis @ basis.T + basis @ turn @ basis.T


def test_value_is_the_quantized_vector_and_gradient_the_rotated_one():
    latents, quantized, weights = vectors(0).requires_grad_(), vectors(1), vectors(2)
    passed = rotate(latents, quantized)
    torch.testing.assert_close(passed, quantized)
    (passed * weights).sum().backward()
    for row in range(8):
        e, q = latents[row].detach(), quantized[row]
        expected = (q.norm() / e.norm()) * rotation(e, q).T @ weights[row]
        torch.testing.assert_close(latents.grad[row], expected)


def test_vectors_without_a_direction_pass_straight_through():
    latents = torch.stack([torch.zeros(5), torch.ones(5), torch.ones(5)]).double().requires_grad_()
    quantized = torch.stack([torch.ones(5), torch.zeros(5), -torch.ones(5)]).double()
    weights = vectors(3)[:3]
    passed = rotate(latents, quantized)
    torch.testing.assert_close(passed, quantized)
    (passed * weights).sum().backward()
    torch.testing.assert_close(latents.grad, weights)


def test_straight_through_hands_the_gradient_on():
    latents, weights = vectors(0).requires_grad_(), vectors(2)
    passed = straight_through(latents, vectors(1))
    torch.testing.assert_close(passed, vectors(1))
    (passed * weights).sum().backward()
    torch.testing.assert_close(latents.grad, weights)
