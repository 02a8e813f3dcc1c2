"""The packaged language model, turned into a folder once for all tests of a session."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from dig.pretrained import resolve_model

__all__ = ["NAME", "lend_smollm", "smollm_folder"]

NAME = "smollm2-135m"


def _home() -> Path:
    return Path(os.environ["DIG_TESTS_SHARED"]) / "models"


def smollm_folder() -> Path:
    """The folder; about half a minute the first time, which other processes wait for."""
    with patch.dict(os.environ, DIG_HOME=str(_home())):
        return Path(resolve_model(NAME, "tests"))


def lend_smollm(home: Path) -> None:
    """Lets a ``DIG_HOME`` of a test have the folder, too, so that a run in it turns nothing."""
    smollm_folder()
    (home / "artifacts").mkdir(parents=True, exist_ok=True)
    (home / "artifacts" / "pretrained").symlink_to(_home() / "artifacts" / "pretrained")
