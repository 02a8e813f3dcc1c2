"""SASRec: causal, blind to padding, and it learns a catalogue's order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import tiny

from datamodules.item_sequences import ItemSequences
from dig.config import UserError
from dig.config.schema import EvaluationConfig
from dig.evaluation import evaluate
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec
from dig.recommenders.sasrec.module import SASRecModule

CONFIG = SASRecConfig(hidden_size=32, scale=10.0, max_history=8, dropout=0.1, learning_rate=5e-3, batch_size=32)
INNER = replace(CONFIG, scale=None)


def model(noise: float = 0.3, config: SASRecConfig = CONFIG) -> SASRec:
    torch.manual_seed(0)
    found = SASRec(24, config).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += noise * torch.randn_like(parameter)
    return found


def test_gives_log_probabilities_over_the_catalogue():
    with torch.no_grad():
        found = model()(torch.tensor([[-1, 3, 4], [0, 1, 2]]))
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("padded", [[-1, -1, -1, 3, 4], [3, 4, -1, -1, -1]])
def test_padding_changes_nothing_wherever_it_is(padded: list[int]):
    with torch.no_grad():
        short, other = model()(torch.tensor([[3, 4]])), model()(torch.tensor([padded, [0, 1, 2, 5, 6]]))[:1]
    torch.testing.assert_close(short, other, atol=1e-5, rtol=1e-5)


def test_a_state_sees_what_came_before_alone():
    sasrec = model()
    with torch.no_grad():
        first, second = (sasrec.states(torch.tensor([[1, 2, 3, last]])) for last in (4, 5))
    torch.testing.assert_close(first[:3], second[:3])
    assert (first[3] - second[3]).abs().max() > 1e-3


def test_states_are_those_of_a_plain_transformer():
    """The same layers written with a padded batch and an explicit mask."""
    sasrec, rows = model(config=INNER), torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1], [7, 8, 9, -1]])
    there = rows >= 0
    x = sasrec.items(rows.clamp(min=0)) + sasrec.positions(torch.arange(4))
    for layer in sasrec.layers:
        q, k, v = layer.queries_keys_values(layer.attention_norm(x)).chunk(3, dim=-1)
        parts = []
        for q1, k1, v1 in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True):
            scores = (q1 @ k1.transpose(1, 2) / 16**0.5).masked_fill(~torch.ones(4, 4).tril().bool(), float("-inf"))
            parts.append(scores.softmax(dim=-1) @ v1)
        x = x + layer.output(torch.cat(parts, dim=-1))
        x = x + layer.outer(F.gelu(layer.inner(layer.feed_norm(x))))
    torch.testing.assert_close(sasrec.states(rows), sasrec.norm(x)[there], atol=1e-5, rtol=1e-4)


def test_scores_are_scaled_cosines_unless_the_scale_is_unset():
    scaled, inner, history = model(), model(config=INNER), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        state = inner.states(history)[-1]
        cosines = F.cosine_similarity(state, inner.items.weight, dim=-1)
        torch.testing.assert_close(scaled.next_logits(history)[0], CONFIG.scale * cosines, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(inner.next_logits(history)[0], inner.items.weight @ state, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scaled.output_table().norm(dim=-1), torch.full((24,), CONFIG.scale))


def test_a_longer_history_loses_its_old_end():
    sasrec, latest = model(), list(range(8))
    with torch.no_grad():
        found = [sasrec(torch.tensor([[*old, *latest]])) for old in ([], [20, 21])]
    torch.testing.assert_close(*found)
    scores = sasrec.scores([np.array([20, 21, *latest]), np.array([3])])
    torch.testing.assert_close(scores[0].log_softmax(dim=0), found[0][0].detach())


def test_no_history_knows_nothing():
    torch.testing.assert_close(model()(torch.full((2, 3), -1)), torch.full((2, 24), 1 / 24).log())


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path):
    histories = [np.array([1, 2, 3]), np.array([9])]
    model().save(tmp_path)
    assert torch.equal(SASRec.load(tmp_path).scores(histories), model().scores(histories))


def test_one_saved_before_there_were_scales_scores_by_inner_products(tmp_path: Path):
    model(config=INNER).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["scale"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    histories = [np.array([1, 2, 3])]
    assert torch.equal(SASRec.load(tmp_path).scores(histories), model(config=INNER).scores(histories))


@pytest.mark.parametrize("config", [CONFIG, INNER])
def test_learns_a_certain_next_item(config: SASRecConfig):
    sequences = tiny.cyclic_sequences(120, 24)
    data = ItemSequences(sequences, config.max_history, config.batch_size, None, 0)
    module = SASRecModule(model(noise=0.0, config=config).train(), config, EvaluationConfig(ks=[1, 5]))
    trainer = tiny.quiet_trainer(max_epochs=25)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["valid/hr@1"] > 0.9
    examples = sequences.held_out("valid")
    found = evaluate(module.model.eval(), examples.histories, examples.targets, [1, 5])
    assert found.metrics["ndcg@5"] == pytest.approx(float(trainer.callback_metrics["valid/ndcg@5"]))


def test_the_loss_is_the_mean_over_targets():
    module = SASRecModule(model(), CONFIG, EvaluationConfig(ks=[1]))
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = ItemSequences(tiny.cyclic_sequences(9, 24), 8, 9, None, 0).training[list(range(9))]
    expected = [
        F.cross_entropy(module.model.next_logits(row[None, : place + 1])[0], target)
        for row, wanted in zip(batch.histories, batch.targets, strict=True)
        for place, target in enumerate(wanted)
        if target >= 0
    ]
    torch.testing.assert_close(module.training_step(batch), torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"sasrec\.hidden_size=10 cannot be cut into sasrec\.heads=4"):
        SASRecConfig(hidden_size=10, heads=4)
    with pytest.raises(UserError, match=r"sasrec\.scale must be above 0, it is 0"):
        SASRecConfig(scale=0.0)
