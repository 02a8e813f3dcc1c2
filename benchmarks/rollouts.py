"""A step of GRPO beside TRL's ``GRPOTrainer``: time, activation memory, where time goes, how it grows with G.

A Qwen2 architecture of 5.7 M parameters, 16 prompts of 160 tokens, 16 rollouts each of 4 tokens, a reference, one
update a rollout, float32, AdamW: both do the same. TRL samples from the whole vocabulary (it cannot follow a trie) and
gets its best settings for this machine: no gradient checkpointing, no dropout, a batch of all 256 rollouts at once.
With ``--gpu`` and a CUDA device: a Qwen2 of 0.5 B parameters in bfloat16, prompts of 512 tokens.

TRL is an extra: ``pip install -e '.[bench]'``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from datamodules.prompts import SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from datamodules.splits import Sequences
from dig.config.schema import BackboneConfig, EvaluationConfig, GRPOConfig, PromptConfig
from dig.engine.training import quiet
from dig.generation.backbone import Backbone, build_backbone
from dig.modules.grpo import GRPOModule
from dig.rollouts import RewardContext
from dig.rollouts.loop import install_group_rollouts

ITEMS, CODES, LEVELS = 12_000, 448, 4
PROMPTS, GROUP, HISTORY = 16, 16, 40
GROUPS = (4, 8, 16, 32, 64)
KL_WEIGHT = 1e-3
OURS, THEIRS = 8, 3  # measured steps, after a first one
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4}
LARGE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Setting:
    """What both sides do.

    Attributes:
        shape: of the Qwen2 architecture.
        history: items in a prompt.
        precision: Lightning's name.
        device: where.
    """

    shape: dict[str, int]
    history: int = HISTORY
    precision: str = "32-true"
    device: str = "cpu"


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    setting = Setting(SMALL)
    if "--gpu" in sys.argv:
        setting = Setting(LARGE, history=128, precision="bf16-true", device="cuda")
    with quiet():
        ours, our_bytes = _ours(setting, GROUP)
        theirs, their_bytes = _theirs(setting)
        parts = _split(setting)
        growth = {group: _ours(setting, group)[0] for group in GROUPS}
    table = Table(title=f"a step of {PROMPTS} prompts × {GROUP} rollouts, prompts of {setting.history * LEVELS} tokens")
    for heading in ("how", "seconds a step", "saved for the backward pass, MB"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    table.add_row("dig", f"{ours:.2f}", f"{our_bytes / 1e6:.0f}")
    table.add_row("TRL GRPOTrainer", f"{theirs:.2f}", f"{their_bytes / 1e6:.0f}")
    Console().print(table)
    total = sum(parts.values())
    _print("where dig's time goes", {name: f"{value:.3f} s, {value / total:.1%}" for name, value in parts.items()})
    _print("rollouts a prompt, seconds a step", {str(group): f"{seconds:.2f}" for group, seconds in growth.items()})
    figures = {
        "trl_ratio": round(theirs / ours, 2),
        "trl_memory_ratio": round(their_bytes / our_bytes, 2),
        "reward_fraction": round(parts["reward"] / total, 4),
        "growth_4_to_64": round(growth[64] / growth[4], 2),
    }
    print(json.dumps(figures))


def _print(title: str, cells: dict[str, str]) -> None:
    table = Table(title=title)
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    Console().print(table)


# --- dig -------------------------------------------------------------------------------------------------------------


def _backbone(setting: Setting) -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(config=dict(setting.shape))
    return build_backbone(config, [CODES] * LEVELS, (setting.history + 2) * LEVELS + 2)


def _codes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(CODES, (2 * ITEMS, LEVELS), generator=generator).unique(dim=0)
    return codes[torch.randperm(len(codes), generator=generator)[:ITEMS]]


def _module(setting: Setting, group: int) -> tuple[GRPOModule, PromptDataModule]:
    backbone, codes = _backbone(setting), _codes()
    tokens = backbone.vocabulary.encode(codes)
    builder = SidPrompts(tokens, backbone.tokenizer, PromptConfig(max_history=setting.history), from_scratch=True)
    draws = np.random.default_rng(0)
    rows = [draws.integers(0, ITEMS, setting.history + 3) for _ in range(PROMPTS * (OURS + 2))]
    sequences = Sequences.from_lists([str(user) for user in range(len(rows))], rows)
    config = GRPOConfig(group_size=group, prompts_per_step=PROMPTS, kl_weight=KL_WEIGHT, learning_rate=1e-6)
    prompts = TrainingPrompts(sequences, builder, per_user=1)
    data = PromptDataModule(prompts, sequences, builder, PROMPTS, 8, 8, 0)
    context = RewardContext(codes, torch.rand(ITEMS))
    return GRPOModule(backbone, tokens, context, config, EvaluationConfig(ks=[5, 10])), data


class _Clock(Callback):
    """Seconds of each step but the first, and what the second saves for its backward pass."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self.started = device, list[float](), 0.0

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        self.started = _now(self.device)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(_now(self.device) - self.started)


