"""Stand-ins for SLURM's programs, which write down how they were called."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["stand_in"]


def stand_in(folder: Path, name: str, script: str) -> Path:
    """Puts a shell script called ``name`` at the front of PATH; returns the file that its calls are written to."""
    folder.mkdir(exist_ok=True)
    calls = folder / f"{name}.calls"
    program = folder / name
    program.write_text(f'#!/bin/bash\necho "$@" >> {calls}\n{script}\n')
    program.chmod(0o755)
    if str(folder) not in os.environ["PATH"].split(":"):
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return calls
