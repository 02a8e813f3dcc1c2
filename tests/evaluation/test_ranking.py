"""HR@K and NDCG@K against torchmetrics' retrieval metrics and a loop, over batches and over ranks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from dig.evaluation import MRR, NDCG, HitRate, ranking_metrics

ITEMS = 40


def rankings(users: int = 60, depth: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ranked = torch.stack([torch.randperm(ITEMS, generator=generator)[:depth] for _ in range(users)])
    return ranked, torch.randint(ITEMS, (users,), generator=generator)


@pytest.mark.parametrize("k", [1, 5, 10, 12])
def test_agrees_with_torchmetrics_retrieval_and_a_loop(k: int):
    ranked, targets = rankings()
    scores = torch.zeros(len(ranked), ITEMS)  # the full ranking: what is not ranked comes last
    for position in range(ranked.shape[1]):
        scores[torch.arange(len(ranked)), ranked[:, position]] = float(ranked.shape[1] - position)
    relevant = torch.zeros(len(ranked), ITEMS, dtype=torch.bool)
    relevant[torch.arange(len(ranked)), targets] = True
    # An unranked target may not be ahead of other unranked items by chance of the sort.
    scores[relevant & (scores == 0)] = -1.0
    users = torch.arange(len(ranked)).unsqueeze(1).expand_as(scores)
    gains, reciprocals = [], []
    for row, target in zip(ranked.tolist(), targets.tolist(), strict=True):
        first = row[:k]
        gains.append(1 / math.log2(first.index(target) + 2) if target in first else 0.0)
        reciprocals.append(1 / (first.index(target) + 1) if target in first else 0.0)
    hits = [gain > 0 for gain in gains]
    assert 0 < sum(hits) < len(hits)
    for ours, theirs, slow in (
        (HitRate(k), RetrievalHitRate(top_k=k), sum(hits) / len(hits)),
        (NDCG(k), RetrievalNormalizedDCG(top_k=k), sum(gains) / len(gains)),
        (MRR(k), RetrievalMRR(top_k=k), sum(reciprocals) / len(reciprocals)),
    ):
        ours.update(ranked, targets)
        found = ours.compute()
        assert found.shape == () and found.dtype == torch.float32
        assert float(found) == pytest.approx(slow, abs=1e-7)
        expected = theirs(scores.flatten(), relevant.flatten(), indexes=users.flatten())
        assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_closed_forms():
    ranked = torch.tensor([[3, 1, 2], [0, 2, 1], [1, 0, -1]])
    targets = torch.tensor([1, 5, 1])  # second, absent, first
    metrics = ranking_metrics([1, 3], prefix="test/")
    metrics.update(ranked, targets)
    assert {name: round(float(value), 6) for name, value in metrics.compute().items()} == {
        "test/hr@1": 0.333333,
        "test/hr@3": 0.666667,
        "test/ndcg@1": 0.333333,
        "test/ndcg@3": round((1 / math.log2(3) + 1) / 3, 6),
    }


def test_batches_add_up_whatever_their_size():
    ranked, targets = rankings()
    whole, parts = ranking_metrics([5, 10]), ranking_metrics([5, 10])
    whole.update(ranked, targets)
    for rows in torch.arange(len(ranked)).split([1, 30, 7, 22]):
        parts.update(ranked[rows], targets[rows])
    assert parts.compute() == whole.compute()
    parts.reset()
    parts.update(ranked[:9], targets[:9])
    again = ranking_metrics([5, 10])
    again.update(ranked[:9], targets[:9])
    assert parts.compute() == again.compute()


def _rank(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    ranked, targets = rankings()
    mine = slice(0, 17) if rank == 0 else slice(17, None)  # uneven parts
    metrics = ranking_metrics([5, 10])
    metrics.update(ranked[mine], targets[mine])
    torch.save(metrics.compute(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_give_the_numbers_of_one(tmp_path: Path):
    torch.multiprocessing.start_processes(_rank, args=(tmp_path,), nprocs=2, start_method="fork")
    whole = ranking_metrics([5, 10])
    whole.update(*rankings())
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == whole.compute()


def test_many_users_lose_no_precision():
    metric, ranked = HitRate(1), torch.zeros(1000, 1, dtype=torch.int64)
    metric.hits += 2**26
    metric.count += 2**26
    metric.update(ranked, torch.zeros(1000, dtype=torch.int64))
    assert int(metric.hits) == int(metric.count) == 2**26 + 1000


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="rankings of 3 items cannot give a metric at 5"):
        NDCG(5).update(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"k must be a whole number, it is 1\.5"):
        NDCG(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k must be at least 1"):
        HitRate(0)


def test_of_an_item_named_twice_the_first_place_counts_once():
    metric = HitRate(3)
    metric.update(torch.tensor([[7, 7, 7], [1, 7, 7]]), torch.tensor([7, 7]))
    assert metric.hits.tolist() == [1, 1, 0] and float(metric.compute()) == 1.0


def test_cut_offs_stay_apart_in_a_collection_that_groups_by_value():
    """torchmetrics merges metrics whose first states agree (findings/torchmetrics_merges_cutoffs.sh)."""
    cut_offs = MetricCollection({f"hr@{k}": HitRate(k) for k in (1, 5, 10)})
    ranked = torch.arange(10).repeat(4, 1)
    for targets in ([0, 0, 99, 99], [7, 7, 7, 7], [3, 3, 3, 3]):
        cut_offs.update(ranked, torch.tensor(targets))
    values = {name: float(value) for name, value in cut_offs.compute().items()}
    assert values == pytest.approx({"hr@1": 2 / 12, "hr@5": 6 / 12, "hr@10": 10 / 12})


@pytest.mark.parametrize("kind", [HitRate, NDCG, MRR])
def test_counting_goes_past_256_in_a_module_of_bfloat16(kind: type):
    """A cast to bf16-true reaches the states of metrics (findings/lightning_bf16_counts_to_256.sh)."""
    module = torch.nn.Module()
    module.metric = kind(10)
    module.to(torch.bfloat16)
    for _ in range(1000):
        module.metric.update(torch.arange(10).unsqueeze(0), torch.tensor([0]))
    assert float(module.metric.compute()) == 1.0 and int(module.metric.count) == 1000
