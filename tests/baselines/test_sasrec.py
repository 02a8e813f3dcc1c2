"""SASRec: causal, blind to padding, and it learns a catalogue's order."""

from __future__ import annotations

import tiny
import torch

from datamodules.item_sequences import ItemSequences
from dig.baselines.sasrec import SASRec
from dig.config.schema import EvaluationConfig, SequentialConfig
from dig.modules.sequential import SequentialModule

CONFIG = SequentialConfig(hidden_size=32, max_history=8, dropout=0.1, learning_rate=5e-3, batch_size=32)


def model() -> SASRec:
    torch.manual_seed(0)
    return SASRec(24, CONFIG).eval()


def test_gives_log_probabilities_over_the_catalogue():
    with torch.no_grad():
        found = model()(torch.tensor([[-1, 3, 4], [0, 1, 2]]))
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(2))


def test_padding_changes_nothing():
    with torch.no_grad():
        short, padded = model()(torch.tensor([[3, 4]])), model()(torch.tensor([[-1, -1, -1, 3, 4]]))
    torch.testing.assert_close(short, padded, atol=1e-5, rtol=1e-5)


def test_a_state_sees_what_came_before_alone():
    sasrec = model()
    with torch.no_grad():
        first, second = (sasrec.states(torch.tensor([[1, 2, 3, last]])) for last in (4, 5))
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert (first[:, 3] - second[:, 3]).abs().max() > 1e-3


def test_a_longer_history_loses_its_old_end():
    with torch.no_grad():
        found = [model()(torch.tensor([[*old, *range(8)]])) for old in ([], [20, 21])]
    torch.testing.assert_close(*found)


def test_learns_a_certain_next_item():
    sequences = tiny.cyclic_sequences(120, 24)
    data = ItemSequences(sequences, CONFIG.max_history, CONFIG.batch_size, None, 0)
    module = SequentialModule(model(), CONFIG, EvaluationConfig(ks=[1, 5]))
    trainer = tiny.quiet_trainer(max_epochs=15)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["valid/hr@1"] > 0.9
