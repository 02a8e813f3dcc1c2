"""load_from_checkpoint: the path alone gives back the module that was saved, to the digit, and nothing is unpickled."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from support import decoders, tiny

from callbacks import ResumeCheckpoint, StepSeed
from datamodules.items import ItemDataModule
from datamodules.prompts import PromptBuilder, prompt_builder
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from dig import GRPOModule, RQVAEModule, SFTModule
from dig.config import UserError
from dig.config.schema import (
    BackboneConfig,
    EvaluationConfig,
    GRPOConfig,
    LoraConfig,
    PromptConfig,
    RewardConfig,
    RQVAEConfig,
    SFTConfig,
)
from dig.generation import beam_search
from dig.generation.backbone import Backbone, IntRRBackbone, build_backbone
from dig.generation.lora import add_lora
from dig.generation.sid_rows import ComposedRows, compose_rows
from dig.modules.policy import PolicyModule
from dig.modules.restoring import MODULE, describe_backbone, rebuild_backbone
from dig.quantization import ItemFeatures, SemanticIds
from dig.rollouts import RewardContext
from dig.rollouts.loop import install_group_rollouts
from dig.rollouts.reference import HeldWeights

IDS = tiny.ragged_catalogue(12)
SEQUENCES = tiny.cyclic_sequences(40, 12)
EVALUATION = EvaluationConfig(ks=[1, 5], valid_beams=7)
HISTORY = torch.tensor([0, 1, 2])


def scratch(folder: Path, ids: SemanticIds) -> Backbone:
    return tiny.scratch_backbone(ids, model_type="llama")


def composed(folder: Path, ids: SemanticIds) -> Backbone:
    """Items' own tokens, whose rows are sums of rows of their codes."""
    backbone = tiny.scratch_backbone(ids)
    codes, width = ids.codes[:, :1].contiguous(), backbone.model.config.hidden_size
    compose_rows(
        backbone.model,
        ComposedRows([torch.randn(ids.sizes[0], width)], codes[: ids.sizes[-1]], backbone.vocabulary.first_ids[-1]),
    )
    return backbone


def adapted(folder: Path, ids: SemanticIds) -> Backbone:
    """A pretrained model with adapters, dropout and rows that are trained themselves."""
    lora = LoraConfig(rank=2, alpha=6, dropout=0.1, targets=["q_proj", "v_proj"])
    return build_backbone(
        BackboneConfig(pretrained=str(tiny.pretrained_folder(folder / "pretrained", tied=False)), lora=lora),
        ids.sizes,
        max_tokens=64,
    )


def adapted_everywhere(folder: Path, ids: SemanticIds) -> Backbone:
    backbone = tiny.scratch_backbone(ids)
    backbone.model = add_lora(backbone.model, LoraConfig(rank=2))  # all-linear, no rows of their own
    return backbone


def one_vector(folder: Path, ids: SemanticIds) -> Backbone:
    return IntRRBackbone(tiny.tiny_intrr(ids, uid_input=True), alignment=0.25)


BACKBONES = [scratch, composed, adapted, adapted_everywhere, one_vector]


def shaken(module: lightning.LightningModule) -> None:
    """All weights are moved, so that no fresh module has them."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def sft(backbone: Backbone) -> tuple[SFTModule, PromptBuilder]:
    config = SFTConfig(batch_size=16, learning_rate=1e-3, dropout=0.3, label_smoothing=0.125)
    module = SFTModule(backbone, backbone.vocabulary.encode(IDS.codes), config, EVALUATION)
    return module, prompt_builder(backbone, IDS, PromptConfig())


def grpo(backbone: Backbone, **changes: Any) -> tuple[GRPOModule, PromptDataModule]:
    config = GRPOConfig(**{"group_size": 4, "prompts_per_step": 2, **changes})  # type: ignore[arg-type]
    counts, quality = torch.arange(len(IDS)), torch.linspace(0.0, 1.0, len(IDS))
    context = RewardContext(IDS.codes[:, : IDS.levels], quality, counts=counts, item_ids=IDS.item_ids)
    builder = prompt_builder(backbone, IDS, PromptConfig())
    data = PromptDataModule(TrainingPrompts(SEQUENCES, builder, per_user=1), SEQUENCES, builder, 2, 10, 4, seed=0)
    tokens = backbone.vocabulary.encode(IDS.codes)
    return GRPOModule(backbone, tokens, context, config, EVALUATION, seed=5), data


def trained(module: lightning.LightningModule, data: lightning.LightningDataModule, path: Path) -> None:
    """Two steps of a Trainer of the user's own, and its checkpoint."""
    trainer = tiny.quiet_trainer(max_steps=2, limit_val_batches=0)
    if isinstance(module, GRPOModule):
        install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(path)


