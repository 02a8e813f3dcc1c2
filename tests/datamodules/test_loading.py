"""The order is a pure function of (seed, epoch, rank); a resumed epoch sees exactly what was left of it."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from datamodules.loading import EpochBatchSampler, ResumableLoader, draw_shares


class Numbers(Dataset):
    """The batch of a list of indices is that list, as a tensor."""

    def __getitem__(self, index: list[int]) -> torch.Tensor:
        return torch.tensor(index)


def loader(count: int = 23, batch_size: int = 4, seed: int = 7, workers: int = 0) -> ResumableLoader:
    return ResumableLoader(Numbers(), EpochBatchSampler(count, batch_size, seed), workers)


def drawn(batches: object) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


counts = st.integers(1, 40)


@settings(max_examples=100, deadline=None)
@given(counts, st.integers(1, 9), st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
def test_ranks_share_a_shuffled_epoch(samples: int, batch_size: int, world: int, seed: int, epoch: int):
    whole = EpochBatchSampler(samples, batch_size, seed)
    whole.set_epoch(epoch)
    order = [index for batch in whole for index in batch]
    assert sorted(order) == list(range(samples))
    ranks = []
    for rank in range(world):
        sampler = EpochBatchSampler(samples, batch_size, seed, rank=rank, world_size=world)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert batches == list(sampler)  # asking twice changes nothing
        assert len(batches) == len(sampler) and all(len(batch) == batch_size for batch in batches[:-1])
        ranks.append([index for batch in batches for index in batch])
    assert len({len(rank) for rank in ranks}) == 1  # in step
    dealt = [rank[step] for step in range(len(ranks[0])) for rank in ranks]
    assert dealt[:samples] == order  # the one-process order, dealt in turn
    fill = dealt[samples:]
    assert len(fill) < world and fill == (order * world)[: len(fill)]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))
def test_ranks_see_together_what_one_process_sees(samples: int, world: int, share: int, epoch: int):
    samples = samples // world * world  # ranks in step repeat the few samples that do not go round
    whole = EpochBatchSampler(samples, share * world, 3)
    ranks = [EpochBatchSampler(samples, share, 3, rank=rank, world_size=world) for rank in range(world)]
    for sampler in (whole, *ranks):
        sampler.set_epoch(epoch)
    together = [sorted(index for batch in step for index in batch) for step in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in whole]


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(1, 9), st.integers(1, 6))
def test_ranks_partition_an_evaluation(samples: int, batch_size: int, world: int):
    ranks = []
    for rank in range(world):
        sampler = EpochBatchSampler(samples, batch_size, 0, shuffle=False, rank=rank, world_size=world)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        ranks += [index for batch in batches for index in batch]
    assert sorted(ranks) == list(range(samples))  # nobody twice, nobody left out


def test_seed_and_epoch_decide_the_order_alone():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            torch.manual_seed(len(orders))  # the global generator has no say
            sampler = EpochBatchSampler(50, 50, seed)
            sampler.set_epoch(epoch)
            again = EpochBatchSampler(50, 50, seed)
            again.set_epoch(epoch)
            orders[seed, epoch] = next(iter(sampler))
            assert orders[seed, epoch] == next(iter(again))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 0] != list(range(50))


def test_an_evaluation_keeps_the_order():
    sampler = EpochBatchSampler(7, 3, seed=1, shuffle=False)
    assert list(sampler) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_gives_exactly_the_remaining_batches(workers: int):
    undisturbed = loader()
    epochs = []
    for epoch in range(2):
        undisturbed.set_epoch(epoch)
        epochs.append(drawn(undisturbed))
    for position in (1, 4, 5) if workers == 0 else (3,):
        first = loader(workers=workers)
        first.set_epoch(0)
        assert drawn(islice(first, position)) == epochs[0][:position]
        state = first.state_dict()
        assert state == {"position": position}
        torch.manual_seed(position)
        second = loader(workers=workers)
        second.load_state_dict(state)
        assert second.state_dict() == state and len(second) == 6  # Lightning counts on a whole epoch's length
        second.set_epoch(0)
        assert drawn(second) == epochs[0][position:]
        second.set_epoch(1)
        assert drawn(second) == epochs[1]
        assert second.state_dict() == {"position": 0}


def test_a_checkpoint_at_the_end_of_an_epoch_goes_on_with_a_whole_one():
    first, second = loader(), loader()
    batches = drawn(islice(first, 6))  # the last batch is out, the end not yet noticed
    second.load_state_dict(first.state_dict())
    assert drawn(second) == batches


def test_an_epoch_after_one_that_was_left_early_is_whole():
    numbers = loader()
    drawn(islice(numbers, 2))
    assert len(drawn(numbers)) == 6


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    drawn(loader())
    assert torch.equal(torch.rand(4), expected)


def test_shares_repeat_or_leave_out_samples_anew_each_time():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_shares([4, 10, 5], [8, 5, 0], generator) for _ in range(2)]
    for drawn in draws:
        counts = torch.bincount(drawn, minlength=19)
        assert counts[:4].tolist() == [2, 2, 2, 2]  # each twice
        assert counts[4:14].sum() == 5 and counts[4:14].max() == 1 and counts[14:].sum() == 0
    assert not torch.equal(*draws)


def test_more_than_once_but_not_twice():
    drawn = draw_shares([4], [6], torch.Generator().manual_seed(1))
    assert sorted(torch.bincount(drawn, minlength=4).tolist()) == [1, 1, 2, 2]
