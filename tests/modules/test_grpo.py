"""GRPO: its reference, its first step, its rewards, and that it learns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from support import preloaded, tiny

from callbacks.resume import AtomicCheckpointIO, ResumeCheckpoint, StepSeed
from datamodules.prompts import SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from dig.config import UserError
from dig.config.schema import BackboneConfig, EvaluationConfig, GRPOConfig, LoraConfig, PromptConfig, RewardConfig
from dig.generation import score
from dig.generation.backbone import Backbone, build_backbone
from dig.generation.lora import add_lora
from dig.modules.grpo import GRPOModule
from dig.rollouts import RewardContext, Rollouts, group_advantages, interest_aware_reward, policy_objective
from dig.rollouts.loop import install_group_rollouts

IDS = tiny.ragged_catalogue(12)
QUALITY = torch.linspace(0.0, 1.0, 12)
SEQUENCES = tiny.cyclic_sequences(40, 12)


def reward_context() -> RewardContext:
    return RewardContext(IDS.codes[:, : IDS.levels], QUALITY.clone())


def made(
    config: GRPOConfig, lora: bool = False, backbone: Backbone | None = None, **keys: Any
) -> tuple[GRPOModule, PromptDataModule]:
    backbone = backbone or tiny.scratch_backbone(IDS, **keys)
    if lora:
        backbone.model = add_lora(backbone.model, LoraConfig(rank=4, alpha=8, dropout=0.3))
    tokens = backbone.vocabulary.encode(IDS.codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(), from_scratch=True)
    prompts = TrainingPrompts(SEQUENCES, builder, per_user=1)
    data = PromptDataModule(prompts, SEQUENCES, builder, config.prompts_per_step * config.dynamic_sampling, None, 40, 0)
    module = GRPOModule(backbone, tokens, reward_context(), config, EvaluationConfig(ks=[1, 5]))
    return module, data


def fit(module: GRPOModule, data: PromptDataModule, **settings: Any) -> list[dict[str, float]]:
    """What was logged at every optimiser step."""
    lines: list[dict[str, float]] = []
    step = module.training_step

    def noted(batch: Any) -> torch.Tensor:
        logged: dict[str, float] = {}
        log_dict = module.log_dict
        module.log_dict = lambda values, **_: logged.update({k: float(v) for k, v in values.items()})  # type: ignore[method-assign]
        loss = step(batch)
        module.log_dict = log_dict  # type: ignore[method-assign]
        lines.append(logged)
        return loss

    module.training_step = noted  # type: ignore[method-assign]
    trainer = tiny.quiet_trainer(limit_val_batches=0, **settings)
    install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)
    return lines


def first_batch(data: PromptDataModule) -> Rollouts:
    return next(iter(data.train_dataloader()))


def shake(module: GRPOModule) -> None:
    """Moves all trained weights away from where they started."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)


@pytest.mark.parametrize("lora", [False, True])
def test_the_reference_stays_the_policy_before_training(lora: bool):
    module, data = made(GRPOConfig(group_size=5, prompts_per_step=8), lora)
    batch, base = first_batch(data), tiny.scratch_backbone(IDS).model
    shake(module)
    with torch.no_grad():
        rollouts = module.rollout(batch)
        expected = score(base, batch.input_ids, batch.attention_mask, module.trie, rollouts.items)
        own = score(module.model, batch.input_ids, batch.attention_mask, module.trie, rollouts.items)
    torch.testing.assert_close(rollouts.reference_log_probs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rollouts.old_log_probs, own, atol=1e-5, rtol=1e-5)
    assert (own - expected).abs().max() > 0.05


def test_nothing_but_the_policy_is_trained_and_saved():
    module, _ = made(GRPOConfig(reference="ema"))
    assert {name.split(".")[0] for name in module.state_dict()} == {"model"}
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"model"}


@pytest.mark.parametrize("lora", [False, True])
def test_the_ratio_is_one_and_the_divergence_zero_at_the_first_step(lora: bool):
    config = GRPOConfig(group_size=4, prompts_per_step=20, learning_rate=1e-2, warmup_ratio=0.0)
    module, data = made(config, lora, attention_dropout=0.3)
    lines = fit(module, data, max_epochs=2)
    assert len(lines) == 4
    assert lines[0]["train/ratio"] == pytest.approx(1.0, abs=1e-6)
    assert lines[0]["train/kl"] == pytest.approx(0.0, abs=1e-6)
    assert all(line["train/ratio"] == pytest.approx(1.0, abs=1e-5) for line in lines)  # one update per rollout
    assert all(line["train/kl"] > 1e-5 for line in lines[2:])  # but the policy has left the reference
    assert all(line["train/clip_ratio"] == 0.0 for line in lines)


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "bloom", "opt"])
def test_dropout_is_off_while_training(family: str):
    keys: dict[str, Any] = {"model_type": family}
    keys |= {
        "qwen2": {"attention_dropout": 0.5},
        "gpt2": {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5},
        "bloom": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
        "opt": {"dropout": 0.5, "attention_dropout": 0.5, "ffn_dim": 64, "word_embed_proj_dim": 32},
    }[family]
    if family in ("gpt2", "bloom"):
        keys |= {"hidden_size": 32}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    backbone = build_backbone(BackboneConfig(config={**shape, **keys}), IDS.sizes, max_tokens=64)
    tokens = torch.randint(4, 16, (2, 12), generator=torch.Generator().manual_seed(0))
    backbone.model.train()
    with torch.no_grad():
        assert not torch.equal(backbone.model(tokens).logits, backbone.model(tokens).logits)  # there is dropout
        module, _ = made(GRPOConfig(), backbone=backbone)
        module.train()
        assert torch.equal(module.model(tokens).logits, module.model(tokens).logits)


