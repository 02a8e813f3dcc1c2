"""What both policies share: optimiser, schedule, validation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import tiny

from datamodules.prompts import SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from datamodules.sequences import PolicyDataModule
from dig.config.schema import EvaluationConfig, GRPOConfig, LoraConfig, PromptConfig, SFTConfig
from dig.evaluation import evaluate
from dig.generation import beam_search
from dig.generation.lora import add_lora
from dig.modules.grpo import GRPOModule
from dig.modules.policy import PolicyModule
from dig.modules.sft import SFTModule
from dig.quantization import SemanticIds
from dig.recommender import PolicyRanker
from dig.rollouts import RewardContext
from dig.rollouts.loop import install_group_rollouts

IDS = tiny.ragged_catalogue()
SEQUENCES = tiny.cyclic_sequences(40, 24)
EVALUATION = EvaluationConfig(ks=[1, 5], valid_beams=7)


def made(config: SFTConfig | GRPOConfig, lora: bool = False) -> tuple[PolicyModule, PolicyDataModule]:
    backbone = tiny.scratch_backbone(IDS)
    tokens = backbone.vocabulary.encode(IDS.codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=True)
    if lora:
        backbone.model = add_lora(backbone.model, LoraConfig(rank=2, dropout=0.0))
    if isinstance(config, SFTConfig):
        module: PolicyModule = SFTModule(backbone, tokens, config, EVALUATION)
        return module, tiny.sequence_data(SEQUENCES, builder, 8, 10, 4, seed=0)
    context = RewardContext(IDS.codes[:, : IDS.levels], torch.ones(len(IDS)))
    module = GRPOModule(backbone, tokens, context, config, EVALUATION)
    prompts = TrainingPrompts(SEQUENCES, builder, per_user=1)
    return module, PromptDataModule(prompts, SEQUENCES, builder, config.prompts_per_step, 10, 4, seed=0)


def rates(module: PolicyModule, data: PolicyDataModule, **settings: Any) -> list[float]:
    """The learning rate of every optimiser step, and the one after the last."""
    found: list[float] = []
    step = module.optimizer_step

    def noted(*args: Any, **kwargs: Any) -> None:
        found.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        step(*args, **kwargs)

    module.optimizer_step = noted  # type: ignore[method-assign]
    trainer = tiny.quiet_trainer(limit_val_batches=0, **settings)
    if isinstance(module, GRPOModule):
        install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == len(found)
    return [*found, module.trainer.optimizers[0].param_groups[0]["lr"]]


def test_vectors_have_no_weight_decay_and_frozen_weights_no_optimiser():
    for lora in (False, True):
        module, data = made(SFTConfig(weight_decay=0.3), lora)
        rates(module, data, max_steps=1)
        optimizer = module.trainer.optimizers[0]
        assert isinstance(optimizer, torch.optim.AdamW)
        matrices, vectors = optimizer.param_groups
        assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
        assert all(p.ndim >= 2 for p in matrices["params"]) and all(p.ndim < 2 for p in vectors["params"])
        optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert optimised == {id(p) for p in module.parameters() if p.requires_grad}
        assert len(optimised) < len(list(module.parameters())) if lora else bool(vectors["params"])


@pytest.mark.parametrize(("accumulate", "max_steps"), [(1, -1), (2, -1), (1, 7), (3, 3)])
def test_the_schedule_of_sft_warms_up_and_ends_at_zero(accumulate: int, max_steps: int):
    module, data = made(SFTConfig(learning_rate=0.01, warmup_ratio=0.25))
    found = rates(module, data, max_epochs=3, max_steps=max_steps, accumulate_grad_batches=accumulate)
    batches = len(data.train_dataloader())
    assert batches % 2 and batches % 3  # so that the last sum of an epoch is a short one
    assert len(found) - 1 == (max_steps if max_steps > 0 else 3 * -(-batches // accumulate))
    peak = found.index(max(found))
    assert found[0] < 0.01 and found[peak] == pytest.approx(0.01)
    assert found[: peak + 1] == sorted(found[: peak + 1]) and found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] == pytest.approx(0.0, abs=1e-9) and found[-2] > 1e-5


@pytest.mark.parametrize("settings", [{}, {"max_steps": 5}, {"accumulate_grad_batches": 2}])
def test_the_schedule_of_grpo_ends_at_zero(settings: dict):
    parts = 1 if "accumulate_grad_batches" in settings else 2
    config = GRPOConfig(group_size=4, prompts_per_step=8, minibatches=parts, learning_rate=0.01, warmup_ratio=0.0)
    module, data = made(config)
    assert len(data.train_dataloader()) == 5
    found = rates(module, data, max_epochs=2, **settings)
    assert len(found) - 1 == {0: 20, 5: 5}.get(settings.get("max_steps", 0)) if parts == 2 else len(found) - 1 == 6
    if parts == 2:  # once a batch of prompts, not once a step
        assert found[0] == found[1] == pytest.approx(0.01) and found[2] == found[3] < 0.01
    assert found[-1] == pytest.approx(0.0, abs=1e-9) and found[-2] > 1e-5
    assert found == sorted(found, reverse=True)


def test_validation_is_the_harness_on_the_same_users():
    module, data = made(SFTConfig())
    trainer = tiny.quiet_trainer()
    assert module.validated_at is None
    found = trainer.validate(module, datamodule=data, verbose=False)[0]
    assert module.validated_at == 0
    examples = SEQUENCES.held_out("valid")
    examples = examples.take(examples.sample(10, seed=0))
    ranker = PolicyRanker(
        module.backbone,
        SemanticIds(IDS.item_ids, IDS.codes, IDS.sizes, IDS.levels),
        PromptConfig(),
        num_beams=7,
        device="cpu",
    )
    harness = evaluate(ranker, examples.histories, examples.targets, [1, 5], 7, 3)
    assert found == pytest.approx({name: harness.metrics[name.removeprefix("valid/")] for name in found})
    prompts = data.builder.prompts(examples.histories)
    beams = beam_search(module.model.eval(), prompts.input_ids, prompts.attention_mask, module.trie, 7)
    assert torch.equal(beams.items, harness.ranked)


def test_no_fewer_beams_than_the_largest_cut_off():
    backbone = tiny.scratch_backbone(IDS)
    tokens = backbone.vocabulary.encode(IDS.codes)
    evaluation = EvaluationConfig(ks=[5, 10], num_beams=10, valid_beams=3)
    assert SFTModule(backbone, tokens, SFTConfig(), evaluation).valid_beams == 10
