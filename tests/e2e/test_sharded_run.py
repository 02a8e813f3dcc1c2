"""SFT and GRPO with the weights shared out over two processes (FSDP2) end where copies on both (DDP) do."""

from __future__ import annotations

import signal
from pathlib import Path

import torch
from safetensors.torch import load_file
from support.hub_folders import checkpoint
from support.workplace import Workplace, tokenized_workplace, wait_for_checkpoint

RANKS = ("trainer.accelerator=cpu", "trainer.devices=2", "stages=[grpo]", "sft.epochs=2", "grpo.max_steps=6")


def weights(workplace: Workplace, stage: str) -> dict[str, torch.Tensor]:
    return load_file(next((workplace.home / "artifacts" / stage).glob("*/model/model.safetensors")))


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=2e-3, atol=2e-4)


def test_shared_weights_end_where_copies_do(tmp_path: Path):
    copies, shared, killed = (tokenized_workplace(tmp_path / name) for name in ("copies", "shared", "killed"))
    copies.run(*RANKS, "trainer.strategy=ddp")
    shared.run(*RANKS, "trainer.strategy=fsdp")
    for stage in ("sft", "grpo"):
        assert_close(weights(copies, stage), weights(shared, stage))
    process = killed.start(*RANKS, "trainer.strategy=fsdp")
    assert wait_for_checkpoint(killed, "sft", process, newer_than=1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "sft: resumes from the checkpoint" in killed.run(*RANKS, "trainer.strategy=fsdp")
    for stage in ("sft", "grpo"):
        assert_close(weights(shared, stage), weights(killed, stage))


def test_shared_adapters_end_where_copies_do(tmp_path: Path):
    model = checkpoint(tmp_path / "pretrained", "qwen2")
    arguments = (
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "stages=[sft]",
        f"backbone.pretrained={model}",
        "backbone.config={}",
        "backbone.lora.rank=4",
        "sft.max_steps=12",
        "prompt.max_history=6",
    )
    copies, shared = (tokenized_workplace(tmp_path / name) for name in ("copies", "shared"))
    copies.run(*arguments, "trainer.strategy=ddp")
    shared.run(*arguments, "trainer.strategy=fsdp")
    before = load_file(model / "model.safetensors")
    found = weights(copies, "sft")
    assert_close(found, weights(shared, "sft"))
    assert any(not torch.equal(found[name], before[name]) for name in before if name.endswith("q_proj.weight"))