def test_a_rollout_is_judged_by_its_own_target():
    weights = RewardConfig(hit=1.0, valid=0.1, prefix=0.5, interest=0.5)
    module, data = made(GRPOConfig(group_size=6, prompts_per_step=8, reward=weights))
    batch = first_batch(data)
    with torch.no_grad():
        rollouts = module.rollout(batch)
    assert torch.equal(rollouts.input_ids, batch.input_ids)
    assert torch.equal(rollouts.attention_mask, batch.attention_mask)
    assert rollouts.items.shape == rollouts.advantages.shape == (8, 6)
    rewards = interest_aware_reward(rollouts.items, batch.targets, IDS.codes[:, :3], QUALITY, weights).total
    torch.testing.assert_close(rollouts.advantages, group_advantages(rewards))
    values = module._rollout_values
    assert values["rollout/reward"].item() == pytest.approx(rewards.mean().item())
    assert values["rollout/reward_valid"].item() == pytest.approx(0.1)
    distinct = sum(len(set(row)) for row in rollouts.items.tolist()) / (8 * 6)
    assert values["rollout/unique_fraction"].item() == pytest.approx(distinct)
    dead = sum(len({round(x, 5) for x in row}) == 1 for row in rewards.tolist()) / 8
    assert values["rollout/frac_reward_zero_std"].item() == pytest.approx(dead)
    surprise = -rollouts.old_log_probs.sum(dim=-1).mean().item()
    assert values["rollout/nll"].item() == pytest.approx(surprise, rel=1e-5)


@pytest.mark.parametrize(("lora", "learning_rate"), [(False, 5e-3), (True, 1.5e-2)])
def test_the_reward_rises(lora: bool, learning_rate: float):
    weights = RewardConfig(hit=1.0, valid=0.0, prefix=0.5, interest=0.5)
    config = GRPOConfig(
        group_size=16, prompts_per_step=20, learning_rate=learning_rate, warmup_ratio=0.0, reward=weights
    )
    backbone = tiny.scratch_backbone(IDS)
    if lora:  # adapters need a base whose embeddings tell items apart
        with torch.no_grad():
            for parameter in backbone.model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    module, data = made(config, lora, backbone)
    torch.manual_seed(0)
    lines = fit(module, data, max_epochs=40, gradient_clip_val=1.0)
    hits, rewards = ([line[f"rollout/{name}"] for line in lines] for name in ("reward_hit", "reward"))
    assert sum(hits[:4]) / 4 < 0.25 and sum(hits[-8:]) / 8 > 0.6
    assert sum(rewards[-8:]) > 2 * sum(rewards[:8])
    assert lines[-1]["train/kl"] > 0.1


def test_a_leaf_of_duplicates_pays_the_targets_own_quality():
    weights = RewardConfig(hit=1.0, prefix=0.0, interest=1.0)
    module, data = made(GRPOConfig(group_size=6, prompts_per_step=8, reward=weights))
    tokens = module.backbone.vocabulary.encode(IDS.codes).clone()
    tokens[1] = tokens[0]  # rqvae.collisions=keep: item 0 stands for item 1, too
    module = GRPOModule(module.backbone, tokens, reward_context(), module.config, EvaluationConfig(ks=[1, 5]))
    seen = []
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    batch = first_batch(data)
    batch.targets[:] = 1
    for seed in range(40):
        torch.manual_seed(seed)
        rollouts = module.rollout(batch)
        hit = rollouts.items == 1
        assert not (rollouts.items == 0).any(), "a rollout of the target's leaf is the target"
        if hit.any():
            seen.append(module._rollout_values["rollout/reward_interest"] / hit.float().mean())
    assert seen
    torch.testing.assert_close(torch.stack(seen), torch.full((len(seen),), float(QUALITY[1])))


