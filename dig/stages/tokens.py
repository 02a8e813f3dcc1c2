"""The token arrays that SFT reads: an artifact of their own, shared by every run with the same prompts."""

from __future__ import annotations

from pathlib import Path

from datamodules.leakage import write_items_seen
from datamodules.prompts import PromptBuilder
from datamodules.sequences import training_windows
from datamodules.splits import Sequences, leading_items
from datamodules.tokens import TokenArrays, write_token_arrays
from dig.artifacts import fingerprint
from dig.stages.base import StageContext, global_rank
from dig.stages.prepare import load_catalogue

__all__ = ["token_arrays"]

_KIND = "tokens"
_VERSION = 1


def token_arrays(context: StageContext, sequences: Sequences, builder: PromptBuilder, pack: bool) -> TokenArrays:
    """The training part's token arrays, written by rank 0 on first use, and the record of the items in them."""
    origin = {
        "version": _VERSION,
        "prepare": context.inputs["prepare"].fingerprint,
        "prompts": builder.fingerprint,
    }

    def build(folder: Path) -> None:
        windows = training_windows(sequences, builder)
        write_token_arrays(windows, builder, folder)
        seen = leading_items(sequences, windows.histories)
        write_items_seen(folder, sequences, seen, load_catalogue(context)["item_id"])

    key = fingerprint(origin)
    if global_rank() == 0:
        return TokenArrays(context.store.get(_KIND, key, build, origin).path, pack)
    return TokenArrays(context.store.wait(_KIND, key).path, pack)