def saved(module: lightning.LightningModule, path: Path) -> Path:
    """What a Trainer writes of a module that was not trained."""
    trainer = tiny.quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def same_weights(first: lightning.LightningModule, second: lightning.LightningModule) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


@torch.no_grad()
def answers(module: PolicyModule, builder: PromptBuilder) -> tuple[torch.Tensor, torch.Tensor]:
    """Items and their log-probabilities after a history."""
    module.eval()
    prompts = builder.prompts([HISTORY.numpy()])
    found = beam_search(module.model, prompts.input_ids, prompts.attention_mask, module.trie, 6)
    return found.items, found.log_probs


@pytest.mark.parametrize("make", BACKBONES, ids=lambda make: make.__name__)
def test_a_policy_is_what_it_was(make: Any, tmp_path: Path):
    """Newcomers 7: weights, scores, items, settings, what is trained; from the path alone."""
    module, builder = sft(make(tmp_path, IDS))
    shaken(module)
    loaded = SFTModule.load_from_checkpoint(saved(module, tmp_path / "last.ckpt"))
    assert same_weights(module, loaded)
    items, log_probs = answers(module, builder)
    again, their_log_probs = answers(loaded, prompt_builder(loaded.backbone, IDS, PromptConfig()))
    assert torch.equal(items, again) and torch.equal(log_probs, their_log_probs)
    assert (loaded.config, loaded.evaluation) == (module.config, EVALUATION)
    assert torch.equal(loaded.item_tokens, module.item_tokens)
    assert loaded.backbone.from_scratch == module.backbone.from_scratch
    assert loaded.backbone.vocabulary == module.backbone.vocabulary
    learns = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert learns == [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    if isinstance(module.backbone, IntRRBackbone):
        assert loaded.backbone.alignment == 0.25
    else:
        ends, theirs = (each.backbone.model.generation_config for each in (module, loaded))
        assert (ends.eos_token_id, ends.pad_token_id) == (theirs.eos_token_id, theirs.pad_token_id)


@pytest.mark.parametrize("make", BACKBONES, ids=lambda make: make.__name__)
def test_a_loaded_policy_trains_as_the_saved_one_would(make: Any, tmp_path: Path):
    """The loss of a batch and its gradients, dropout included."""
    module, builder = sft(make(tmp_path, IDS))
    loaded = SFTModule.load_from_checkpoint(saved(module, tmp_path / "last.ckpt"))
    batch = tiny.window_batch(builder, [[0, 1, 2, 3], [4, 5, 6, 7]], [1, 1])
    losses = []
    for each in (module, loaded):
        each.train()
        torch.manual_seed(3)
        loss, _ = each.backbone.supervised_loss(batch, each.trie, each.config)
        loss.backward()
        losses.append(loss.detach())
    assert torch.equal(*losses)
    for mine, theirs in zip(module.parameters(), loaded.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)


def sizes_of(path: Path) -> tuple[int, int]:
    """Numbers in a checkpoint's weights, and names of weights that no adapter and no row of a code is."""
    state = torch.load(path, weights_only=True)["state_dict"]
    others = [name for name in state if not any(part in name for part in ("lora_", "trainable_tokens"))]
    return sum(value.numel() for value in state.values()), len(others)


def test_a_checkpoint_of_adapters_leaves_out_what_they_stand_on(tmp_path: Path):
    """Entry 12: only what is trained lies in it, and the module is whole again from the path alone."""
    module, builder = sft(adapted(tmp_path, IDS))
    trained(module, tiny.sequence_data(SEQUENCES, builder, 8, 10, 4, seed=0), tmp_path / "last.ckpt")
    learns = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    assert sizes_of(tmp_path / "last.ckpt") == (learns, 0)
    loaded = SFTModule.load_from_checkpoint(tmp_path / "last.ckpt")
    trained_before = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert trained_before == [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    items, log_probs = answers(module, builder)
    again, their_log_probs = answers(loaded, prompt_builder(loaded.backbone, IDS, PromptConfig()))
    assert torch.equal(items, again) and torch.equal(log_probs, their_log_probs)


def test_weights_that_the_base_does_not_hold_are_saved(tmp_path: Path):
    """Somebody has moved frozen weights: the base's folder would give others back."""
    module, _ = sft(adapted(tmp_path, IDS))
    shaken(module)
    _, others = sizes_of(saved(module, tmp_path / "whole.ckpt"))
    assert others > 0 and same_weights(module, SFTModule.load_from_checkpoint(tmp_path / "whole.ckpt"))


def test_a_base_that_is_gone_or_another_one_is_named(tmp_path: Path):
    module, _ = sft(adapted(tmp_path, IDS))
    path, base = saved(module, tmp_path / "last.ckpt"), tmp_path / "pretrained"
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=r"last.ckpt holds adapters alone, of .*pretrained: there is no folder .*pass backbone="
    ):
        SFTModule.load_from_checkpoint(path)
    lora = LoraConfig(rank=2, alpha=6, dropout=0.1, targets=["q_proj", "v_proj"])
    own = build_backbone(BackboneConfig(pretrained=str(moved), lora=lora), IDS.sizes, max_tokens=64)
    assert same_weights(module, SFTModule.load_from_checkpoint(path, backbone=own))  # wherever it lies
    tiny.tiny_model("qwen2", vocabulary=48, seed=1, tie_word_embeddings=False).save_pretrained(moved)
    moved.rename(base)
    with pytest.raises(UserError, match=r"holds adapters for .*pretrained alone, and .* has other weights") as caught:
        SFTModule.load_from_checkpoint(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"holds adapters for .*pretrained alone: pass a backbone with such adapters"):
        SFTModule.load_from_checkpoint(path, backbone=tiny.scratch_backbone(IDS))


def test_a_training_resumes_on_the_same_base_alone(tmp_path: Path):
    """To the digit where it lies elsewhere; refused where it is another one."""
    module, builder = sft(adapted(tmp_path, IDS))
    halfway = ResumeCheckpoint(tmp_path / "resume.ckpt", 3, {})
    trainer = tiny.quiet_trainer(max_steps=5, limit_val_batches=0, callbacks=[StepSeed(3), halfway])
    trainer.fit(module, datamodule=tiny.sequence_data(SEQUENCES, builder, 4, 10, 4, seed=0))
    expected = module.state_dict()
    for seed in (0, 1):
        folder = tmp_path / f"elsewhere-{seed}"
        tiny.pretrained_folder(folder / "pretrained", tied=False)
        if seed:
            tiny.tiny_model("qwen2", 48, seed=1, tie_word_embeddings=False).save_pretrained(folder / "pretrained")
        lora = LoraConfig(rank=2, alpha=6, dropout=0.1, targets=["q_proj", "v_proj"])
        config = BackboneConfig(pretrained=str(folder / "pretrained"), lora=lora)
        module, builder = sft(build_backbone(config, IDS.sizes, max_tokens=64))
        trainer = tiny.quiet_trainer(max_steps=5, limit_val_batches=0, callbacks=[StepSeed(3)])
        data = tiny.sequence_data(SEQUENCES, builder, 4, 10, 4, seed=0)
        fit = partial(trainer.fit, module, datamodule=data, ckpt_path=tmp_path / "resume.ckpt", weights_only=True)
        if seed:
            with pytest.raises(UserError, match=r"sft: the checkpoint holds adapters for .*put the former files back"):
                fit()
        else:
            fit()
            assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("model_type", ["gpt2", "mamba", "bloom", "qwen3_5_text", "gemma3_text", "mpt"])
def test_other_architectures_are_what_they_were(model_type: str):
    backbone = build_backbone(BackboneConfig(config=decoders.small_config(model_type)), IDS.sizes, 64)
    state, tokens = backbone.model.state_dict(), torch.tensor([[1, 7, 8, 9]])
    again = rebuild_backbone(describe_backbone(backbone), state, "here")
    again.model.load_state_dict(state)
    logits = [each.model.eval()(input_ids=tokens).logits for each in (backbone, again)]
    assert torch.equal(*logits) and backbone.vocabulary == again.vocabulary


def test_the_checkpoint_of_a_training_of_ones_own(tmp_path: Path):
    module, builder = sft(scratch(tmp_path, IDS))
    trained(module, tiny.sequence_data(SEQUENCES, builder, 8, 10, 4, seed=0), tmp_path / "own.ckpt")
    loaded = SFTModule.load_from_checkpoint(str(tmp_path / "own.ckpt"))
    assert same_weights(module, loaded)
    with (tmp_path / "own.ckpt").open("rb") as stream:
        assert same_weights(module, SFTModule.load_from_checkpoint(stream))


def test_a_checkpoint_holds_no_class_of_ours(tmp_path: Path):
    """weights_only=True reads it without a class being allowed, and all that is told is plain."""
    module, _ = grpo(scratch(tmp_path, IDS))
    with torch.serialization.safe_globals([]):
        content = torch.load(saved(module, tmp_path / "last.ckpt"), weights_only=True)[MODULE]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(each) for key, each in value.items())
        return (
            all(map(plain, value))
            if isinstance(value, list)
            else isinstance(value, torch.Tensor | str | int | float | type(None))
        )

    assert plain(content) and content["stage"] == "grpo"


