"""EIMF's behaviour side: best of K, K = 1, padding and short histories, training, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import tiny

from datamodules.item_sequences import ItemSequences
from dig.config import UserError, load_config
from dig.config.schema import EvaluationConfig
from dig.evaluation import evaluate
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.explicit import best_interests
from dig.recommenders.eimf.extraction import squash
from dig.recommenders.eimf.model import EIMF
from dig.recommenders.eimf.module import EIMFModule

CONFIG = EIMFConfig(
    hidden_size=32,
    attention_size=16,
    interests=3,
    layers=1,
    scale=10.0,
    max_history=8,
    dropout=0.1,
    learning_rate=5e-3,
    batch_size=32,
    semantic_weight=0.0,
    alignment_weight=0.0,
)
ROUTING = replace(CONFIG, extraction="dynamic_routing")
BARE = replace(CONFIG, layers=0, scale=None, residual=False)
EVERY = [CONFIG, ROUTING, BARE, replace(ROUTING, residual=False)]


def model(config: EIMFConfig = CONFIG, noise: float = 0.3) -> EIMF:
    torch.manual_seed(0)
    found = EIMF(24, config).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += noise * torch.randn_like(parameter)
    return found


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("padded", [[-1, -1, -1, 3, 4], [3, 4, -1, -1, -1]])
def test_padding_changes_nothing_wherever_it_is(config: EIMFConfig, padded: list[int]):
    eimf = model(config)
    with torch.no_grad():
        short, other = (
            eimf.next_logits(torch.tensor([[3, 4]])),
            eimf.next_logits(torch.tensor([padded, [0, 1, 2, 5, 6]])),
        )
        every, alone = eimf.interests(torch.tensor([padded, [0, 1, 2, 5, 6]])), eimf.interests(torch.tensor([[3, 4]]))
    torch.testing.assert_close(short, other[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(every[:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", EVERY)
def test_after_every_item_it_has_the_interests_of_a_history_that_ends_there(config: EIMFConfig):
    """Histories of lengths that are read in three groups, one shorter than the number of interests."""
    eimf, generator = model(config), np.random.default_rng(0)
    rows = torch.full((5, 8), -1)
    for row, length in enumerate((8, 2, 5, 0, 3)):
        rows[row, :length] = torch.from_numpy(generator.integers(0, 24, length))
    with torch.no_grad():
        found = eimf.interests(rows)
        expected = [
            eimf.latest_interests(row[None, : place + 1])[0] for row in rows for place in range(8) if row[place] >= 0
        ]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    if config is CONFIG:  # routing may leave an interest no vote
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:2]))


@pytest.mark.parametrize("config", EVERY)
def test_the_best_of_the_interests_ranks_as_brute_force(config: EIMFConfig):
    eimf = model(config)
    histories = [np.array(row) for row in ([1, 2, 3, 9, 20], [5], [7, 7], list(range(12)))]
    items, scores = eimf.rank(histories, 24)
    unseen, _ = eimf.rank_unseen(histories, 24)
    table = eimf.encoder.items.weight.detach()
    for row, history in enumerate(histories):
        with torch.no_grad():
            interests = eimf.latest_interests(torch.from_numpy(history[-8:])[None])[0]
        brute = []
        for item in range(24):
            fits = [
                float(F.cosine_similarity(each, table[item], dim=0) * config.scale)
                if config.scale
                else float(each @ table[item])
                for each in interests
            ]
            brute.append(max(fits))
        order = sorted(range(24), key=lambda item: -brute[item])
        assert items[row].tolist() == order
        torch.testing.assert_close(scores[row], torch.tensor(brute)[order], atol=1e-4, rtol=1e-4)
        assert [item for item in unseen[row].tolist() if item >= 0] == [i for i in order if i not in history]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("extraction", ["self_attentive", "dynamic_routing"])
def test_one_interest_is_the_single_interest_model(extraction: str, residual: bool):
    """Written without any maximum or choice: one pooled vector a place, plain cross-entropy over all items."""
    config = replace(CONFIG, extraction=extraction, interests=1, residual=residual)
    eimf = model(config)
    rows = torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1]])
    targets = torch.tensor([2, 3, 4, 7, 6, 9])
    vectors = []
    for row in rows:
        known = row[row >= 0]
        states = eimf.encoder.encode(known[None])
        for end in range(1, len(known) + 1):
            seen = states[:end]
            if extraction == "self_attentive":
                scores = torch.tanh(seen @ eimf.extraction.inner.weight.T) @ eimf.extraction.outer.weight[0]
                weights = (scores + eimf.extraction.recency[0, :end].flip(0)).softmax(dim=0)
                vectors.append(weights @ seen)
            else:  # the only interest takes every vote whole, whatever the rounds
                vectors.append(squash((seen @ eimf.extraction.votes.weight.T).sum(dim=0)))
            if residual:
                vectors[-1] = vectors[-1] + seen[-1]
    single = F.normalize(torch.stack(vectors), dim=-1)
    logits = single @ eimf.output_table().T
    torch.testing.assert_close(eimf.next_logits(rows), logits[[3, 5]], atol=1e-4, rtol=1e-4)
    chosen, others = best_interests(eimf.interests(rows), eimf.output_table(), targets)
    assert others.shape == (6, 0, 32)
    found = F.cross_entropy(chosen @ eimf.output_table().T, targets)
    torch.testing.assert_close(found, F.cross_entropy(logits, targets), atol=1e-5, rtol=1e-5)


def test_the_interest_that_fits_is_chosen_and_it_alone_learns():
    interests = torch.tensor(
        [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [-1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]], requires_grad=True
    )
    table = torch.tensor([[1.0, 0.2], [-2.0, 0.1], [0.0, 1.0]], requires_grad=True)
    found, others = best_interests(interests, table, torch.tensor([2, 1, 0]))
    assert torch.equal(others, torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]], [[1.0, 0.0]]]))
    assert torch.equal(found, torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]))  # of equals the first
    found.sum().backward()
    assert interests.grad.abs().sum(dim=-1).tolist() == [[0, 2], [0, 2], [2, 0]] and table.grad is None


@pytest.mark.parametrize("config", EVERY)
def test_no_history_knows_nothing(config: EIMFConfig):
    with torch.no_grad():
        found = model(config).next_logits(torch.tensor([[-1, -1], [3, -1]]))
    assert (found[0] == 0).all() and found[1].abs().max() > 0


@pytest.mark.parametrize("config", [CONFIG, ROUTING])
def test_saved_and_loaded_it_scores_the_same(tmp_path: Path, config: EIMFConfig):
    histories = [np.array([1, 2, 3]), np.array([9])]
    model(config).save(tmp_path)
    assert torch.equal(EIMF.load(tmp_path).scores(histories), model(config).scores(histories))


@pytest.mark.parametrize(
    ("config", "metric"),
    [
        (CONFIG, "hr@1"),
        (replace(ROUTING, learning_rate=1e-2), "hr@5"),
        (replace(CONFIG, layers=0), "hr@5"),
        (replace(CONFIG, readout="hard"), "hr@5"),
    ],  # items alone are like themselves, so their successor is but near
)
def test_learns_a_certain_next_item(config: EIMFConfig, metric: str):
    sequences = tiny.cyclic_sequences(120, 24)
    data = ItemSequences(sequences, config.max_history, config.batch_size, None, 0)
    module = EIMFModule(model(config, noise=0.0).train(), config, EvaluationConfig(ks=[1, 5]))
    trainer = tiny.quiet_trainer(max_epochs=60, check_val_every_n_epoch=60)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics[f"valid/{metric}"] > 0.9
    examples = sequences.held_out("valid")
    found = evaluate(module.model.eval(), examples.histories, examples.targets, [1, 5])
    assert found.metrics["ndcg@5"] == pytest.approx(float(trainer.callback_metrics["valid/ndcg@5"]))


def test_the_hard_loss_is_the_mean_over_targets_of_the_best_interest():
    module = EIMFModule(model(), replace(CONFIG, readout="hard"), EvaluationConfig(ks=[1]))
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = ItemSequences(tiny.cyclic_sequences(9, 24), 8, 9, None, 0).training[list(range(9))]
    table, expected = module.model.output_table(), []
    for row, wanted in zip(batch.histories, batch.targets, strict=True):
        for place, target in enumerate(wanted):
            if target >= 0:
                interests = module.model.latest_interests(row[None, : place + 1])[0]
                best = max(interests, key=lambda each: (each @ table[target]).item())
                expected.append(F.cross_entropy(best @ table.T, target))
    torch.testing.assert_close(module.training_step(batch), torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("eimf.interests=51", "eimf.interests=51 is more than the longest history, eimf.max_history=50"),
        ("eimf.interests=0", "eimf.interests must be above 0, it is 0"),
        ("eimf.semantic_weight=-0.1", "eimf.semantic_weight must not be negative, it is -0.1"),
        ("eimf.alignment_weight=-1", "eimf.alignment_weight must not be negative, it is -1.0"),
        (
            "eimf.extraction=self_atentive",
            "eimf.extraction='self_atentive' is not one of self_attentive, dynamic_routing; "
            "did you mean 'self_attentive'?",
        ),
        ("eimf.readout=soft", "eimf.readout='soft' is not one of hard, shared"),
        ("eimf.extraction=routing", "did you mean 'dynamic_routing'?"),
        ("eimf.warmup_epochs=26", "eimf.warmup_epochs=26 leaves none of eimf.epochs=26 for the explicit interests"),
        ("eimf.hidden_size=33", "eimf.hidden_size=33 cannot be cut into eimf.heads=2"),
        ("eimf.clusters=0", "eimf.clusters must be above 0, it is 0"),
        ("eimf.layers=-1", "eimf.layers must not be negative, it is -1"),
        ("eimf.intrests=2", "did you mean"),
    ],
)
def test_bad_settings_get_one_line(override: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
