"""How ranks share a Trainer's work, which checkpoint a training resumes from, and what is said when a rank is lost."""

from __future__ import annotations

import logging
import re
import signal
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

import callbacks
from dig.config import UserError, nearest
from dig.config.schema import TrainerConfig
from dig.engine.console import say, warn
from dig.engine.lazy import lightning
from dig.engine.machine import accelerator_here, devices_here
from dig.engine.ranks import global_rank, world_size
from dig.slurm.job import current_job

__all__ = [
    "check_trainer",
    "devices_here",
    "interruptible",
    "meeting",
    "quiet",
    "strategy_for",
    "trainer_place",
    "RESUME",
    "find_checkpoint",
]


_PLACED = ("accelerator", "devices", "strategy", "precision")
_KNOWN_HINTS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*in eval mode.*",
    ".*can_use_flash_attention.*",
    ".*overridden `transfer_batch_to_device`.*",
    ".*infer the batch indices.*",
    ".*all_gather is deprecated.*",
    ".*`srun` command is available.*",
)
_LOST = re.compile(r"connection (closed|reset|refused)|timed out|broken pipe|\bnccl\b|\bgloo\b", re.IGNORECASE)


def strategy_for(config: TrainerConfig, shards: bool = False) -> lightning.pytorch.strategies.Strategy | str:
    """Lightning's strategy, with our patience.

    Args:
        config: the trainer's settings.
        shards: whether what is trained can be shared out; under ``fsdp`` everything else is held whole by each rank.

    Raises:
        UserError: there is no such strategy.
    """
    ranks = max(world_size(), devices_here(config) * config.num_nodes)
    timeout = timedelta(seconds=config.timeout)
    if ranks == 1 and config.strategy in ("auto", "ddp", "fsdp"):
        return "auto"
    if config.strategy == "fsdp" and shards:
        # one file a checkpoint, so that any number of ranks and the report can read it
        return lightning.pytorch.strategies.ModelParallelStrategy(
            ranks, 1, save_distributed_checkpoint=False, timeout=timeout
        )
    if config.strategy in ("auto", "ddp", "fsdp"):
        return lightning.pytorch.strategies.DDPStrategy(timeout=timeout)
    strategies = [
        name
        for name in lightning.pytorch.strategies.StrategyRegistry.available_strategies()
        if not re.search("_(spawn|fork|notebook)", name)
    ]
    if config.strategy not in strategies:
        hint = nearest(config.strategy, strategies) or "ddp"
        raise UserError(f"trainer.strategy={config.strategy} is none of Lightning's; did you mean {hint!r}?", 2)
    return config.strategy


def trainer_place(config: TrainerConfig, shards: bool = False) -> dict[str, Any]:
    """Where a Trainer runs: its accelerator, devices, nodes, strategy and what tells the ranks apart.

    Args:
        config: the trainer's settings.
        shards: as of :func:`strategy_for`.
    """
    on_cpu = config.devices == "auto" and accelerator_here(config) == "cpu"
    place: dict[str, Any] = {
        "accelerator": config.accelerator,
        "devices": 1 if on_cpu else config.devices,
        "num_nodes": config.num_nodes,
        "strategy": strategy_for(config, shards),
    }
    environments: Any = lightning.pytorch.plugins.environments  # lazily a submodule, which no stub tells of
    if (
        environments.SLURMEnvironment.detect()
        and current_job() is None
        and not environments.TorchElasticEnvironment.detect()
    ):
        # a notebook's job, a shell's: Lightning would take this process for a task of it
        place["plugins"] = [environments.LightningEnvironment()]
    return place


def check_trainer(config: TrainerConfig) -> None:
    """Makes a Trainer of it once, before anything is computed: what Lightning refuses is a line then.

    Raises:
        UserError: with exit code 2.
    """
    try:
        with quiet():
            lightning.Trainer(
                **trainer_place(config),
                precision=config.precision,  # type: ignore[arg-type]
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except (
        lightning.fabric.utilities.exceptions.MisconfigurationException,
        ValueError,
        TypeError,
        ImportError,
        RuntimeError,
    ) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        settings = ", ".join(f"trainer.{key}={getattr(config, key)}" for key in _PLACED)
        raise UserError(f"Lightning refuses {settings}: {reason}", exit_code=2) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's hints about what dig decides itself off the screen; errors and warnings of others stay."""
    packages = (lightning.pytorch, lightning.fabric)  # whose import, which may be the first, sets these levels
    loggers = [logging.getLogger(package.__name__) for package in packages]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in _KNOWN_HINTS:
            warnings.filterwarnings("ignore", text)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def interruptible() -> Generator[None]:
    """Ctrl-C leaves a Trainer as what it is.

    Lightning answers it with ``exit(1)``, and ignores any further one, which a notebook would be left with; the command
    line has a line and an exit code of its own for it.

    Raises:
        KeyboardInterrupt: in place of that ``SystemExit``; any other passes.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # a Trainer is `interrupted` by any other exit, too
            if handler is not None:  # None is not Python's, which cannot set it
                signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise


@contextmanager
def meeting(stage: str) -> Generator[None]:
    """Turns what a rank sees when another one is gone into a line.

    Raises:
        UserError: a rank did not come, or left.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, torch.distributed.DistError) or _LOST.search(str(error))):
            raise
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{stage}: rank {global_rank()} has lost another rank, or waited for it longer than trainer.timeout "
            f"({first}); the launcher tells which; the same command resumes from the last checkpoint"
        ) from error


