"""A backbone that no memory here holds is refused with the figures, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.config import Config, UserError, load_config
from dig.stages.start import check_backbone, check_start, training_bytes
from dig.train import main

PRETRAINED = ("backbone.pretrained=some/model", "items.representation=sid")


def cpu(*settings: str) -> Config:
    return load_config("quickstart", ["trainer.accelerator=cpu", *settings])


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ([], 16),
        (["trainer.precision=bf16-mixed"], 16),
        (["trainer.precision=bf16-true"], 8),
        (["trainer.precision=64-true"], 32),
        (["trainer.devices=2"], 16),
        (["trainer.devices=2", "trainer.strategy=fsdp"], 8),
        ([*PRETRAINED], 4),
        ([*PRETRAINED, "trainer.precision=bf16-true"], 2),
        ([*PRETRAINED, "backbone.lora.enabled=false"], 16),
    ],
)
def test_weights_gradients_and_moments(settings: list[str], factor: int) -> None:
    assert training_bytes(cpu(*settings), 1_000_000) == factor * 1_000_000


def test_a_backbone_beyond_the_memory_is_refused_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 17, a sibling: it is known before the first stage, not found out by the kernel in the seventh."""
    config = cpu()
    monkeypatch.setattr("dig.stages.start.total_memory", lambda: 5_000_000)
    monkeypatch.setattr("dig.stages.start.available_memory", lambda: 4_000_000)
    monkeypatch.setattr("dig.stages.start.count_parameters", lambda *_: 1_000_000)
    with pytest.raises(UserError) as raised:
        check_backbone(config, {"sft"})
    said = str(raised.value)
    assert "1.0 M parameters" in said and "at least 0.0 GB" in said and raised.value.exit_code == 2 and "\n" not in said
    check_backbone(config, {"grpo"})  # it is trained
    monkeypatch.setattr("dig.stages.start.total_memory", lambda: 17_000_000)
    check_backbone(config, {"sft"})
    assert "are available now" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(UserError, match="training it takes at least"):
        check_backbone(cpu("trainer.devices=2"), {"sft"})  # a whole model each


def test_what_lightning_refuses_is_one_line() -> None:
    """Entry 17: whatever else does not go together is found by making a Trainer, not in the seventh stage."""
    with pytest.raises(UserError, match=r"Lightning refuses trainer.accelerator=cpu, trainer.devices=2") as raised:
        check_start(cpu("trainer.strategy=fsdp_cpu_offload", "trainer.devices=2"))
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2
    check_start(cpu("trainer.devices=2", "trainer.strategy=fsdp"))


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_wrong_backbone_is_told_before_any_stage(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry 17: `backbone.config.num_attention_heads=5`."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["experiment=quickstart", "backbone.config.num_attention_heads=5", *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: backbone.config.num_attention_heads=5: no qwen2") and "\n" not in error
    assert not (tmp_path / "home").exists()