def _ours(setting: Setting, group: int) -> tuple[float, int]:
    """Median seconds of a step through Lightning, and the bytes that an update saves for its backward pass."""
    module, data = _module(setting, group)
    clock, saved = _Clock(setting.device), _SavedBytes(module)
    step = module.training_step

    def watched(batch: Any) -> Tensor:
        with saved.counting() if len(clock.seconds) == 1 else _nothing():
            return step(batch)

    module.training_step = watched  # type: ignore[method-assign]
    trainer = lightning.Trainer(
        accelerator=setting.device,
        devices=1,
        precision=setting.precision,
        max_steps=OURS + 2,
        logger=False,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
    )
    install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)
    return float(np.median(clock.seconds[2:])), saved.total


def _split(setting: Setting) -> dict[str, float]:
    """Median seconds of each part of a step."""
    module, data = _module(setting, GROUP)
    module.to(setting.device, torch.bfloat16 if setting.precision.startswith("bf16") else torch.float32)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module._weight_of_rank = lambda _: 1.0  # type: ignore[method-assign, assignment]
    prompts = next(iter(data.train_dataloader()))
    prompts = move_data_to_device(prompts, torch.device(setting.device))
    seconds: dict[str, list[float]] = {"rollout": [], "reward": [], "reference": [], "update": []}
    for _ in range(OURS + 1):
        with torch.no_grad():
            batch = _timed(seconds["rollout"], setting, lambda: module.sample(prompts))
            batch = _timed(seconds["reward"], setting, lambda: module.with_rewards(batch))  # noqa: B023
            reference = _timed(seconds["reference"], setting, lambda: module._reference_log_probs(batch))  # noqa: B023
        batch = replace(batch, reference_log_probs=reference)
        _timed(seconds["update"], setting, lambda: _update(module, batch, optimizer))  # noqa: B023
    return {name: float(np.median(times[1:])) for name, times in seconds.items()}


def _update(module: GRPOModule, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module.training_step(batch).backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


# --- TRL -------------------------------------------------------------------------------------------------------------


def _theirs(setting: Setting) -> tuple[float, int]:
    """The same from TRL."""
    try:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, TrainerCallback
        from trl import GRPOConfig as TheirConfig
        from trl import GRPOTrainer
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install -e '.[bench]'") from None
    backbone = _backbone(setting)
    tokenizer = backbone.tokenizer
    words = tokenizer.convert_ids_to_tokens(backbone.vocabulary.ids.tolist())
    draws = np.random.default_rng(0)
    prompts = [" ".join(draws.choice(words, setting.history * LEVELS)) for _ in range(PROMPTS * (THEIRS + 2))]
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = _now(setting.device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(_now(setting.device) - self.started)

    class Watched(GRPOTrainer):
        def compute_loss(self, model: nn.Module, *rest: Any, **named: Any) -> Any:
            with saved.counting() if len(seconds) == 1 else _nothing():
                return super().compute_loss(model, *rest, **named)

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(completion) % 7) for completion in completions]

    with tempfile.TemporaryDirectory() as folder:
        backbone.model.save_pretrained(f"{folder}/model")
        tokenizer.save_pretrained(f"{folder}/model")
        model = AutoModelForCausalLM.from_pretrained(f"{folder}/model")
        saved = _SavedBytes(model)
        config = TheirConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            beta=KL_WEIGHT,
            max_completion_length=LEVELS,
            max_steps=THEIRS + 2,
            learning_rate=1e-6,
            loss_type="grpo",
            importance_sampling_level="sequence",
            gradient_checkpointing=False,
            use_cpu=setting.device == "cpu",
            bf16=setting.precision.startswith("bf16"),
            generation_kwargs={"min_new_tokens": LEVELS},
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            max_grad_norm=1.0,
            disable_dropout=True,
            dataloader_pin_memory=False,
        )
        trainer = Watched(
            model,
            reward,
            config,
            Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return float(np.median(seconds[2:])), saved.total


# --- measuring -------------------------------------------------------------------------------------------------------


class _SavedBytes:
    """Bytes that autograd keeps for a backward pass, weights apart, each storage once."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.total = model, 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        weights = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        kept: dict[int, Any] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage  # alive, so that no address comes twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
        self.total = sum(storage.nbytes() for storage in kept.values())


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _timed(seconds: list[float], setting: Setting, work: Callable[[], Any]) -> Any:
    started = _now(setting.device)
    result = work()
    seconds.append(_now(setting.device) - started)
    return result


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
