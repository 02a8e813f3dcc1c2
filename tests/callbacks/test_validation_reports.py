"""A metric is told after each validation of training, counted over interruptions, and training stops when asked."""

from __future__ import annotations

import lightning
import pytest
import torch
from support.tiny import quiet_trainer
from torch.utils.data import DataLoader, TensorDataset

from callbacks.monitoring import StoppedEarly, ValidationReports
from dig.config import UserError


class Falling(lightning.LightningModule):
    """Validates to 1, 2, 3 …"""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.values = values

    def training_step(self, batch):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch):
        self.log("valid/x", self.values[self.current_epoch], on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)


def train(module: Falling, callback: ValidationReports, epochs: int, **named) -> lightning.Trainer:
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[callback])
    trainer.validate(module, loader(), verbose=False)  # does not count
    trainer.fit(module, loader(), loader(), **named)
    return trainer


def test_each_validation_of_training_is_told_once():
    told = []
    train(Falling([1.0, 2.0, 3.0]), ValidationReports("valid/x", lambda *each: told.append(each) or False), 3)
    assert told == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_counting_goes_on_after_an_interruption(tmp_path):
    told = []
    report = ValidationReports("valid/x", lambda *each: told.append(each) or False)
    trainer = train(Falling([1.0, 2.0, 3.0, 4.0]), report, 2)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    later = ValidationReports("valid/x", lambda *each: told.append(each) or False)
    train(Falling([1.0, 2.0, 3.0, 4.0]), later, 4, ckpt_path=tmp_path / "c.ckpt", weights_only=True)
    assert told == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_training_stops_where_it_is_asked_to():
    told = []
    report = ValidationReports("valid/x", lambda count, value: told.append(count) or count == 2)
    with pytest.raises(StoppedEarly, match=r"valid/x 2\.0000 at validation 2"):
        train(Falling([1.0, 2.0, 3.0]), report, 3)
    assert told == [1, 2]


def test_what_is_no_number_is_an_error():
    with pytest.raises(UserError, match="valid/x is nan at validation 2"):
        train(Falling([1.0, float("nan")]), ValidationReports("valid/x", lambda *each: False), 2)
