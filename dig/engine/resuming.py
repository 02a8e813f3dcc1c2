"""Which checkpoint an interrupted training goes on from."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import callbacks
from dig.config import UserError
from dig.engine.console import say, warn

__all__ = ["RESUME", "find_checkpoint"]

RESUME = "resume.ckpt"
"""The file that training goes on from; those before it stay beside it (``trainer.keep_checkpoints``)."""
_OF_RANKS = ("trainer.devices", "trainer.num_nodes")
_TAKES_OTHERS = ("sft", "grpo")  # have `resume_from`
_OF_BATCHES = ("batch_size", "prompts_per_step")


def find_checkpoint(stage: str, reads: dict[str, Any], own: Path, given: str | None) -> Path | None:
    """The checkpoint to go on from, after a look at its bytes and at whose it is; None starts anew.

    Args:
        stage: the stage's name, for messages.
        reads: the configuration that decides its result.
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
        _check_owner(reads, theirs, path)
        say(f"{stage}: goes on from the checkpoint {path.name}{_step(path)}")
        return path
    if given:
        return _given(stage, reads, Path(given).expanduser())
    if callbacks.checkpoints_of(own):
        warn(f"{stage}: no checkpoint of the interrupted run is readable; training starts anew")
    elif stage in _TAKES_OTHERS:
        _tell_of_other_ranks(stage, reads, own)
    return None


def _given(stage: str, reads: dict[str, Any], path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{stage}.resume_from={path}: there is no such file")
    problem = callbacks.damage(path)
    if problem:
        raise UserError(f"{stage}.resume_from={path} is no readable checkpoint: {problem}")
    _check_owner(_whatever_ranks(stage, reads), _whatever_ranks(stage, _configuration(path)), path)
    say(f"{stage}: goes on from the checkpoint {path}{_step(path)}")
    return path


def _step(path: Path) -> str:
    step = callbacks.step_in(path)
    return "" if step is None else f", step {step:,}"


def _tell_of_other_ranks(stage: str, reads: dict[str, Any], own: Path) -> None:
    """Names the checkpoint of an interrupted training that differs in ranks alone; nobody goes on from it unasked."""
    folder = own.parent.parent  # of the build; beside it lie those of other configurations
    for path in sorted(folder.parent.glob(f"*.work/{own.parent.name}/{own.name}")):
        with suppress(UserError):
            theirs = _whatever_ranks(stage, _configuration(path))
            if callbacks.differing_key(_whatever_ranks(stage, reads), theirs) is None:
                say(f"{stage}: starts anew; {stage}.resume_from={path} would go on from a training with other ranks")


def _configuration(path: Path) -> dict[str, Any]:
    try:
        return callbacks.configuration_in(path) or {}
    except Exception as error:  # what a zip archive of whatever holds can fail in any way
        raise UserError(f"{path} is no checkpoint of dig: {type(error).__name__}") from None


def _check_owner(ours: dict[str, Any], theirs: dict[str, Any], path: Path) -> None:
    difference = callbacks.differing_key(ours, theirs)
    if difference:
        raise UserError(f"{path} is a checkpoint of another configuration: {difference}")


def _whatever_ranks(stage: str, reads: dict[str, Any]) -> dict[str, Any]:
    """The configuration without how many ranks share how large batches, which weights do not depend on."""
    content = {key: value for key, value in deepcopy(reads).items() if key not in _OF_RANKS}
    for key in _OF_BATCHES:
        if isinstance(content.get(stage), dict):
            content[stage].pop(key, None)
    return content
