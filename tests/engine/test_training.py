"""Which weights a training stage leaves behind, and what it says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from callbacks.resume import AtomicCheckpointIO, checkpoints_of
from dig.config import UserError, load_config
from dig.engine.artifacts import ArtifactStore, disk_full
from dig.engine.console import console
from dig.engine.pipeline import _run_folder, stage_keys
from dig.engine.stage import StageContext
from dig.engine.strategy import find_checkpoint
from dig.engine.training import Plan, fit
from dig.stages.policies import policy_summary

METRIC = "valid/ndcg@10"


class Scripted(lightning.LightningModule):
    """Its weight counts steps; validation gives the score that a script has for the weight."""

    def __init__(self, scores: dict[int, float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return -self.weight

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log(METRIC, self.scores[round(self.weight.item())])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Nothing(lightning.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.zeros(2)))

    val_dataloader = train_dataloader


def run(
    tmp_path: Path, scores: dict[int, float], settings: Sequence[str] = (), **plan: object
) -> tuple[float, dict, str]:
    config = load_config("quickstart", ["logging.progress=false", "trainer.accelerator=cpu", *settings])
    context = StageContext(config, {}, ArtifactStore(tmp_path), tmp_path / "run")
    module = Scripted(scores)
    with console.capture() as captured:
        fit(Plan("grpo", {"a": 1}, 3, ranked=True, **plan), module, Nothing(), context, tmp_path / "work")
    return module.weight.item(), json.loads((tmp_path / "work" / "training.json").read_text()), captured.get()


def test_the_best_validated_weights_are_kept(tmp_path: Path) -> None:
    weight, chosen, _ = run(tmp_path, {2: 0.1, 4: 0.5, 6: 0.3})
    assert (weight, chosen["chosen"], chosen[METRIC], chosen["steps"]) == (4.0, "best", pytest.approx(0.5), 6)


def test_the_last_weights_are_validated_when_steps_end_between_validations(tmp_path: Path) -> None:
    weight, chosen, _ = run(tmp_path, {2: 0.1, 4: 0.2, 5: 0.3}, max_steps=5)
    assert (weight, chosen["chosen"], chosen[METRIC]) == (5.0, "final", pytest.approx(0.3))


def test_the_start_is_kept_and_said_when_nothing_beats_it(tmp_path: Path) -> None:
    weight, chosen, said = run(tmp_path, {0: 0.9, 2: 0.1, 4: 0.5, 6: 0.3}, keep_start=True)
    assert (weight, chosen["chosen"], chosen[METRIC]) == (0.0, "start", pytest.approx(0.9))
    assert "no checkpoint beat the start" in said and "0.9000" in said and "0.5000" in said


def test_early_stopping(tmp_path: Path) -> None:
    weight, chosen, _ = run(tmp_path, {2: 0.5, 4: 0.1, 6: 0.9}, patience=1)
    assert (weight, chosen["steps"]) == (2.0, 4)


def test_a_missing_and_a_damaged_checkpoint_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grpo\.resume_from=.*no such file"):
        run(tmp_path, {}, resume_from=str(tmp_path / "none.ckpt"))
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"grpo\.resume_from=.* is not a readable checkpoint"):
        run(tmp_path, {}, resume_from=str(tmp_path / "broken.ckpt"))


def test_damaged_checkpoints_of_its_own_are_said_and_training_starts_anew(tmp_path: Path) -> None:
    damaged = tmp_path / "work" / "scratch" / "resume.ckpt"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no checkpoint")
    weight, _, said = run(tmp_path, {2: 0.1, 4: 0.5, 6: 0.3})
    assert weight == 4.0
    assert "resume.ckpt of the interrupted run is damaged" in said and "training starts anew" in said


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """A bit in the middle: the archive opens, and a tensor in it is another."""
    content = bytearray(file.read_bytes())
    content[content.index(b"dig-marker") + 12] ^= 1
    file.write_bytes(bytes(content))


def another_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("letter.txt", "no checkpoint")


@pytest.mark.parametrize("damage", [half, flip, another_archive])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file = tmp_path / "work" / "scratch" / "resume.ckpt"
    io = AtomicCheckpointIO({"resume.ckpt": 2})
    for step in (1, 2, 3):
        io.save_checkpoint(
            {"step": step, "global_step": step, "dig_configuration": {"a": 1}, "text": "dig-marker" + "x" * 50}, file
        )
    assert [torch.load(path, weights_only=True)["step"] for path in checkpoints_of(file)] == [3, 2]
    damage(file)
    with console.capture() as captured:
        assert find_checkpoint("sft", {"a": 1}, file, None) == file.with_name("resume.1.ckpt")
    said = captured.get()
    assert (
        "resume.ckpt of the interrupted run is damaged" in said
        and "resumes from the checkpoint resume.1.ckpt, step 2" in said
    )


def test_a_full_disk_during_a_checkpoint_is_a_line_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full takes no byte: the checkpoint's temporary file fails as on a full disk."""
    scratch = tmp_path / "work" / "scratch"
    scratch.mkdir(parents=True)
    settings = ["trainer.checkpoint_every=1"]
    plain = Path.open

    def full(path: Path, *arguments: Any, **keys: Any) -> Any:
        if path.name.startswith(".resume.ckpt."):
            return plain(Path("/dev/full"), "wb")
        return plain(path, *arguments, **keys)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device") as caught:
        patch.setattr(Path, "open", full)
        run(tmp_path, {2: 0.1, 4: 0.5, 6: 0.3}, settings=settings)
    assert disk_full(caught.value)  # which the store and the command line turn into a line
    assert not list(scratch.glob("*.tmp"))
    weight, _, _ = run(tmp_path, {2: 0.1, 4: 0.5, 6: 0.3}, settings=settings)
    assert weight == 4.0


