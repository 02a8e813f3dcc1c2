"""What a killed process left of a W&B run, mended, so that the next attempt can go on in it without a gap.

W&B's process writes its records in blocks of 32 KiB, so a kill cuts a record in two and loses up to a block of them.
`wandb sync` stops at a cut record and would never come to the records of the attempt that went on.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dig.engine.console import warn
from dig.engine.own_files import atomic_path
from dig.tracking.records import whole_records

__all__ = ["last_step", "mend_records", "rows_since"]

_OPENING = 2  # records until W&B knows which run it is


def mend_records(folder: Path, run_id: str) -> None:
    """Cuts what is incomplete off the end of the records that earlier attempts at a W&B run left.

    A file in which not even the run itself was written is set aside: it would stop the sync of all others.

    Each file becomes a copy of itself: W&B's process outlives the one that was killed, by a moment or more on a busy
    machine, and a block that it still writes must not land behind the place of the cut.

    Args:
        folder: that holds the folders of W&B runs.
        run_id: the W&B run.
    """
    for path in _files(folder, run_id):
        found = whole_records(path)
        if found is None:
            warn(f"W&B: {path} is damaged and cannot be sent as a whole")
        elif len(found) < _OPENING:
            path.rename(path.with_name(f"{path.name}.empty"))
        else:
            with atomic_path(path) as copy:
                shutil.copyfile(path, copy)
                os.truncate(copy, found[-1].end)


def last_step(folder: Path, run_id: str, name: str) -> int:
    """The highest step that the records of a W&B run know, -1 for none.

    Args:
        folder: that holds the folders of W&B runs.
        run_id: the W&B run.
        name: of the metric that counts steps.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    last = -1
    for path in _files(folder, run_id):
        for each in whole_records(path) or []:
            record = Record.FromString(each.content)
            for item in record.history.item:
                if name in (item.key, "/".join(item.nested_key)):
                    last = max(last, int(json.loads(item.value_json)))
    return last


def rows_since(logs: Path, step: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps and metrics of a stage's own logs, from a step on, attempt after attempt; a line that was cut is left out.

    All attempts, since one that was killed soon may have lost again what it had caught up with.

    Args:
        logs: a stage's folder of logs, with a folder an attempt.
        step: the first that is wanted.
    """
    for path in sorted(logs.glob("*/metrics.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            lines = csv.reader(stream)
            names = next(lines, [])
            for line in lines:
                try:
                    row = {name: float(value) for name, value in zip(names, line, strict=True) if value}
                except ValueError:
                    continue
                at = int(row.pop("step", -1.0))
                if at >= step:
                    yield at, row


def _files(folder: Path, run_id: str) -> list[Path]:
    return sorted(folder.glob(f"*run-*-{run_id}/run-{run_id}.wandb"))
