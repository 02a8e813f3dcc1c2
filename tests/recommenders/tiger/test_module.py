"""TigerModule: learns a catalogue's order, ranks in validation as beam search does, spares its norms from decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import tiny

from datamodules.item_sequences import HistoryTokens, ItemAnswers
from dig.config.schema import EvaluationConfig
from dig.generation import beam_search
from dig.modules.dropout import ByteDropout
from dig.modules.optimisation import scheduled_steps
from dig.quantization import SemanticIds
from dig.recommenders.tiger import TigerConfig
from dig.recommenders.tiger.model import PAD, build_t5, load_t5, sid_vocabulary
from dig.recommenders.tiger.module import TigerModule

IDS = SemanticIds.from_codes(
    [f"i{row}" for row in range(24)], torch.tensor([[row // 5, row % 5] for row in range(24)]), [5, 5]
)
TOKENS = HistoryTokens(sid_vocabulary(IDS.sizes).encode(IDS.codes), max_history=4, pad_id=PAD)
SEQUENCES = tiny.cyclic_sequences(120, 24)
# sixteen epochs: after twelve it depends on the processor's rounding whether all is learnt
CONFIG = TigerConfig(
    layers=1,
    d_model=32,
    d_ff=64,
    heads=2,
    d_kv=16,
    dropout=0.0,
    batch_size=16,
    learning_rate=5e-3,
    embedding_learning_rate=3e-2,
    warmup_steps=20,
    epochs=16,
)
EVALUATION = EvaluationConfig(ks=[1, 5], valid_beams=8)


def data() -> ItemAnswers:
    return ItemAnswers(SEQUENCES, TOKENS, CONFIG.batch_size, None, 64, 0)


def module(config: TigerConfig = CONFIG) -> TigerModule:
    torch.manual_seed(0)
    return TigerModule(build_t5(IDS.sizes, config), TOKENS.item_tokens, config, EVALUATION)


def trained(**settings: Any) -> tuple[TigerModule, Any]:
    found, trainer = module(), tiny.quiet_trainer(**settings)
    trainer.fit(found, datamodule=data())
    return found, trainer


@pytest.fixture(scope="module")
def learned() -> tuple[TigerModule, Any]:
    return trained(max_epochs=CONFIG.epochs, check_val_every_n_epoch=CONFIG.epochs)


def test_learns_a_certain_next_item(learned: tuple[TigerModule, Any]):
    assert learned[1].callback_metrics["valid/hr@1"] > 0.9


def test_validation_is_beam_search_over_the_catalogue(learned: tuple[TigerModule, Any]):
    model, held_out = learned[0].model.eval(), SEQUENCES.held_out("valid")
    prompts = TOKENS.prompts(held_out.histories)
    found = beam_search(model, prompts.input_ids, prompts.attention_mask, learned[0].trie, 8).items
    hits = (found[:, :5] == torch.from_numpy(held_out.targets).unsqueeze(1)).any(dim=1)
    assert learned[1].callback_metrics["valid/hr@5"] == pytest.approx(hits.float().mean().item())
    assert learned[0].validated_at == learned[1].global_step


def test_the_rate_rises_then_falls_to_nothing(learned: tuple[TigerModule, Any]):
    trainer = learned[1]
    assert scheduled_steps(trainer) == trainer.global_step  # the cosine ends with the training
    schedule = trainer.lr_scheduler_configs[0]
    assert schedule.interval == "step"
    rates = [schedule.scheduler.lr_lambdas[0](step) for step in (0, 10, 20, trainer.global_step)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.0])


def test_norms_do_not_decay(learned: tuple[TigerModule, Any]):
    table, matrices, vectors = learned[1].optimizers[0].param_groups
    norms = {id(weight) for name, weight in learned[0].named_parameters() if "layer_norm" in name}
    assert {id(weight) for weight in vectors["params"]} == norms and vectors["weight_decay"] == 0.0
    assert matrices["weight_decay"] == table["weight_decay"] == CONFIG.weight_decay
    assert len(matrices["params"]) + len(norms) + 1 == len(list(learned[0].parameters()))


def test_the_token_table_has_a_rate_of_its_own(learned: tuple[TigerModule, Any]):
    table, matrices, vectors = learned[1].optimizers[0].param_groups
    assert [weight.shape for weight in table["params"]] == [(12, CONFIG.d_model)]  # tied: input and output are one
    assert table["initial_lr"] == CONFIG.embedding_learning_rate
    assert matrices["initial_lr"] == vectors["initial_lr"] == CONFIG.learning_rate


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        weights.append(trained(max_steps=5)[0].state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_dropout_is_drawn_while_training_alone():
    found = module(TigerConfig(layers=1, d_model=32, d_ff=64, heads=2, d_kv=16, dropout=0.5))
    layers = [child for child in found.modules() if isinstance(child, ByteDropout)]
    assert layers and not any(isinstance(child, torch.nn.Dropout) for child in found.modules())
    batch = next(iter(data().train_dataloader()))
    found.log = lambda *_, **__: None  # no trainer
    one, other = (found.training_step(batch) for _ in range(2))
    assert one != other
    found.eval()
    assert found.training_step(batch) == found.training_step(batch)


def test_the_saved_model_is_plain_transformers(tmp_path: Any, learned: tuple[TigerModule, Any]):
    model = learned[0].model.eval()
    model.save_pretrained(tmp_path)
    again = load_t5(tmp_path)
    prompts = TOKENS.prompts(SEQUENCES.held_out("valid").histories[:9])
    found = [beam_search(one, prompts.input_ids, prompts.attention_mask, learned[0].trie, 24) for one in (model, again)]
    assert torch.equal(found[0].items, found[1].items)
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, atol=0.0, rtol=0.0)
    assert any(isinstance(child, torch.nn.Dropout) for child in again.modules())