def test_ctrl_c_reaches_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Scripted, batch: list[torch.Tensor]) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scripted, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {})


@pytest.mark.parametrize(
    ("scores", "plan", "ended", "step"),
    [
        ({2: 0.5, 4: 0.3, 6: 0.2}, {}, "grpo.epochs=3", 2),
        ({2: 0.1, 4: 0.5, 5: 0.3}, {"max_steps": 5}, "grpo.max_steps=5", 4),
        ({2: 0.5, 4: 0.3}, {"patience": 1}, f"1 validation without a better {METRIC}, grpo.patience=1", 2),
        ({2: 0.5, 4: 0.3, 6: 0.2}, {"patience": 2}, f"2 validations without a better {METRIC}, grpo.patience=2", 2),
        ({0: 0.9, 2: 0.1, 4: 0.5, 6: 0.3}, {"keep_start": True}, "grpo.epochs=3", 0),
        ({2: 0.1, 4: 0.2, 5: 0.3}, {"max_steps": 5}, "grpo.max_steps=5", 5),
    ],
)
def test_it_is_told_why_training_ended_and_which_step_was_kept(
    tmp_path: Path, scores: dict[int, float], plan: dict[str, object], ended: str, step: int
) -> None:
    """newcomers 10: `sft.max_steps=150` ended as "56 steps", and nothing named the patience."""
    _, chosen, _ = run(tmp_path, scores, **plan)
    assert (chosen["ended"], chosen["step"]) == (ended, step)
    line = policy_summary(tmp_path / "work")
    assert f"{chosen['steps']} steps ({ended})" in line and f"({chosen['chosen']} of step {step})" in line


class Logging(Scripted):
    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        self.log("rollout/reward", self.weight.detach())
        return super().training_step(batch)


@pytest.mark.parametrize(("epochs", "every", "lines"), [(4, 10, 8), (50, 10, 10), (50, 5, 20), (1, 1000, 2)])
def test_a_short_training_logs_about_ten_times(tmp_path: Path, epochs: int, every: int, lines: int) -> None:
    """newcomers 10: a GRPO of eight steps left no reward, since one line came every ten."""
    settings = ["logging.progress=false", "trainer.accelerator=cpu", f"trainer.log_every_n_steps={every}"]
    context = StageContext(load_config("quickstart", settings), {}, ArtifactStore(tmp_path), tmp_path / "run")
    fit(Plan("grpo", {}, epochs), Logging({}), Nothing(), context, tmp_path / "work")
    (path,) = (tmp_path / "work/logs").glob("*/metrics.csv")
    rewards = pl.read_csv(path)["rollout/reward"].drop_nulls()
    assert len(rewards) == lines


@pytest.mark.parametrize(
    ("kind", "told"), [("simple", "run_training_batch"), ("advanced", "ncalls"), ("pytorch", "Self CPU")]
)
def test_a_profile_lies_beside_the_logs_where_the_line_says(tmp_path: Path, kind: str, told: str) -> None:
    """newcomers 10: `trainer.profiler` was unknown."""
    _, _, said = run(tmp_path, {2: 0.1, 4: 0.2, 6: 0.3}, [f"trainer.profiler={kind}"])
    (profile,) = (tmp_path / "work/logs/000").glob("fit-profile*.txt")
    assert told in profile.read_text()
    assert f"trainer.profiler={kind} has left its tables in" in said and "work/logs/000" in "".join(said.split())


def test_a_profiler_leaves_run_and_artifacts_as_they_are() -> None:
    plain, profiled = load_config("quickstart"), load_config("quickstart", ["trainer.profiler=simple"])
    assert _run_folder(plain) == _run_folder(profiled) and stage_keys(plain) == stage_keys(profiled)
    with pytest.raises(UserError, match=r"trainer.profiler='simpel' is not one of simple, advanced, pytorch; did you"):
        load_config("quickstart", ["trainer.profiler=simpel"])
