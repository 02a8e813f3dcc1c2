"""Residual k-means: nearest codes level by level, even ones on demand, and better with every level."""

import torch

from dig.evaluation.codebook import perplexity, usage
from dig.quantization import residual_kmeans


def points(items: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(12, 6, generator=generator)
    return centres[torch.arange(items) % 12] + torch.randn(items, 6, generator=generator)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_codes_are_the_nearest_ones_of_what_is_left_over():
    found = residual_kmeans(points(), [8, 8, 4], generator=generator())
    residual = points()
    for level, codebook in enumerate(found.codebooks):
        nearest = torch.cdist(residual, codebook).argmin(dim=1)
        assert torch.equal(found.codes[:, level], nearest)
        residual = residual - codebook[nearest]
    torch.testing.assert_close(found.quantized, points() - residual)


def test_every_level_lowers_the_error_and_the_seed_decides():
    found = [residual_kmeans(points(), [8] * levels, generator=generator()).quantized for levels in (1, 2, 3)]
    errors = [float((points() - quantized).square().mean()) for quantized in found]
    assert errors[0] > errors[1] > errors[2]
    first, second = (residual_kmeans(points(), [8, 8], generator=generator()) for _ in range(2))
    assert torch.equal(first.codes, second.codes)


def test_balanced_codes_have_their_share_and_no_more():
    found = residual_kmeans(points(), [8, 8], balanced=True, generator=generator())
    for column in found.codes.unbind(dim=1):
        assert torch.bincount(column, minlength=8).max() <= -(-300 // 8)
    plain = residual_kmeans(points(), [8, 8], generator=generator())
    assert (perplexity(found.codes, [8, 8]) > perplexity(plain.codes, [8, 8])).all()
    assert usage(found.codes, [8, 8]).tolist() == [1.0, 1.0]


def test_fewer_points_than_codes():
    found = residual_kmeans(points(3), [8, 8], generator=generator())
    assert len(torch.unique(found.codes, dim=0)) == 3
    balanced = residual_kmeans(points(3), [8, 8], balanced=True, generator=generator())
    assert balanced.codes.shape == (3, 2)
