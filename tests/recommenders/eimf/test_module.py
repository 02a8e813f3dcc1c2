"""EIMFModule: nothing of the explicit side without it, who is typical, what texts teach, exact resume, two ranks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from support import tiny, two_ranks_eimf
from support.preloaded import Preloaded
from support.two_ranks_eimf import CONFIG, module, sequences

from callbacks.resume import StepSeed
from datamodules.item_sequences import ItemSequences
from dig.interests.profiles import typical_users
from dig.recommenders.eimf import EIMFConfig
from dig.recommenders.eimf.module import EIMFModule

DROPPING = replace(CONFIG, dropout=0.3, epochs=4)
IMPLICIT = replace(DROPPING, semantic_weight=0.0, alignment_weight=0.0)


def trained(config: EIMFConfig, epochs: int, *callbacks: Callback, **named: Any) -> tuple[EIMFModule, Any]:
    found = module(config)
    data = ItemSequences(sequences(), config.max_history, config.batch_size, None, 0)
    trainer = tiny.quiet_trainer(max_epochs=epochs, callbacks=[StepSeed(0), *callbacks])
    trainer.fit(found, datamodule=data, **named)
    return found, trainer


def weights(found: EIMFModule) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in found.state_dict().items() if name.startswith("model.")}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_without_weights_there_is_no_explicit_side():
    found, _ = trained(IMPLICIT, 1)
    assert found.state_dict().keys() == weights(found).keys()
    assert found.heads is None and found.teachers is None


def test_until_the_clustering_both_train_alike_to_the_bit():
    explicit, _ = trained(replace(DROPPING, warmup_epochs=2), 2)
    implicit, _ = trained(IMPLICIT, 2)
    assert equal(weights(explicit), weights(implicit)) and (explicit.typical == -1).all()
    taught, _ = trained(replace(DROPPING, warmup_epochs=1), 2)
    assert not equal(weights(taught), weights(implicit))


class _AtEpoch(Callback):
    """Keeps who is typical by the weights at the start of an epoch."""

    chosen: torch.Tensor

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == CONFIG.warmup_epochs:
            known = pl_module.explicit
            pl_module.eval()
            with torch.no_grad():
                rows = [torch.from_numpy(history.astype(int))[None] for history in known.histories]
                means = [F.normalize(pl_module.model.latest_interests(row)[0], dim=-1).mean(dim=0) for row in rows]
            pl_module.train()
            generator = torch.Generator().manual_seed(0)
            places = typical_users(torch.stack(means), CONFIG.clusters, CONFIG.typical_users, generator)
            self.chosen = torch.from_numpy(known.users)[places]


def test_typical_are_those_nearest_to_the_centres_when_the_warm_up_ends():
    watch = _AtEpoch()
    found, _ = trained(DROPPING, 3, watch)
    assert found.typical[found.typical >= 0].tolist() == watch.chosen.tolist()  # and no later epoch clusters again
    assert found.teachers is not None and found.teachers.users.tolist() == watch.chosen.tolist()
    assert found.model.training


def test_texts_teach():
    config = replace(DROPPING, dropout=0.0, warmup_epochs=1, epochs=20, learning_rate=5e-3)
    losses: dict[str, list[float]] = {"train/semantic": [], "train/alignment": []}

    class Watch(Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            for name, values in losses.items():
                if name in trainer.callback_metrics:
                    values.append(float(trainer.callback_metrics[name]))

    trained(config, 20, Watch())
    for values in losses.values():
        assert len(values) == 19 * 4
        assert sum(values[-4:]) < 0.6 * sum(values[:4])


@pytest.mark.parametrize("missing", ["semantic_weight", "alignment_weight"])
def test_a_task_without_weight_has_no_head(missing: str):
    found = module(replace(CONFIG, **{missing: 0.0}))
    assert found.heads is not None
    assert (found.heads.predict is None, found.heads.align is None) == (
        missing == "semantic_weight",
        missing == "alignment_weight",
    )
    assert found.heads.idle() == 0.0


class _SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [2, 5, 9])  # in the warm-up, in the epoch that clusters, in a later one
def test_resumed_it_ends_with_the_same_weights(tmp_path: Path, step: int):
    path = tmp_path / "resume.ckpt"
    undisturbed, _ = trained(DROPPING, 4, _SaveAt(step, path))
    resumed, trainer = trained(DROPPING, 4, ckpt_path=path, weights_only=True)
    assert trainer.global_step == 16
    assert equal(undisturbed.state_dict(), resumed.state_dict())


def test_users_without_interests_are_never_typical():
    found, _ = trained(DROPPING, 2)
    known = set(found.explicit.users.tolist())  # type: ignore[union-attr]
    assert 0 < len(known) < len(sequences()) and set(found.typical[found.typical >= 0].tolist()) <= known


def test_two_ranks_train_and_validate_as_one(tmp_path: Path):
    command = [sys.executable, two_ranks_eimf.__file__, "2", str(tmp_path / "two.pt")]
    other = Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    two_ranks_eimf.train(1, tmp_path / "one.pt")
    output, _ = other.communicate(timeout=180)
    assert other.returncode == 0, output
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert one["valid"] == two["valid"]
    start = two_ranks_eimf.module().state_dict()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=2e-5, rtol=1e-3, msg=name)
    moved = max(float((one["weights"][name] - weight).abs().max()) for name, weight in start.items() if "heads" in name)
    assert moved > 1e-3 and (one["weights"]["typical"] >= 0).any()
