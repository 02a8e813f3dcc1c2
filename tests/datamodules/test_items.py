"""The item loader: whole batches, each item once an epoch, an order that is a function of seed and epoch."""

import numpy as np
import torch

from datamodules.items import ItemBatch, ItemDataModule, Partners
from dig.quantization import ItemFeatures


def batches(data: ItemDataModule, epoch: int) -> list[torch.Tensor]:
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return [batch.features.text for batch in loader]


def items(count: int = 23) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 4)


def catalogue() -> ItemFeatures:
    return ItemFeatures(items())


def test_each_item_once_an_epoch_with_its_own_vector():
    found = batches(ItemDataModule(catalogue(), batch_size=5, seed=1), epoch=0)
    assert [tuple(batch.shape) for batch in found] == [(5, 4)] * 4 + [(3, 4)]
    rows = torch.cat(found)
    assert torch.equal(rows[rows[:, 0].argsort()], items())
    assert not torch.equal(rows, items())


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int, noise: int) -> list[float]:
        torch.manual_seed(noise)
        return torch.cat(batches(ItemDataModule(catalogue(), 5, seed), epoch))[:, 0].tolist()

    assert order(1, 3, noise=0) == order(1, 3, noise=1)
    assert order(1, 3, noise=0) != order(1, 4, noise=0)
    assert order(1, 3, noise=0) != order(2, 3, noise=0)


def test_a_batch_is_indexed_at_once():
    dataset = ItemDataModule(catalogue(), 5, 1).train_dataloader().dataset
    assert len(dataset) == 23
    batch = dataset[[4, 2, 2]]
    assert torch.equal(batch.features.text, items()[[4, 2, 2]])
    assert batch.partners is None and batch.has_partner is None


def test_the_rest_of_an_interrupted_epoch():
    data = ItemDataModule(catalogue(), batch_size=5, seed=1)
    whole = batches(data, epoch=2)
    loader, resumed = data.train_dataloader(), data.train_dataloader()
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    resumed.set_epoch(2)
    resumed.load_state_dict(loader.state_dict())
    rest = [batch.features.text for batch in resumed]
    assert len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))


LEFT, RIGHT = np.array([0, 0, 1]), np.array([1, 2, 3])


def test_partners_are_co_purchased_and_follow_seed_epoch_and_item():
    partners = Partners(LEFT, RIGHT, items=6, seed=3)
    rows = np.arange(6)
    assert partners.draw(rows, 0)[2:].tolist() == [0, 1, -1, -1]
    drawn = np.stack([partners.draw(rows, epoch) for epoch in range(400)])
    assert set(drawn[:, 0]) == {1, 2} and set(drawn[:, 1]) == {0, 3}
    assert 120 < (drawn[:, 0] == 1).sum() < 280
    assert np.array_equal(partners.draw(rows[::-1], 7), partners.draw(rows, 7)[::-1])
    assert not np.array_equal(drawn, np.stack([Partners(LEFT, RIGHT, 6, 4).draw(rows, e) for e in range(400)]))


def test_nobody_buys_two_things():
    none = np.array([], dtype=np.int64)
    assert Partners(none, none, 3, 0).draw(np.arange(3), 0).tolist() == [-1, -1, -1]


def test_a_batch_brings_its_partners():
    partners = Partners(LEFT, RIGHT, 23, 1)
    data = ItemDataModule(catalogue(), 5, 1, partners=partners)
    loader = data.train_dataloader()
    loader.set_epoch(4)
    batches: list[ItemBatch] = list(loader)
    for batch in batches:
        rows = batch.features.text[:, 0].long().numpy()
        drawn = partners.draw(rows, 4)
        assert batch.has_partner.tolist() == (drawn >= 0).tolist()
        assert batch.partners.text[:, 0].long().numpy()[drawn >= 0].tolist() == drawn[drawn >= 0].tolist()
    assert sum(int(batch.has_partner.sum()) for batch in batches) == 4
