"""Memory that a model takes, known from the headers of its files before any of it is loaded."""

from __future__ import annotations

import math
from pathlib import Path

from dig.config.errors import UserError
from dig.engine.console import warn
from dig.engine.machine import available_memory, gigabytes, total_memory
from dig.received.models import folder_headers
from dig.received.weights import WIDTHS

__all__ = ["check_memory", "stored_bytes"]


def stored_bytes(folder: Path, width: int | None = None) -> int | None:
    """Bytes of the weights in a folder in memory.

    Args:
        folder: of transformers, with weights in safetensors.
        width: bytes of a number once they are loaded; None as they are stored.

    Returns:
        None where the headers cannot be read, which is told by whoever loads it.
    """
    try:
        headers = folder_headers(folder)
    except UserError:
        return None
    return sum(math.prod(each.shape) * (width or WIDTHS[each.dtype]) for each in headers.values())


def check_memory(source: str, where: str, width: int | None = None, gpu: int | None = None) -> None:
    """Refuses a folder whose weights this machine does not hold.

    Args:
        source: a folder; a hub's model that is not on this machine is not judged.
        where: what names the model in messages.
        width: bytes of a number once they are loaded; None as they are stored.
        gpu: bytes of the memory of the GPU that the model goes to; None for the machine's own.

    Raises:
        UserError: they are more than there is.
    """
    folder = Path(source)
    needed = stored_bytes(folder, width) if folder.is_dir() else None
    total = total_memory() if gpu is None else gpu
    if needed is None or total is None:
        return
    said = f"{where}: its weights take {gigabytes(needed)} of memory"
    if needed > total:
        raise UserError(
            f"{said}, and {'this machine' if gpu is None else 'the GPU'} has {gigabytes(total)}; take a smaller model"
            + ("" if width == 2 else ", or bfloat16, which halves float32")
        )
    free = available_memory() if gpu is None else None
    if free is not None and needed > free:
        warn(f"{said}, and {gigabytes(free)} are available now")
