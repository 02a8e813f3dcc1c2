"""Imports that happen when something is first used, so that a command pays for what it does and for nothing else.

There are two kinds, and both stand where imports stand, at the top of a file:

- a package hands on the public names of its files: ``__getattr__ = lazy_names(__name__, {"GRPOModule": "grpo"})``.
  A stage writes ``from dig import modules`` and ``modules.GRPOModule(…)``, and only building it loads the file;
- a library that only functions use: ``from dig.engine.lazy import lightning`` and ``lightning.Trainer(…)``.

What is subclassed, or used while a file is imported, is imported as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["lazy_names", "lightning", "numpy", "peft", "safetensors", "scipy", "sklearn", "torch", "transformers"]


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are loaded when they are first used (PEP 562).

    Args:
        package: its ``__name__``.
        homes: the file of each name, within the package; for a name of another package the whole module's name.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        value = getattr(import_module(home if home.startswith("dig.") else f"{package}.{home}"), name)
        setattr(sys.modules[package], name, value)  # not asked for again
        return value

    return load


class _Library:
    """A library that is imported, submodule by submodule, when something of it is first used."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what looks at a module from outside does not use it
            raise AttributeError(name)
        inner, library = f"{self.__name__}.{name}", import_module(self.__name__)
        value = getattr(library, name) if hasattr(library, name) else import_module(inner)
        return _Library(inner) if isinstance(value, ModuleType) and value.__name__ == inner else value


if TYPE_CHECKING:
    import lightning.pytorch.plugins.environments
    import numpy
    import peft
    import safetensors.numpy
    import safetensors.torch
    import scipy  # type: ignore[import-untyped]
    import sklearn
    import torch
    import transformers
else:
    lightning, numpy, peft, safetensors, scipy, sklearn, torch, transformers = map(
        _Library, ("lightning", "numpy", "peft", "safetensors", "scipy", "sklearn", "torch", "transformers")
    )
