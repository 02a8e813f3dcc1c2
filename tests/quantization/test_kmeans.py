"""k-means against scikit-learn and against brute force."""

import importlib

import pytest
import torch
from sklearn.cluster import KMeans

from dig.quantization.kmeans import assign, kmeans

kmeans_module = importlib.import_module("dig.quantization.kmeans")  # the package's name `kmeans` is the function


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(clusters: int, per_cluster: int, dim: int, spread: float = 0.05) -> torch.Tensor:
    centres = torch.randn(clusters, dim, generator=generator(1)) * 10
    noise = torch.randn(clusters, per_cluster, dim, generator=generator(2)) * spread
    return (centres[:, None] + noise).flatten(0, 1)


def inertia(points: torch.Tensor, centroids: torch.Tensor) -> float:
    return float(torch.cdist(points, centroids).min(dim=1).values.square().sum())


def test_finds_sklearns_centroids_on_separable_blobs():
    points = blobs(clusters=8, per_cluster=30, dim=5)
    ours = kmeans(points, 8, 20, generator())
    theirs = torch.tensor(KMeans(8, n_init=10, random_state=0).fit(points.numpy()).cluster_centers_)
    nearest = torch.cdist(ours, theirs).argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(8))
    torch.testing.assert_close(ours, theirs[nearest], rtol=1e-4, atol=1e-4)


def test_is_as_good_as_sklearn_where_clusters_overlap():
    points = torch.randn(1500, 8, generator=generator(3))
    theirs = KMeans(40, n_init=1, max_iter=20, random_state=0).fit(points.numpy()).inertia_
    assert inertia(points, kmeans(points, 40, 20, generator())) < 1.02 * theirs


def test_lloyd_improves_on_the_seeds_and_ends_at_cluster_means():
    points = torch.randn(400, 4, generator=generator(4))
    seeds, final = kmeans(points, 10, 0, generator()), kmeans(points, 10, 200, generator())
    assert inertia(points, final) < 0.95 * inertia(points, seeds)
    codes = assign(points, final)
    means = torch.stack([points[codes == k].mean(dim=0) for k in range(10)])
    torch.testing.assert_close(final, means, rtol=1e-4, atol=1e-5)


def test_a_far_offset_does_not_cost_precision():
    points = blobs(clusters=4, per_cluster=10, dim=3, spread=0.01) * 0.01
    near, far = kmeans(points, 4, 20, generator()), kmeans(points + 1000, 4, 20, generator())
    assert sorted(assign(points, near).bincount().tolist()) == [10] * 4
    assert sorted(assign(points + 1000 - 1000, far - 1000).bincount().tolist()) == [10] * 4


def test_the_same_generator_gives_the_same_centroids_and_another_seed_others():
    points = torch.randn(200, 3, generator=generator(5))
    assert torch.equal(kmeans(points, 9, 5, generator(1)), kmeans(points, 9, 5, generator(1)))
    assert not torch.equal(kmeans(points, 9, 5, generator(1)), kmeans(points, 9, 5, generator(2)))


def test_an_empty_cluster_moves_to_the_farthest_point():
    points = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    codes = torch.tensor([0, 0, 0, 0])  # cluster 1 lost its points
    means, sizes = kmeans_module._cluster_means(points, codes, 2)
    assert sizes.tolist() == [4, 0]
    assert kmeans_module._refill(points, codes, means, sizes)[:, 0].tolist() == [8.25, 30.0]


def test_fewer_distinct_points_than_clusters_gives_every_point_its_centroid():
    distinct = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
    points = distinct.repeat(4, 1)
    centroids = kmeans(points, 6, 10, generator())
    assert centroids.shape == (6, 2)
    assert inertia(points, centroids) < 1e-9
    codes = assign(points, centroids)
    assert len(codes.unique()) == 3
    torch.testing.assert_close(centroids[codes], points)


def test_one_point_and_equal_points():
    point = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(kmeans(point, 3, 5, generator()), point.repeat(3, 1))
    torch.testing.assert_close(kmeans(point.repeat(7, 1), 3, 5, generator()), point.repeat(3, 1))


@pytest.mark.parametrize(("points", "clusters"), [(0, 2), (3, 0)])
def test_nothing_to_cluster_is_refused(points: int, clusters: int):
    with pytest.raises(ValueError, match="needs points and clusters"):
        kmeans(torch.zeros(points, 2), clusters, 5, generator())


def test_seeding_looks_at_a_sample_of_many_points(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kmeans_module, "_SEEDING_POINTS", 200)
    points = blobs(clusters=5, per_cluster=200, dim=3)
    assert sorted(assign(points, kmeans(points, 5, 10, generator())).bincount().tolist()) == [200] * 5


def test_assign_is_brute_force_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch):
    points, centroids = torch.randn(301, 6, generator=generator(6)), torch.randn(17, 6, generator=generator(7))
    expected = torch.tensor([int(((centroids - point) ** 2).sum(dim=1).argmin()) for point in points])
    assert torch.equal(assign(points, centroids), expected)
    monkeypatch.setattr(kmeans_module, "_CHUNK_ELEMENTS", 17 * 10)
    assert torch.equal(assign(points, centroids), expected)


def test_assign_stays_exact_under_autocast():
    points, centroids = torch.randn(500, 32, generator=generator(8)), torch.randn(64, 32, generator=generator(9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(assign(points, centroids), torch.cdist(points.double(), centroids.double()).argmin(dim=1))