def test_gradient_checkpointing_changes_no_rollout():
    """In training mode it would switch the key-value cache off, which rollouts need."""
    config = GRPOConfig(group_size=4, prompts_per_step=8)
    found = []
    for checkpointing in (False, True):
        module, data = made(config)
        if checkpointing:
            module.model.gradient_checkpointing_enable({"use_reentrant": False})
        module.train()
        torch.manual_seed(0)
        found.append(module.rollout(data.training_set()[list(range(8))]))
        assert module.model.training
    assert torch.equal(found[0].items, found[1].items)
    torch.testing.assert_close(found[0].old_log_probs, found[1].old_log_probs)


@pytest.mark.parametrize("rollouts", ["sample", "stochastic_beam", "beam"])
@pytest.mark.parametrize("objective", ["sequence", "grpo", "dr_grpo", "dapo", "gspo"])
def test_loss_and_gradients_equal_those_of_replicated_prompts(objective: str, rollouts: str):
    """The obvious computation: every rollout behind its own copy of the prompt, no cache, no mask, no padding."""
    config = GRPOConfig(
        group_size=5,
        prompts_per_step=4,
        objective=objective,
        rollouts=rollouts,
        kl_weight=0.1,
        clip_range=0.05,
        clip_range_high=0.1,
        temperature=1.2,
    )
    module, data = made(config)
    module.trainer = tiny.quiet_trainer()
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    prompts = data.training_set()[[0, 1, 2, 3]]
    with torch.no_grad():
        batch = module.rollout(prompts)
        batch.advantages[:] = torch.randn(batch.advantages.shape, generator=torch.Generator().manual_seed(0))
    shake(module)  # ratios other than 1, and some of them clipped
    module.training_step(batch).backward()
    ours = {name: parameter.grad.clone() for name, parameter in module.model.named_parameters()}
    module.zero_grad()

    tokens = module.backbone.vocabulary.encode(IDS.codes)
    rows = [
        tiny.replicated_log_probs(module.model, ids[mask.bool()], tokens, temperature=1.2)[items]
        for ids, mask, items in zip(batch.input_ids, batch.attention_mask, batch.items, strict=True)
    ]
    result = policy_objective(
        torch.stack(rows),
        batch.old_log_probs,
        batch.reference_log_probs,
        batch.advantages,
        0.05,
        0.1,
        objective,
        0.1,
        tokens[batch.items] >= 0,
    )
    assert 0.0 < result.clip_ratio < 1.0 and result.kl > 0.0
    result.loss.backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in module.model.parameters())
    assert largest > 1e-2
    for name, parameter in module.model.named_parameters():
        assert (parameter.grad - ours[name]).abs().max() <= 1e-5 * max(largest, 1.0), name


def test_groups_without_variance_make_room_for_others():
    weights = RewardConfig(hit=1.0, prefix=0.0, interest=0.0)
    module, data = made(GRPOConfig(group_size=3, prompts_per_step=4, dynamic_sampling=5, reward=weights))
    prompts = data.training_set()[list(range(20))]
    plain, _ = made(GRPOConfig(group_size=3, prompts_per_step=20, reward=weights))
    with torch.no_grad():
        kept, everything = module.rollout(prompts), plain.rollout(prompts)
    alive = (everything.advantages != 0).any(dim=1).nonzero()[:4, 0]
    assert len(alive) > 0 and alive.tolist() != [0, 1, 2, 3]
    assert torch.equal(kept.items, everything.items[alive])
    assert torch.equal(kept.input_ids, everything.input_ids[alive])
    torch.testing.assert_close(kept.reference_log_probs, everything.reference_log_probs[alive])


def test_a_batch_of_dead_groups_is_kept_and_teaches_nothing():
    weights = RewardConfig(hit=0.0, valid=1.0, prefix=0.0, interest=0.0)
    module, data = made(GRPOConfig(group_size=3, prompts_per_step=4, dynamic_sampling=2, reward=weights))
    with torch.no_grad():
        kept = module.rollout(data.training_set()[list(range(8))])
    assert len(kept.items) == 4 and not kept.advantages.any()
    assert module._rollout_values["rollout/frac_reward_zero_std"] == 1.0


def test_without_a_divergence_there_is_no_reference_pass():
    module, data = made(GRPOConfig(group_size=3, prompts_per_step=4, kl_weight=0.0))
    module.reference = None  # type: ignore[assignment] - whoever asks it fails
    with torch.no_grad():
        assert module.rollout(first_batch(data)).reference_log_probs is None


def test_terms_apart_give_their_own_advantages():
    weights = RewardConfig(hit=1.0, prefix=0.5, interest=0.0, combine="apart")
    module, data = made(GRPOConfig(group_size=6, prompts_per_step=8, reward=weights))
    with torch.no_grad():
        found = module.rollout(first_batch(data))
    terms = module.latest.terms
    assert module.latest.terms.keys() == {"hit", "prefix"} and found.terms.keys() == terms.keys()
    expected = group_advantages(terms["hit"]) + 0.5 * group_advantages(terms["prefix"])
    torch.testing.assert_close(found.advantages, expected)


