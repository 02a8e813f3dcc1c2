"""Training stops before a loss or gradient that is not a number reaches the weights, and says where."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from support import tiny, two_ranks_finite
from support.preloaded import run_ranks

from callbacks.guards import FiniteGuard
from callbacks.resume import ResumeCheckpoint
from dig.config import UserError, schema_keys


class Fails(lightning.LightningModule):
    """A weight whose loss or gradient fails at the third batch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.weight = torch.nn.Parameter(torch.ones(3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx != 2 or self.how == "never":
            return (self.weight * batch.values).sum()
        if self.how == "loss":
            return self.weight.sum() * float("nan")
        return (self.weight * 0.0).abs().sqrt().sum()  # 0, with an infinite slope

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Batch:
    """Ten samples."""

    def __init__(self, number: int) -> None:
        self.values = torch.ones(3)
        self.samples = torch.arange(10) + 100 * number


def fit(how: str, folder: Path, every: int = 1) -> Fails:
    module = Fails(how)
    path = folder / "resume.ckpt"
    callbacks = [FiniteGuard("sft", path), ResumeCheckpoint(path, every, {})]
    trainer = tiny.quiet_trainer(max_epochs=1, callbacks=callbacks, limit_val_batches=0)
    trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader([Batch(n) for n in range(4)], batch_size=None))
    return module


@pytest.mark.parametrize(("how", "words"), [("loss", "the loss is nan"), ("gradient", "the gradient's norm is")])
def test_the_batch_and_the_last_good_checkpoint_are_named(tmp_path: Path, how: str, words: str):
    with pytest.raises(UserError) as caught:
        fit(how, tmp_path)
    message = str(caught.value)
    assert (
        words in message
        and "for the samples 200, 201, 202" in message
        and "and 2 more at step 2 (epoch 1, batch 3)" in message
    )
    assert f"the last good checkpoint is {tmp_path / 'resume.ckpt'}" in message
    saved = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert torch.isfinite(saved["state_dict"]["weight"]).all() and saved["global_step"] == 2


def test_without_a_checkpoint_it_says_so_and_healthy_training_goes_through(tmp_path: Path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        fit("loss", tmp_path, every=99)
    assert fit("never", tmp_path).weight.tolist() == pytest.approx([0.6] * 3)


@pytest.mark.parametrize(
    ("stage", "cure"),
    [
        ("tokenize", "a smaller rqvae.learning_rate"),
        ("adapt", "a smaller visual.adapt.learning_rate"),
        ("sasrec", "a smaller sasrec.learning_rate"),
        ("sft", "a smaller sft.learning_rate or sft.gradient_clip_val"),
        ("grpo", "a smaller grpo.learning_rate or grpo.gradient_clip_val"),
    ],
)
def test_the_cure_names_keys_that_there_are(tmp_path: Path, stage: str, cure: str):
    """Entry 20: every key in the hint is one of the schema, and what is set already is not advised."""
    trainer = SimpleNamespace(precision="32-true", global_step=0, current_epoch=0)
    with pytest.raises(UserError) as caught:
        FiniteGuard(stage, tmp_path / "none")._stop(trainer, ["the loss is nan"])
    assert str(caught.value).endswith(f"The usual cure: {cure}")
    assert set(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", cure)) <= set(schema_keys())
    trainer.precision = "bf16-mixed"
    with pytest.raises(UserError, match=r"or trainer\.precision=32-true$"):
        FiniteGuard(stage, tmp_path / "none")._stop(trainer, ["the loss is nan"])


def test_a_broken_loss_on_one_rank_stops_all_ranks_before_it_reaches_a_weight(tmp_path: Path):
    assert run_ranks(2, two_ranks_finite.__file__, tmp_path) == [0, 0]
    for rank in range(2):
        told = (tmp_path / str(rank)).read_text()
        assert told.startswith("sft: on rank 1 the loss is nan at step 2 (epoch 1, batch 3); no checkpoint yet")
        weights = [float(value) for value in told.rpartition("[")[2].rstrip("]").split(",")]
        assert weights == pytest.approx([0.8] * 3)
