"""The item loader: whole batches, each item once an epoch, an order that is a function of seed and epoch."""

import torch

from datamodules.items import ItemDataModule


def batches(data: ItemDataModule, epoch: int) -> list[torch.Tensor]:
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return list(loader)


def items(count: int = 23) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 4)


def test_each_item_once_an_epoch_with_its_own_vector():
    found = batches(ItemDataModule(items(), batch_size=5, seed=1), epoch=0)
    assert [tuple(batch.shape) for batch in found] == [(5, 4)] * 4 + [(3, 4)]
    rows = torch.cat(found)
    assert torch.equal(rows[rows[:, 0].argsort()], items())
    assert not torch.equal(rows, items())


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int, noise: int) -> list[float]:
        torch.manual_seed(noise)
        return torch.cat(batches(ItemDataModule(items(), 5, seed), epoch))[:, 0].tolist()

    assert order(1, 3, noise=0) == order(1, 3, noise=1)
    assert order(1, 3, noise=0) != order(1, 4, noise=0)
    assert order(1, 3, noise=0) != order(2, 3, noise=0)


def test_a_batch_is_indexed_at_once():
    dataset = ItemDataModule(items(), 5, 1).train_dataloader().dataset
    assert len(dataset) == 23
    assert torch.equal(dataset[[4, 2, 2]], items()[[4, 2, 2]])


def test_the_rest_of_an_interrupted_epoch():
    data = ItemDataModule(items(), batch_size=5, seed=1)
    whole = batches(data, epoch=2)
    loader, resumed = data.train_dataloader(), data.train_dataloader()
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    resumed.set_epoch(2)
    resumed.load_state_dict(loader.state_dict())
    rest = list(resumed)
    assert len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))
