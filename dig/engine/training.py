"""How the training stages train: a Trainer with loggers, exact resume and the choice of the best checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import callbacks
from dig import modules, rollouts, tracking
from dig.config import Config
from dig.engine.artifacts import SCRATCH, atomic_path, shown_path, write_json
from dig.engine.console import progress_enabled, say, warn
from dig.engine.lazy import lightning
from dig.engine.ranks import global_rank, world_size
from dig.engine.stage import StageContext, select
from dig.engine.strategy import RESUME, find_checkpoint, interruptible, meeting, quiet, trainer_place
from dig.engine.weights import write_checkpoint

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.profilers import Profiler

__all__ = [
    "Plan",
    "fit",
    "reads_training",
    "profile_place",
    "profiler_of",
    "why_ended",
]


# What of the Trainer decides a result; the rest (how often to log or save, worker processes) does not.
TRAINER_KEYS = ("seed", "trainer.precision", "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes")
_MONITOR = "valid/ndcg@{k}"


@dataclass(frozen=True)
class Plan:
    """How long a stage trains and how its checkpoint is chosen.

    Attributes:
        stage: its name.
        config_keys: the configuration that decides its result, stored in checkpoints.
        epochs: passes over the data.
        max_steps: optimiser steps, None for no limit.
        gradient_clip_val: gradient clipping, None for none.
        ranked: validate by ranking and keep the best weights; else keep the last.
        validate_every: batches between validations, None for the end of each epoch.
        patience: validations without improvement before stopping, None never stops.
        keep_start: the weights before training compete, too.
        group_rollouts: train through the group rollout loop.
        resume_from: a checkpoint to resume from instead of the stage's own.
        callbacks: the stage's own.
    """

    stage: str
    config_keys: dict[str, Any]
    epochs: int
    max_steps: int | None = None
    gradient_clip_val: float | None = None
    ranked: bool = False
    validate_every: int | None = None
    patience: int | None = None
    keep_start: bool = False
    group_rollouts: bool = False
    resume_from: str | None = None
    callbacks: tuple[Callback, ...] = ()


def fit(
    plan: Plan,
    module: lightning.LightningModule,
    data: lightning.LightningDataModule,
    context: StageContext,
    folder: Path,
) -> None:
    """Trains, resumes where an interrupted build stopped, and leaves the chosen weights in ``module``.

    Logs lie in ``folder/logs``; ``folder/training.json`` tells what was chosen.
    """
    config = context.config
    checkpoints = folder / SCRATCH
    resume = find_checkpoint(plan.stage, plan.config_keys, checkpoints / RESUME, plan.resume_from)
    best = lightning.pytorch.callbacks.ModelCheckpoint(
        checkpoints,
        "best",
        monitor=_monitor(config),
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    _say_effective(plan.stage, config)
    throughput = callbacks.Throughput()
    shards = isinstance(module, modules.PolicyModule) and module.backbone.can_shard
    with quiet(), meeting(plan.stage):
        trainer = _trainer(plan, context, folder, [best] if plan.ranked else [], throughput, shards)
        if plan.group_rollouts:
            rollouts.install_group_rollouts(trainer)
        try:
            with interruptible():
                start = None
                if plan.keep_start:
                    _save_state(module, checkpoints / "start.ckpt")
                    start = _validate(trainer, module, data)[_monitor(config)]
                trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
                chosen = _choose(plan, trainer, module, data, best, start) if plan.ranked else {}
        finally:
            _close(trainer)
    if trainer.is_global_zero:
        ended = why_ended(plan.stage, trainer, _monitor(config), plan.max_steps, plan.patience)
        rate = throughput.samples_per_second
        write_json(
            folder / "training.json",
            {"steps": trainer.global_step, "ended": ended, "samples_per_second": rate, **chosen},
        )
        if config.trainer.profiler is not None:
            place = profile_place(str(trainer.loggers[0].log_dir), folder)
            say(f"{plan.stage}: trainer.profiler={config.trainer.profiler} has left its tables in {place}")


def _trainer(
    plan: Plan,
    context: StageContext,
    folder: Path,
    best: list[Callback],
    throughput: callbacks.Throughput,
    shards: bool,
) -> lightning.Trainer:
    config = context.config.trainer
    place = trainer_place(config, shards)
    plugins = place.pop("plugins", [])
    resume = callbacks.ResumeCheckpoint(
        folder / SCRATCH / RESUME, config.checkpoint_every, plan.config_keys, config.checkpoint_share
    )
    seed = callbacks.StepSeed(context.config.seed)
    guard = callbacks.FiniteGuard(plan.stage, resume.path)
    loggers, watchers = context.tracking.loggers(folder)
    csv = _csv_logger(folder)
    ours: list[Callback] = [seed, throughput, guard, callbacks.ElasticResume(plan.stage), callbacks.LogOften()]
    ours += [lightning.pytorch.callbacks.LearningRateMonitor("step"), *plan.callbacks, *context.callbacks(plan.stage)]
    ours += callbacks.progress_bar(plan.stage, throughput)
    if plan.patience is not None:
        stopping = lightning.pytorch.callbacks.EarlyStopping
        ours.append(
            stopping(_monitor(context.config), patience=plan.patience, mode="max", check_on_train_epoch_end=False)
        )
    return lightning.Trainer(
        **place,
        precision=config.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=config.accumulate_grad_batches,
        max_epochs=plan.epochs,
        max_steps=plan.max_steps if plan.max_steps is not None else -1,
        gradient_clip_val=plan.gradient_clip_val,
        val_check_interval=plan.validate_every,
        check_val_every_n_epoch=None if plan.validate_every else 1,
        limit_val_batches=1.0 if plan.ranked else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every_n_steps,
        logger=[csv, *loggers],
        profiler=profiler_of(config.profiler, csv.log_dir),
        callbacks=[*ours, *watchers, *best, resume, callbacks.Preemption(plan.stage, resume)],
        plugins=[callbacks.AtomicCheckpointIO({RESUME: config.keep_checkpoints}), *plugins],
        use_distributed_sampler=False,  # our samplers deal every sample to one rank
        enable_progress_bar=progress_enabled(),
        enable_model_summary=False,
        inference_mode=False,  # metrics made in one loop are updated in another
        enable_checkpointing=plan.ranked,
        default_root_dir=folder,
    )


def _say_effective(stage: str, config: Config) -> None:
    """Several ranks make a step larger; nothing else follows from that in secret."""
    ranks, samples, summed = (
        world_size(),
        tracking.samples_a_rank(config, stage),
        config.trainer.accumulate_grad_batches,
    )
    if ranks > 1 and global_rank() == 0 and samples is not None:
        batches = f", {summed} batches summed" if summed > 1 else ""
        say(
            f"{stage}: {ranks} ranks with {samples} samples per batch{batches}: {ranks * samples * summed} samples a "
            "step; learning rates are taken as configured"
        )


def _csv_logger(folder: Path) -> lightning.pytorch.loggers.CSVLogger:
    attempt = sum(1 for _ in (folder / "logs").glob("*")) if (folder / "logs").is_dir() else 0
    return lightning.pytorch.loggers.CSVLogger(folder, name="logs", version=f"{attempt:03d}")


def _choose(
    plan: Plan,
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    data: lightning.LightningDataModule,
    best: lightning.pytorch.callbacks.ModelCheckpoint,
    start: float | None,
) -> dict[str, Any]:
    """Leaves the weights with the best validation in the module."""
    monitor = str(best.monitor)
    seen = getattr(module, "validated_at", None) == trainer.global_step
    final = None if seen else _validate(trainer, module, data)[monitor]
    scores = {
        "best": float(best.best_model_score) if best.best_model_score is not None else float("-inf"),
        "final": final if final is not None else float("-inf"),
        "start": start if start is not None else float("-inf"),
    }
    winner = max(scores, key=lambda name: scores[name])
    if winner == "start":
        warn(
            f"{plan.stage}: no checkpoint beat the start on validation ({monitor} {scores['start']:.4f}, best "
            f"{max(scores['best'], scores['final']):.4f}); the starting weights are kept"
        )
        _load_state(module, Path(str(best.dirpath)) / "start.ckpt")
    elif winner == "best":
        _load_state(module, Path(best.best_model_path))
    elif isinstance(module, modules.PolicyModule) and module.sharded is not None:
        module.restore_whole(trainer.strategy.lightning_module_state_dict())
    step = {"start": 0, "final": trainer.global_step}.get(winner)
    if step is None:
        step = callbacks.step_in(Path(best.best_model_path))
    trainer.strategy.barrier("chosen")  # the files go with rank 0's scratch folder: not before all have read them
    return {"chosen": winner, monitor: scores[winner], "start": start, "step": step}


def _save_state(module: lightning.LightningModule, path: Path) -> None:
    state = module.state_dict()
    if isinstance(module, modules.PolicyModule):
        state = module.trained_state(state)
    with atomic_path(path) as temporary:
        write_checkpoint({"state_dict": state}, temporary)


def _load_state(module: lightning.LightningModule, path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    if isinstance(module, modules.PolicyModule):
        module.restore_whole(state)
    else:
        module.load_state_dict(state)


def _validate(
    trainer: lightning.Trainer, module: lightning.LightningModule, data: lightning.LightningDataModule
) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.validate(module, datamodule=data, verbose=False)[0].items()}


def _monitor(config: Config) -> str:
    return _MONITOR.format(k=max(config.evaluation.ks))


def _close(trainer: lightning.Trainer) -> None:
    for logger in trainer.loggers:
        logger.finalize("success")


def reads_training(config: Config, *keys: str) -> dict[str, Any]:
    """A training stage's part of the configuration, without ``resume_from``, which changes no result."""
    settings = select(config, *keys, *TRAINER_KEYS)
    for section in settings.values():
        if isinstance(section, dict):
            section.pop("resume_from", None)
    return settings


