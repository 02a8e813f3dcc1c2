"""Which terms a configuration switches on, and what they need."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dig.artifacts import fingerprint
from dig.config import Config, UserError, nearest
from dig.rollouts.rewards import REWARD_TERMS
from dig.rollouts.rewards.registry import module_of

__all__ = ["NOT_IMPORTED", "active_needs", "modules_to_import", "own_terms", "stages_behind", "without_own_code"]

_MOST = 300
"""Characters of an error of somebody's own code that are shown."""
_DIG = f"{Path(__file__).resolve().parents[1]}/"
NOT_IMPORTED = "not imported"
"""In the place of a term's source within :func:`without_own_code`."""
_DESCRIBING: ContextVar[bool] = ContextVar("_DESCRIBING", default=False)
_ORIGIN = {"vectors": "embed", "sequential": "sasrec"}
"""The stage that a fact comes from, where that is none which GRPO reads anyway."""


@contextmanager
def without_own_code() -> Iterator[None]:
    """Within it no module that a configuration names is imported: who looks at a configuration does not run it.

    Terms of modules that were imported before are known; of others it is not known what they need, nor their source.
    """
    token = _DESCRIBING.set(True)
    try:
        yield
    finally:
        _DESCRIBING.reset(token)


def modules_to_import(config: Config) -> tuple[str, ...]:
    """Modules that a configuration names and that are not imported yet."""
    return tuple(module for module in config.grpo.reward.modules if module not in sys.modules)


def active_needs(config: Config) -> dict[str, str]:
    """The facts that terms with a weight need, each with the first term that does.

    Imports the modules of ``grpo.reward.modules``, but for :func:`without_own_code`.

    Raises:
        UserError: a module cannot be imported, or there is no such term.
    """
    reward = config.grpo.reward
    unknown = modules_to_import(config) if _DESCRIBING.get() else ()
    for module in () if _DESCRIBING.get() else reward.modules:
        _import(module)
    needs: dict[str, str] = {}
    for name, weight in reward.weights.items():
        if weight and name not in REWARD_TERMS and unknown:
            continue  # one of them may register it
        if weight and name not in REWARD_TERMS:
            hint = nearest(name, REWARD_TERMS)
            raise UserError(f"grpo.reward.extra.{name}: no such term is registered"
                            f"{f'; did you mean {hint}?' if hint else ''}; grpo.reward.modules names the Python module "
                            "that does", exit_code=2)  # fmt: skip
        if weight:
            needs |= {need: name for need in REWARD_TERMS[name].needs if need not in needs}
    return needs


def _import(module: str) -> None:
    """Imports a module of reward terms.

    Raises:
        UserError: there is none, or its own code fails; with the line in it.
    """
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:_MOST]
        if isinstance(error, SyntaxError):
            why = f"{error.msg} ({error.filename}:{error.lineno})"
        elif isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            why = f"{said}; is the folder of its file in PYTHONPATH?"
            if module.endswith(".py") or "/" in module:
                why = f"name the module as Python does, {module.rpartition('/')[2].removesuffix('.py')}, with the " \
                      "folder of its file in PYTHONPATH"  # fmt: skip
        else:
            why = f"{type(error).__name__}: {said}{_raised_in(error)}"
        raise UserError(f"grpo.reward.modules: {module} cannot be imported: {why}", exit_code=2) from None


def _raised_in(error: BaseException) -> str:
    """The last line of somebody's own code on the way to an error; nothing where there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(_DIG) and "/importlib/" not in frame.filename]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def stages_behind(config: Config) -> tuple[str, ...]:
    """The stages that the rewards read besides those that GRPO reads anyway."""
    needs = active_needs(config)
    return tuple(stage for need, stage in _ORIGIN.items() if need in needs)


def own_terms(config: Config) -> dict[str, str]:
    """Hashes of the source of terms that are not the project's, which decide a result, too."""
    active_needs(config)
    found = {}
    for name in config.grpo.reward.extra:
        if name not in REWARD_TERMS and _DESCRIBING.get():
            found[name] = NOT_IMPORTED
            continue
        try:
            found[name] = fingerprint(_source(REWARD_TERMS[name].function))
        except (OSError, KeyError, TypeError):  # typed into an interpreter
            found[name] = "unknown"
    return found


def _source(function: Callable[..., Any]) -> str:
    """A function's own source; of a partial or an object the module's, where its arguments stand."""
    if inspect.isroutine(function):
        return inspect.getsource(function)
    return inspect.getsource(sys.modules[module_of(function)])
