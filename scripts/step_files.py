"""How many files of the project a training step passes through: ``python -m scripts.step_files [key=value …]``.

Runs ``dig.train experiment=quickstart`` on a small shop and notes, for the first batch of each training, the files of
``dig``, ``datamodules`` and ``callbacks`` in which a function was called: from the loader to the optimiser's step. Keys
are those of ``dig.train``.
"""

from __future__ import annotations

import runpy
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

_PROJECT = Path(__file__).resolve().parents[1]
_SMALL = (
    "experiment=quickstart",
    "stages=[grpo]",
    "data.shop.users=60",
    "data.shop.items=80",
    "visual.model=null",
    "visual.adapt.epochs=0",
    "mining.miners=[lexical]",
    "rqvae.epochs=2",
    "rqvae.codebook_size=8",
    "sft.max_steps=2",
    "grpo.max_steps=2",
    "grpo.validate_every=2",
    "logging.progress=false",
)


def main() -> None:
    """Prints each training's module, how many files its step passes through, and which."""
    files: dict[str, set[str]] = defaultdict(set)
    step = _TrainingEpochLoop.advance

    def noted(loop: Any, fetcher: Any) -> None:
        module = type(loop.trainer.lightning_module).__name__

        def note(frame: FrameType, event: str, argument: object) -> None:
            path = Path(frame.f_code.co_filename)
            if event == "call" and path.is_relative_to(_PROJECT) and ".venv" not in path.parts:
                files[module].add(path.relative_to(_PROJECT).as_posix())

        sys.setprofile(note)
        try:
            step(loop, fetcher)
        finally:
            sys.setprofile(None)

    _TrainingEpochLoop.advance = noted  # type: ignore[method-assign]
    sys.argv = ["dig.train", *_SMALL, *sys.argv[1:]]
    try:
        runpy.run_module("dig.train", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    for module, names in files.items():
        print(f"{module}: {len(names)} files: {' '.join(sorted(names - {'scripts/step_files.py'}))}")


if __name__ == "__main__":
    main()