RESUME = "resume.ckpt"
"""The file that training resumes from; those before it stay beside it (``trainer.keep_checkpoints``)."""
_OF_RANKS = ("trainer.devices", "trainer.num_nodes")
_TAKES_OTHERS = ("sft", "grpo")  # have `resume_from`
_OF_BATCHES = ("batch_size", "prompts_per_step")


def find_checkpoint(stage: str, config_keys: dict[str, Any], own: Path, given: str | None) -> Path | None:
    """The checkpoint to resume from, after a look at its bytes and at whose it is; None starts anew.

    Args:
        stage: the stage's name, for messages.
        config_keys: the configuration that decides its result.
        own: the stage's own file; one that is damaged gives way to the one before it.
        given: a file that the user names to begin with; it may be of other ranks or batch sizes.

    Raises:
        UserError: the file that the user names is not there or damaged, or a checkpoint is of another configuration.
    """
    for path in callbacks.checkpoints_of(own):
        try:
            problem, theirs = callbacks.damage(path), _configuration(path)
        except UserError as error:  # a sound archive of something else
            problem, theirs = callbacks.damage(path) or str(error), {}
        if problem:
            warn(f"{stage}: the checkpoint {path.name} of the interrupted run is damaged ({problem})")
            continue
        _check_owner(config_keys, theirs, path)
        say(f"{stage}: resumes from the checkpoint {path.name}{_step(path)}")
        return path
    if given:
        return _given(stage, config_keys, Path(given).expanduser())
    if callbacks.checkpoints_of(own):
        warn(f"{stage}: no checkpoint of the interrupted run is readable; training starts anew")
    elif stage in _TAKES_OTHERS:
        _tell_of_other_ranks(stage, config_keys, own)
    return None


def _given(stage: str, config_keys: dict[str, Any], path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{stage}.resume_from={path}: there is no such file")
    problem = callbacks.damage(path)
    if problem:
        raise UserError(f"{stage}.resume_from={path} is not a readable checkpoint: {problem}")
    _check_owner(_whatever_ranks(stage, config_keys), _whatever_ranks(stage, _configuration(path)), path)
    say(f"{stage}: resumes from the checkpoint {path}{_step(path)}")
    return path


def _step(path: Path) -> str:
    step = callbacks.step_in(path)
    return "" if step is None else f", step {step:,}"


def _tell_of_other_ranks(stage: str, config_keys: dict[str, Any], own: Path) -> None:
    """Names the checkpoint of an interrupted training that differs in ranks alone; nobody resumes from it unasked."""
    folder = own.parent.parent  # of the build; beside it lie those of other configurations
    for path in sorted(folder.parent.glob(f"*.work/{own.parent.name}/{own.name}")):
        with suppress(UserError):
            theirs = _whatever_ranks(stage, _configuration(path))
            if callbacks.differing_key(_whatever_ranks(stage, config_keys), theirs) is None:
                say(f"{stage}: starts anew; {stage}.resume_from={path} would resume from a training with other ranks")


def _configuration(path: Path) -> dict[str, Any]:
    try:
        return callbacks.configuration_in(path) or {}
    except Exception as error:  # what a zip archive of whatever holds can fail in any way
        raise UserError(f"{path} is not a checkpoint of dig: {type(error).__name__}") from None


def _check_owner(ours: dict[str, Any], theirs: dict[str, Any], path: Path) -> None:
    difference = callbacks.differing_key(ours, theirs)
    if difference:
        raise UserError(f"{path} is a checkpoint of another configuration: {difference}")


def _whatever_ranks(stage: str, config_keys: dict[str, Any]) -> dict[str, Any]:
    """The configuration without how many ranks share how large batches, which weights do not depend on."""
    content = {key: value for key, value in deepcopy(config_keys).items() if key not in _OF_RANKS}
    for key in _OF_BATCHES:
        if isinstance(content.get(stage), dict):
            content[stage].pop(key, None)
    return content
