"""SFT: its loss is transformers' own, it learns what can be learned, and two ranks train as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import tiny, two_ranks
from support.preloaded import Preloaded

from datamodules.packing import TrainingTokens
from datamodules.prompts import SidPrompts
from dig.config.schema import EvaluationConfig, LoraConfig, PromptConfig, SFTConfig
from dig.generation.causal_paths import CausalPathModel, next_token_loss
from dig.generation.lora import add_lora
from dig.modules.sft import SFTModule


def padded_batch() -> TrainingTokens:
    """Rows of different lengths, supervised from different places on."""
    prompts = tiny.random_prompts((9, 4, 6))
    ids, mask = tiny.padded(prompts, "right")
    labels = ids.masked_fill(mask == 0, -100)
    for row, start in enumerate((1, 2, 5)):
        labels[row, :start] = -100
    return tiny.training_tokens(ids, mask, labels)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_loss_and_its_gradient_are_those_of_transformers(family: str):
    model, batch = tiny.tiny_model(family), padded_batch()
    ours = next_token_loss(CausalPathModel(model), batch)
    ours.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_packing_changes_neither_loss_nor_gradient(family: str):
    """Rows with several samples against one sample a row: gradients of every weight to 1e-5."""
    ids = tiny.ragged_catalogue()
    build = SidPrompts(tiny.token_sequences(ids), tiny.text_tokenizer(), PromptConfig("compact", 5), False)
    sequences = tiny.cyclic_sequences(30, len(ids))
    gradients, losses = [], []
    for pack in (False, True):
        model = tiny.tiny_model(family)
        arrays = tiny.next_items(sequences, build, pack)
        batch = arrays[list(range(len(arrays)))]
        assert (int(batch.attention_mask.max()) > 1) == pack
        losses.append(next_token_loss(CausalPathModel(model), batch))
        losses[-1].backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_padding_changes_nothing():
    model, batch = tiny.tiny_model("qwen2"), padded_batch()
    rows, tokens = [], []
    for row in range(3):
        real = batch.attention_mask[row].bool()
        alone = tiny.training_tokens(
            *(part[row : row + 1, real] for part in (batch.input_ids, batch.attention_mask, batch.labels))
        )
        rows.append(next_token_loss(CausalPathModel(model), alone))
        tokens.append(int((alone.labels != -100).sum()))
    joined = sum(loss * count for loss, count in zip(rows, tokens, strict=True)) / sum(tokens)
    torch.testing.assert_close(next_token_loss(CausalPathModel(model), batch), joined)


def test_label_smoothing_spreads_over_the_vocabulary():
    model, batch = tiny.tiny_model("llama"), padded_batch()
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    supervised = batch.labels[:, 1:] != -100
    log_probs = logits[supervised].log_softmax(dim=-1)
    target = F.one_hot(batch.labels[:, 1:][supervised], tiny.VOCABULARY) * 0.9 + 0.1 / tiny.VOCABULARY
    expected = -(target * log_probs).sum(dim=-1).mean()
    torch.testing.assert_close(next_token_loss(CausalPathModel(model), batch, 0.1), expected)


def test_the_loss_sees_adapters():
    model, batch = add_lora(tiny.tiny_model("qwen2"), LoraConfig(dropout=0.0)), padded_batch()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ours = next_token_loss(CausalPathModel(model), batch)
    theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_learns_a_certain_sequence():
    ids = tiny.ragged_catalogue(12)
    backbone = tiny.scratch_backbone(ids)
    tokens = backbone.vocabulary.encode(ids.codes)
    # Validation asks with three items of history, which is a context that training has seen for every item.
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(max_history=3), from_scratch=True)
    data = tiny.sequence_data(tiny.cyclic_sequences(100, 12), builder, 40, None, 100, seed=0)
    config = SFTConfig(learning_rate=1e-2, weight_decay=0.0)
    module = SFTModule(backbone, tokens, config, EvaluationConfig(ks=[1, 5], valid_beams=5))
    trainer = tiny.quiet_trainer(max_epochs=40, gradient_clip_val=1.0, check_val_every_n_epoch=40)
    before = trainer.validate(module, datamodule=data, verbose=False)[0]
    trainer.fit(module, datamodule=data)
    after = trainer.validate(module, datamodule=data, verbose=False)[0]
    assert before["valid/hr@1"] < 0.4
    assert after["valid/hr@1"] == after["valid/ndcg@5"] == 1.0
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-9)


def test_two_ranks_train_and_validate_as_one(tmp_path: Path):
    command = [sys.executable, two_ranks.__file__, "2", str(tmp_path / "two.pt")]
    other = Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    two_ranks.train(1, tmp_path / "one.pt")
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0, output
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert one["valid"] == two["valid"] and 0 < one["valid"]["valid/hr@10"] < 1
    start = tiny.scratch_backbone(tiny.ragged_catalogue()).model.state_dict()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=2e-6, rtol=1e-4, msg=name)
    moved = max(float((one["weights"][f"model.{name}"] - weight).abs().max()) for name, weight in start.items())
    assert moved > 1e-2
