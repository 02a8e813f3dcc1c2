"""Checkpoints to resume from, also with other ranks and after a preemption; a resumed run equals an undisturbed one."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from dig.engine.console import say
from dig.engine.own_files import temporary_beside
from dig.engine.signals import Preempted, current_watch
from dig.engine.weights import write_checkpoint

__all__ = [
    "AtomicCheckpointIO",
    "ResumeCheckpoint",
    "StepSeed",
    "checkpoints_of",
    "configuration_in",
    "damage",
    "differing_key",
    "ElasticResume",
    "rescale",
    "Preemption",
]


_CONFIGURATION = "dig_configuration"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes and renames it: a kill leaves the old one or the new one.

    Args:
        keep: how many of the latest contents stay on disk, for the names of files that have a past; a file's former
            contents are ``name.1.ckpt``, then ``name.2.ckpt`` and so on.
    """

    def __init__(self, keep: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.keep = dict(keep or {})

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves atomically; a failure leaves everything as it was."""
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(final)
        try:
            write_checkpoint(checkpoint, temporary)
            for place in range(self.keep.get(final.name, 1) - 1, 0, -1):
                with suppress(FileNotFoundError):
                    _former(final, place - 1).replace(_former(final, place))
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


def checkpoints_of(path: Path) -> list[Path]:
    """The contents that a checkpoint file has and had, the latest first, as far as they are there."""
    places = [path, *sorted(path.parent.glob(f"{path.stem}.*{path.suffix}"), key=_place)]
    return [place for place in places if place.is_file()]


def _former(path: Path, place: int) -> Path:
    return path if place == 0 else path.with_name(f"{path.stem}.{place}{path.suffix}")


def _place(path: Path) -> int:
    number = path.stem.rpartition(".")[2]
    return int(number) if number.isdigit() else 0


class ResumeCheckpoint(Callback):
    """Saves everything that training needs to resume, at least every ``every`` optimiser steps.

    Not on the last batch before a validation or the end of an epoch, nor between batches whose gradients are summed:
    Lightning restores such states only in part, so the save waits for a later batch.

    Nor more often than a share of the training's time allows: where a save takes long and steps are quick, the next one
    waits.

    Args:
        path: the file, replaced by each save.
        every: optimiser steps.
        configuration: stored with the checkpoint, so that another configuration's is recognised.
        share: of training time that saves may take; None for any.
    """

    def __init__(self, path: Path, every: int, configuration: dict[str, Any], share: float | None = None) -> None:
        self.path = path
        self.every = every
        self.configuration = configuration
        self.share = share
        self._saved_at = 0
        self._took = self._ended = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Counts from where training starts."""
        self._saved_at = trainer.global_step
        self._took, self._ended = 0.0, time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time."""
        if trainer.global_step - self._saved_at >= self.every and self._affordable(trainer):
            self.save_now(trainer, batch_idx)

    def save_now(self, trainer: lightning.Trainer, batch_idx: int) -> bool:
        """Saves at the end of a batch, unless that was done or would lose something; whether it is saved."""
        if not _restores_whole(trainer, batch_idx):
            return False
        if self._saved_at != trainer.global_step:
            self._saved_at, started = trainer.global_step, time.monotonic()
            trainer.save_checkpoint(self.path)
            self._ended = time.monotonic()
            self._took = self._ended - started
        return True

    def _affordable(self, trainer: lightning.Trainer) -> bool:
        """Whether the last save is paid off; all ranks hear the same, as they have to save together."""
        paid = self.share is None or (time.monotonic() - self._ended) * self.share >= self._took
        if trainer.world_size == 1 or self.share is None:
            return paid
        return bool(
            trainer.strategy.reduce(torch.tensor(float(paid), device=trainer.strategy.root_device), reduce_op="min")
        )

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the configuration."""
        checkpoint[_CONFIGURATION] = self.configuration


def _restores_whole(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint after this batch would lose nothing."""
    # Without a number of epochs between validations, Lightning counts their interval across epochs.
    counted = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    every = trainer.val_check_batch
    validates = isinstance(every, int) and (counted + 1) % every == 0
    accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
    return not (trainer.is_last_batch or validates or accumulates)


class StepSeed(Callback):
    """Seeds the global generators by (seed, step, batch) before every batch.

    Dropout and rollouts at a step are then the same whether the run was interrupted before or not, and no generator
    state has to be stored. Batches whose gradients are summed differ, and so do ranks.

    Args:
        seed: the experiment's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds."""
        part = batch_idx % trainer.accumulate_grad_batches
        seed = ((self.seed * 1_000_003 + trainer.global_step) * 4099 + trainer.global_rank) * 1009 + part
        torch.manual_seed(seed % 2**64)  # torch refuses more, which a seed of eight digits is


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, or None; every byte is read and held against its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch writes a zip archive with a checksum a tensor
        return None if broken is None else f"{broken} has another content"
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__


def configuration_in(path: Path) -> dict[str, Any] | None:
    """The configuration stored in a checkpoint; None if it has none.

    Raises:
        OSError, RuntimeError, ValueError, EOFError or pickle.UnpicklingError: if the file is not a readable checkpoint.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return checkpoint.get(_CONFIGURATION)


def step_in(path: Path) -> int | None:
    """The optimiser step that a readable checkpoint was taken at; None if it does not say."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("global_step")


def differing_key(ours: Any, theirs: Any, prefix: str = "") -> str | None:
    """``key: theirs -> ours`` for the first key at which two configurations differ, else None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            difference = differing_key(ours.get(key), theirs.get(key), f"{prefix}.{key}" if prefix else str(key))
            if difference:
                return difference
        return None
    return None if ours == theirs else f"{prefix} is {theirs!r} there and {ours!r} here"


_KEY = "dig_samples_a_batch"
_COUNTED = ("batch_progress", "scheduler_progress", "automatic_optimization.optim_progress")


class ElasticResume(Callback):
    """Notes in checkpoints how many samples a batch of all ranks holds, and continues accordingly.

    Weights and the optimiser's state do not know of ranks. Where the batch of all ranks together is as large as it
    was, neither does the order of the data (:class:`~datamodules.loading.EpochBatchSampler`), and training continues
    exactly there. Else its progress is counted in samples: the epoch continues at the same share of its data, and the
    schedule of the learning rate at the same share of its steps.

    Args:
        stage: the stage's name, for the line that says so.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._samples: int | None = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes samples and ranks."""
        samples = self._of_all_ranks(trainer)
        if samples is not None:
            checkpoint[_KEY] = {"samples": samples, "ranks": trainer.world_size}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rewrites what the checkpoint counts in batches, before Lightning's loops read it."""
        before = checkpoint.get(_KEY)
        now = self._of_all_ranks(trainer)
        if before is None or now is None:
            return
        if before["samples"] != now:
            rescale(checkpoint, before["samples"] / now)
        if trainer.is_global_zero and (before["samples"], before["ranks"]) != (now, trainer.world_size):
            order = "the order of the data stays" if before["samples"] == now else "the order of the data changes"
            say(
                f"{self.stage}: the checkpoint is of {before['ranks']} ranks with {before['samples']} samples per "
                f"batch of all, here are {trainer.world_size} with {now}; {order}"
            )

    def _of_all_ranks(self, trainer: lightning.Trainer) -> int | None:
        """Samples that all ranks together see at a batch; None where the loader does not tell."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self._samples is None and data is not None:
            own = getattr(data.train_dataloader(), "samples_per_batch", None)
            self._samples = None if own is None else own * trainer.world_size
        return self._samples


def rescale(checkpoint: dict[str, Any], ratio: float) -> None:
    """Multiplies what a checkpoint counts in batches and steps, rounded down, in place.

    Args:
        checkpoint: of Lightning.
        ratio: samples of a batch then over samples of a batch now.
    """
    loops = checkpoint["loops"]["fit_loop"]
    state = loops["epoch_loop.state_dict"]
    state["_batches_that_stepped"] = int(state["_batches_that_stepped"] * ratio)
    for name in _COUNTED:
        loops[f"epoch_loop.{name}"] = _scaled(loops[f"epoch_loop.{name}"], ratio)
    for loader in loops["state_dict"].get("combined_loader", []):
        loader["position"] = loops["epoch_loop.batch_progress"]["current"]["ready"]
    for schedule in checkpoint["lr_schedulers"]:
        schedule["last_epoch"] = int(schedule["last_epoch"] * ratio)
        schedule["_step_count"] = schedule["last_epoch"] + 1


def _scaled(counts: Any, ratio: float) -> Any:
    if isinstance(counts, dict):
        return {key: _scaled(value, ratio) for key, value in counts.items()}
    return counts if isinstance(counts, bool) or not isinstance(counts, int) else int(counts * ratio)


class Preemption(Callback):
    """Ends training at the next batch's end after which a checkpoint restores everything.

    A signal may have reached one rank alone, so ranks ask each other at every batch's end. Outside of training a signal
    ends the process at once, since artifacts and caches keep what was done. Validation within training is not saved:
    where it lasts longer than the grace after a signal, the last checkpoint is what training resumes from.

    Args:
        stage: the stage's name.
        resume: saves; None where nothing is trained. It has to come before this in the order of callbacks.
    """

    def __init__(self, stage: str = "", resume: ResumeCheckpoint | None = None) -> None:
        self.stage = stage
        self.resume = resume

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on a signal waits for a batch's end."""
        watch = current_watch()
        if watch is not None:
            watch.take_over()
            watch.ends_after = None
            watch.hold()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and leaves when any rank was told to end."""
        watch = current_watch()
        if watch is None or self.resume is None or not _any_rank(trainer, watch.told is not None):
            return
        if not watch.save(partial(self.resume.save_now, trainer, batch_idx)):
            summed = (batch_idx + 1) % trainer.accumulate_grad_batches != 0 and not trainer.is_last_batch
            if watch.interrupted and not summed and trainer.is_global_zero:
                say(f"{self.stage}: what comes now cannot be saved within; training stops after it")
            return
        saved = f"{self.stage}: saved at step {trainer.global_step} ({watch.told or 'a signal to another rank'})"
        if watch.interrupted and watch.name is None:
            if trainer.is_global_zero:
                say(saved)
            raise KeyboardInterrupt
        raise Preempted(saved)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Too late to save: what comes now is quick or begins anew."""
        watch = current_watch()
        if watch is not None:
            watch.release()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Training is over."""
        watch = current_watch()
        if watch is not None:
            watch.release(raising=False)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()
        self._ends_after("this validation and a step")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The next is a step."""
        self._ends_after(None)

    @staticmethod
    def _ends_after(what: str | None) -> None:
        watch = current_watch()
        if watch is not None:
            watch.ends_after = what

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals back from Lightning."""
        _take_over()


def _take_over() -> None:
    watch = current_watch()
    if watch is not None:
        watch.take_over()


def _any_rank(trainer: lightning.Trainer, told: bool) -> bool:
    """Whether any rank was told to end; all ranks ask at once and hear the same."""
    if trainer.world_size == 1:
        return told
    flag = torch.tensor(float(told), device=trainer.strategy.root_device)
    return bool(trainer.strategy.reduce(flag, reduce_op="max") > 0)