def test_grpo_is_what_it_was(tmp_path: Path):
    """Rollouts, their rewards and advantages; the seed decides them."""
    module, data = grpo(scratch(tmp_path, IDS), reward=RewardConfig(hit=1.0, prefix=0.5, interest=0.25, novelty=0.125))
    trained(module, data, tmp_path / "last.ckpt")
    loaded = GRPOModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert same_weights(module, loaded) and loaded.seed == 5
    batch = next(iter(data.train_dataloader()))
    module._trainer = None  # the step is part of a rollout's seed, and a loaded module stands at none
    first, second = (each.with_rewards(each.sample(batch)) for each in (module, loaded))
    assert torch.equal(first.items, second.items) and torch.equal(first.rewards, second.rewards)
    assert torch.equal(first.advantages, second.advantages)
    assert loaded.reward_context.name_of(3) == f"item {IDS.item_ids[3]}"


def test_what_grpo_cannot_tell_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Vectors of items are not in a checkpoint, nor is a frozen reference: who asks for them is told, or gives them."""
    before = scratch(tmp_path, IDS)
    start = [parameter.detach().clone() for parameter in before.model.parameters()]
    module, data = grpo(before, kl_weight=0.1, reward=RewardConfig(similarity=1.0))
    shaken(module)
    path = saved(module, tmp_path / "last.ckpt")
    loaded = GRPOModule.load_from_checkpoint(path)
    assert "the loaded policy is the reference of grpo.kl_weight" in "".join(capsys.readouterr())
    assert isinstance(loaded.reference, HeldWeights)
    assert all(map(torch.equal, loaded.reference.weights, loaded.model.parameters()))
    with pytest.raises(UserError, match=r"not given the items' \w+; pass reward_context= to GRPOModule"):
        loaded.with_rewards(loaded.sample(next(iter(data.train_dataloader()))))
    context = RewardContext(vectors=torch.eye(len(IDS)))
    again = GRPOModule.load_from_checkpoint(path, backbone=scratch(tmp_path, IDS), reward_context=context)
    assert isinstance(again.reference, HeldWeights) and all(map(torch.equal, again.reference.weights, start))
    assert same_weights(again, module) and again.reward_context is context


def test_a_reference_that_moves_is_loaded(tmp_path: Path):
    module, data = grpo(scratch(tmp_path, IDS), kl_weight=0.1, reference="ema", learning_rate=1e-2)
    trained(module, data, tmp_path / "last.ckpt")
    loaded = GRPOModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert isinstance(module.reference, HeldWeights) and isinstance(loaded.reference, HeldWeights)
    assert all(map(torch.equal, module.reference.weights, loaded.reference.weights))


def rqvae() -> tuple[RQVAEModule, ItemFeatures]:
    torch.manual_seed(0)
    features = ItemFeatures(torch.randn(60, 6), torch.randn(60, 4), torch.arange(60) % 3 > 0)
    config = RQVAEConfig(codebook_size=[8, 4], latent_dim=4, hidden_dims=[16], batch_size=16, visual_dim=3)
    return RQVAEModule(config, 6, 4, health_every=2), features


def test_an_rqvae_is_what_it_was(tmp_path: Path):
    module, features = rqvae()
    trained(module, ItemDataModule(features, 16, seed=0), tmp_path / "last.ckpt")
    loaded = RQVAEModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert same_weights(module, loaded) and loaded.config == module.config and loaded.health_every == 2
    assert torch.equal(module.assign_codes(features), loaded.assign_codes(features))
    assert module.reconstruction_error(features) == loaded.reconstruction_error(features)
    assert RQVAEModule.load_from_checkpoint(tmp_path / "last.ckpt", health_every=9).health_every == 9


def without_making(path: Path, **changes: Any) -> Path:
    """The checkpoint as earlier versions wrote it, or with something else told of its module."""
    content = torch.load(path, weights_only=True)
    making = content.pop(MODULE)
    torch.save({**content, MODULE: {**making, **changes}} if changes else content, path)
    return path


def test_earlier_checkpoints_name_what_they_need(tmp_path: Path):
    module, _ = sft(scratch(tmp_path, IDS))
    path = without_making(saved(module, tmp_path / "old.ckpt"))
    with pytest.raises(UserError, match=r"pass backbone=, item_tokens=, evaluation= to SFTModule") as caught:
        SFTModule.load_from_checkpoint(path, config=module.config)
    assert "\n" not in str(caught.value) and "checkpoints/sft" in str(caught.value)
    given = {"item_tokens": module.item_tokens, "config": module.config, "evaluation": EVALUATION}
    loaded = SFTModule.load_from_checkpoint(path, backbone=scratch(tmp_path, IDS), **given)
    assert same_weights(module, loaded)
    tokenizer, _ = rqvae()
    path = without_making(saved(tokenizer, tmp_path / "old-rqvae.ckpt"))
    with pytest.raises(UserError, match=r"pass config= and text_dim="):
        RQVAEModule.load_from_checkpoint(path)
    assert same_weights(
        tokenizer, RQVAEModule.load_from_checkpoint(path, config=tokenizer.config, text_dim=6, image_dim=4)
    )


def test_earlier_checkpoints_resume(tmp_path: Path):
    """A training does not need what they do not tell."""
    lines = []
    for old in (False, True):
        module, builder = sft(scratch(tmp_path, IDS))
        trained(module, tiny.sequence_data(SEQUENCES, builder, 8, 10, 4, seed=0), tmp_path / "resume.ckpt")
        if old:
            without_making(tmp_path / "resume.ckpt")
        again, builder = sft(scratch(tmp_path, IDS))
        trainer = tiny.quiet_trainer(max_steps=4, limit_val_batches=0)
        torch.manual_seed(0)
        data = tiny.sequence_data(SEQUENCES, builder, 8, 10, 4, seed=0)
        trainer.fit(again, datamodule=data, ckpt_path=tmp_path / "resume.ckpt", weights_only=True)
        assert trainer.global_step == 4
        lines.append(again.state_dict())
    assert all(torch.equal(value, lines[1][name]) for name, value in lines[0].items())


def test_a_checkpoint_of_something_else_is_one_line(tmp_path: Path):
    module, _ = sft(scratch(tmp_path, IDS))
    path = saved(module, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="is a checkpoint of the stage sft, not of grpo"):
        GRPOModule.load_from_checkpoint(path)
    with pytest.raises(UserError, match="is a checkpoint of the stage sft, not of tokenize"):
        RQVAEModule.load_from_checkpoint(path)
    with pytest.raises(UserError, match="there is no such checkpoint"):
        SFTModule.load_from_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        SFTModule.load_from_checkpoint(tmp_path / "cut.ckpt")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="it has no state_dict"):
        SFTModule.load_from_checkpoint(tmp_path / "other.ckpt")


class Unplain:
    """An object, which a checkpoint of ours never holds."""


def test_nothing_is_unpickled(tmp_path: Path):
    module, _ = sft(scratch(tmp_path, IDS))
    path = saved(module, tmp_path / "last.ckpt")
    torch.save({**torch.load(path, weights_only=True), "callbacks": Unplain()}, path)
    for weights_only in (None, False):
        with pytest.raises(UserError, match="is not a readable checkpoint"):
            SFTModule.load_from_checkpoint(path, weights_only=weights_only)


def as_file(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"../config.json": as_file("{}")}}, "is not the name of a file of a model"),
        ({"files": {"config.json": as_file('{"model_type": "nothing"}')}}, "no model_type 'nothing'"),
        ({"files": {}}, "config.json"),
        ({"sizes": [2, 99]}, "it belongs to other Semantic IDs"),
        ({"lora": {"rank": 1}}, "what it tells of its module makes none: KeyError"),
        ({"dtype": "load"}, "what it tells of its module makes none"),
    ],
)
def test_what_a_checkpoint_tells_is_checked(change: dict[str, Any], message: str, tmp_path: Path):
    module, _ = sft(scratch(tmp_path, IDS))
    path = saved(module, tmp_path / "last.ckpt")
    making = torch.load(path, weights_only=True)[MODULE]
    without_making(path, backbone={**making["backbone"], **change})
    with pytest.raises(UserError, match=message) as caught:
        SFTModule.load_from_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_settings_and_weights_that_do_not_fit_are_one_line(tmp_path: Path):
    module, _ = sft(scratch(tmp_path, IDS))
    path = saved(module, tmp_path / "last.ckpt")
    without_making(path, config={"learning_rat": 1.0})
    with pytest.raises(UserError, match=r"last.ckpt: SFTConfig: .*learning_rat"):
        SFTModule.load_from_checkpoint(path)
    tokenizer, _ = rqvae()
    path = without_making(saved(tokenizer, tmp_path / "rqvae.ckpt"), widths={"text_dim": 2**30, "image_dim": 4})
    with pytest.raises(UserError, match="its weights are not those of the module that it tells of"):
        RQVAEModule.load_from_checkpoint(path)  # and takes no terabytes first


def test_the_folder_of_a_run_loads_as_well(tmp_path: Path):
    """What a finished run leaves are model folders, so those are what a user tries."""
    from support.finished_run import write_run

    run = write_run(tmp_path / "run", ["sft.learning_rate=0.0123", "evaluation.ks=[1,5]"])
    module, builder = sft(scratch(tmp_path, IDS))
    shaken(module)
    for stage in ("sft", "grpo"):
        folder = run / "checkpoints" / stage
        folder.mkdir(exist_ok=True)
        module.backbone.save(folder)
        IDS.save(folder / "semantic_ids.parquet")
    loaded = SFTModule.load_from_checkpoint(run / "checkpoints" / "sft")
    assert loaded.config.learning_rate == 0.0123 and loaded.evaluation.ks == [1, 5]
    assert all(map(torch.equal, answers(module, builder), answers(loaded, builder)))
    policy = GRPOModule.load_from_checkpoint(run / "checkpoints" / "grpo")
    assert torch.equal(policy.reward_context.get("codes"), IDS.codes[:, : IDS.levels])
    (run / "config.yaml").unlink()
    with pytest.raises(UserError, match="pass config= and evaluation= to SFTModule"):
        SFTModule.load_from_checkpoint(run / "checkpoints" / "sft")
