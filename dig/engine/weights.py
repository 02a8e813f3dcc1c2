"""Weights have a source: no tensor of a loaded model may be one that no file gave.

transformers and open_clip start what a checkpoint lacks at random and say so in a log line at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dig.config.errors import UserError

__all__ = [
    "CLIP_WEIGHTS",
    "clip_weights",
    "load_complete",
    "missing_weights",
    "recorded_loading",
    "refuse_missing",
    "without_bars",
    "write_checkpoint",
]

_SHOWN = 3
CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""Names of weights files that open_clip looks for in a folder, in its order; then any other of these endings."""
_CLIP_ENDINGS = (".safetensors", ".bin", ".pth")


def clip_weights(folder: Path) -> Path | None:
    """The one file in a folder from which ``local-dir:`` of open_clip takes the weights; None where there is none."""
    files = sorted(path for ending in _CLIP_ENDINGS for path in folder.glob(f"*{ending}"))
    files.sort(key=lambda path: path.suffix != ".safetensors")
    preferred = [path for path in files if path.name in CLIP_WEIGHTS]
    if preferred:
        return min(preferred, key=lambda path: CLIP_WEIGHTS.index(path.name))
    return files[0] if files else None


def load_complete(load: Callable[..., Any], source: str | Path, where: str, **settings: Any) -> Any:
    """A model of transformers, all of whose weights come from its files.

    Args:
        load: ``from_pretrained`` of a model or of one of the ``Auto`` classes.
        source: a folder or a Hub id.
        where: what names the model in messages, such as ``backbone.pretrained=…``.
        settings: further arguments of ``load``.

    Raises:
        UserError: the files lack weights of the model, hold them in another shape, or are damaged.
    """
    # ignored by transformers, so that they are in its report by their names, and refused here
    settings = {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True, **settings}
    try:
        model, report = load(source, output_loading_info=True, **settings)
    except (RuntimeError, SafetensorError) as error:  # what is left to the caller says itself what is wrong
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{where} cannot be loaded: {lines[0]}") from error
    refuse_missing(where, missing_weights(report))
    return model


def missing_weights(report: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that started at random, by ``output_loading_info`` of transformers; tied ones are not."""
    return sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})


def refuse_missing(where: str, missing: Sequence[str]) -> None:
    """Refuses a model with tensors that no file gave.

    Raises:
        UserError: there are any; names the first of them.
    """
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise UserError(
            f"{where}: its files lack {len(missing)} of the weights or hold them in another shape, and these would be "
            f"random numbers: {shown}; "
            "is a file missing, or is config.json of another model?"
        )


@contextmanager
def recorded_loading() -> Iterator[list[tuple[Any, list[str]]]]:
    """Records what transformers' models lack that are loaded within, by libraries which do not hand it on.

    Yields:
        A list that grows by a model and the names of its missing tensors for every ``from_pretrained``.
    """
    from transformers import PreTrainedModel

    records: list[tuple[Any, list[str]]] = []
    original = PreTrainedModel.__dict__["from_pretrained"]

    def recording(cls: Any, *args: Any, output_loading_info: bool = False, **settings: Any) -> Any:
        model, report = original.__get__(None, cls)(*args, output_loading_info=True, **settings)
        records.append((model, missing_weights(report)))
        return (model, report) if output_loading_info else model

    PreTrainedModel.from_pretrained = classmethod(recording)
    try:
        yield records
    finally:
        PreTrainedModel.from_pretrained = original


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Writes a new file with ``torch.save`` and waits until it is on the disk.

    Raises:
        OSError: the file is there already, or the disk is full.
    """
    import torch

    with path.open("xb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch tells of its archive's state instead of a full disk
                raise error.__context__ from None
            raise
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' bar over the few files of a folder."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