def test_a_reward_that_is_no_number_stops_in_words():
    """Whether a fact or a term is broken: with the item, and with its name where names are known."""
    module, data = made(GRPOConfig(group_size=6, prompts_per_step=40))
    module.reward_context.quality[3] = float("nan")
    with pytest.raises(UserError, match=r"^grpo: the interest quality of item row 3 is not finite$"):
        module.rollout(first_batch(data))
    vectors = torch.ones(12, 2)
    vectors[3] = float("nan")
    reward = RewardConfig(diversity=1.0)
    module, data = made(GRPOConfig(group_size=12, prompts_per_step=8, rollouts="beam", reward=reward))
    names = [f"I{row}" for row in range(12)]
    module.reward_context = RewardContext(IDS.codes[:, : IDS.levels], QUALITY, vectors=vectors, item_ids=names)
    with pytest.raises(UserError, match=r"grpo: the reward term diversity is nan for item I\d+ where item I\d+ was"):
        module.rollout(first_batch(data))


def test_rollouts_follow_from_the_prompt_and_the_step_alone():
    """Neither from the batch nor from the process, so that two processes roll out what one does."""
    module, data = made(GRPOConfig(group_size=4, prompts_per_step=8))
    prompts = data.training_set()
    with torch.no_grad():
        together = module.rollout(prompts[[0, 1, 2, 3]])
        torch.manual_seed(123)
        apart = [module.rollout(prompts[[0, 2]]), module.rollout(prompts[[1, 3]])]
    for whole, (part, row) in zip(range(4), ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        assert torch.equal(together.items[whole], apart[part].items[row])


class Kill(lightning.Callback):
    def __init__(self, at: int) -> None:
        self.left = at

    def on_train_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


def resumable(file: Path, config: GRPOConfig, *callbacks: lightning.Callback) -> tuple[GRPOModule, list[float]]:
    module, data = made(config)
    torch.manual_seed(sum(file.name.encode()))  # nothing may depend on what the generator was before
    trainer = tiny.quiet_trainer(
        max_epochs=3,
        limit_val_batches=0,
        gradient_clip_val=0.5,
        callbacks=[*callbacks, StepSeed(3), ResumeCheckpoint(file, 2, {})],
        plugins=[AtomicCheckpointIO()],
    )
    install_group_rollouts(trainer)
    checkpoint = file if file.is_file() else None
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return module, [float(weight.double().sum()) for weight in module.state_dict().values()]


@pytest.mark.parametrize(
    "settings",
    [
        {"reference": "frozen", "minibatches": 2, "updates_per_rollout": 2},
        {"reference": "ema", "reference_decay": 0.5, "dynamic_sampling": 2},
        {"objective": "dapo", "rollouts": "stochastic_beam", "advantage": "batch"},
    ],
)
def test_a_killed_epoch_goes_on_as_if_nothing_had_happened(tmp_path: Path, settings: dict[str, Any]):
    config = GRPOConfig(group_size=4, prompts_per_step=5, learning_rate=5e-3, kl_weight=0.05, **settings)
    whole, sums = resumable(tmp_path / "whole.ckpt", config)
    for kill_at in (2, 5, 9):
        file = tmp_path / f"{kill_at}.ckpt"
        with pytest.raises(RuntimeError, match="killed"):
            resumable(file, config, Kill(kill_at))
        resumed, again = resumable(file, config)
        assert again == sums, f"killed at batch {kill_at}"
        for name, weight in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], weight), name
    assert sums != [float(weight.double().sum()) for weight in made(config)[0].state_dict().values()]


@pytest.mark.parametrize("objective", ["sequence", "dapo"])
def test_two_processes_train_as_one(tmp_path: Path, objective: str):
    script = Path(__file__).parents[1] / "support" / "two_ranks_grpo.py"
    for devices in ("1", "2"):
        done = preloaded.run([sys.executable, script, devices, objective, tmp_path / devices])
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / devices, weights_only=True) for devices in ("1", "2"))
    assert one["rollouts"] == two["rollouts"]
    moved = max(float((one["weights"][name] - start).abs().max()) for name, start in one["start"].items())
    assert moved > 1e-3
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=1e-6, rtol=1e-5, msg=name)


def test_two_processes_stay_in_step_when_one_finds_fewer_groups_that_teach(tmp_path: Path):
    script = Path(__file__).parents[1] / "support" / "two_ranks_grpo.py"
    done = preloaded.run([sys.executable, script, "2", "dapo", tmp_path / "found", "3"])
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(tmp_path / "found", weights_only=True)
    assert any(not torch.equal(found["weights"][name], start) for name, start in found["start"].items())