_SECTIONS = {"tokenize": "rqvae", "adapt": "visual.adapt"}
"""Section of the configuration by stage, where it is not called like it."""
_PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
"""Lightning's class by the name that the configuration has for it."""
_PROFILE = "profile"


def profiler_of(kind: str | None, logs: str) -> Profiler | None:
    """Lightning's profiler of a name, which writes beside a stage's logs."""
    if kind is None:
        return None
    profiler: Profiler = getattr(lightning.pytorch.profilers, _PROFILERS[kind])(dirpath=logs, filename=_PROFILE)
    return profiler


def profile_place(logs: str, work: Path) -> str:
    """Where the profile lies once the artifact is sealed, which renames its work folder."""
    return shown_path(work.with_suffix("") / Path(logs).relative_to(work))


def why_ended(stage: str, trainer: lightning.Trainer, monitor: str, max_steps: int | None, patience: int | None) -> str:
    """Why a training ended, with the key that says so."""
    section = _SECTIONS.get(stage, stage)
    if max_steps is not None and trainer.global_step >= max_steps:
        return f"{section}.max_steps={max_steps}"
    watching: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector of Lightning's sets it
    stopping = [callback for callback in watching if isinstance(callback, lightning.pytorch.callbacks.EarlyStopping)]
    if patience is not None and any(callback.wait_count >= callback.patience for callback in stopping):
        times = f"{patience} validation{'' if patience == 1 else 's'}"
        return f"{times} without a better {monitor}, {section}.patience={patience}"
    return f"{section}.epochs={trainer.max_epochs}"
