"""Which reward terms a configuration switches on, what they require, and a trial of somebody's own before training.

What a term of somebody's own would do wrong hours later is reported at the start.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dig.config import Config, UserError, nearest
from dig.engine.artifacts import fingerprint
from dig.engine.console import warn
from dig.engine.stage import StageContext
from dig.rollouts import REWARD_TERMS, RewardContext, Rollouts
from dig.rollouts.rewards import call_term, module_of
from dig.stages.prepare import load_catalogue, load_sequences

__all__ = [
    "NOT_IMPORTED",
    "check_own_terms",
    "made_up_rollouts",
    "modules_to_import",
    "own_terms",
    "required_facts",
    "stages_behind",
    "without_own_code",
]

_MOST = 300
"""Characters of an error of somebody's own code that are shown."""
_DIG = f"{Path(__file__).resolve().parents[1]}/"
NOT_IMPORTED = "not imported"
"""In the place of a term's source within :func:`without_own_code`."""
_DESCRIBING: ContextVar[bool] = ContextVar("_DESCRIBING", default=False)
_ORIGIN = {"vectors": "embed", "sequential": "sasrec"}
"""The stage that a fact comes from, where that is none which GRPO reads anyway."""
_PROMPTS = 2
_REMEMBERED = 5
_WIDTH = 16
_MODELLED = {"vectors", "interests", "sequential"}
"""Facts whose width or values only a model that is not there yet could tell."""


@contextmanager
def without_own_code() -> Iterator[None]:
    """Within it no module that a configuration names is imported: who looks at a configuration does not run it.

    Terms of modules that were imported before are known; of others it is not known what they require, nor their source.
    """
    token = _DESCRIBING.set(True)
    try:
        yield
    finally:
        _DESCRIBING.reset(token)


def modules_to_import(config: Config) -> tuple[str, ...]:
    """Modules that a configuration names and that are not imported yet."""
    return tuple(module for module in config.grpo.reward.modules if module not in sys.modules)


def required_facts(config: Config) -> dict[str, str]:
    """The facts that terms with a weight require, each with the first term that does.

    Imports the modules of ``grpo.reward.modules``, but for :func:`without_own_code`.

    Raises:
        UserError: a module cannot be imported, or there is no such term.
    """
    reward = config.grpo.reward
    unknown = modules_to_import(config) if _DESCRIBING.get() else ()
    for module in () if _DESCRIBING.get() else reward.modules:
        _import(module)
    facts: dict[str, str] = {}
    for name, weight in reward.weights.items():
        if weight and name not in REWARD_TERMS and unknown:
            continue  # one of them may register it
        if weight and name not in REWARD_TERMS:
            hint = nearest(name, REWARD_TERMS)
            raise UserError(
                f"grpo.reward.extra.{name}: no such term is registered{f'; did you mean {hint}?' if hint else ''}; "
                "grpo.reward.modules names the Python module that does",
                exit_code=2,
            )
        if weight:
            facts |= {fact: name for fact in REWARD_TERMS[name].requires if fact not in facts}
    return facts


def _import(module: str) -> None:
    """Imports a module of reward terms.

    Raises:
        UserError: there is none, or its own code fails; with the line in it.
    """
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:_MOST]
        if isinstance(error, SyntaxError):
            why = f"{error.msg} ({error.filename}:{error.lineno})"
        elif isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            why = f"{reason}; is the folder of its file in PYTHONPATH?"
            if module.endswith(".py") or "/" in module:
                name = module.rpartition("/")[2].removesuffix(".py")
                why = f"name the module as Python does, {name}, with the folder of its file in PYTHONPATH"
        else:
            why = f"{type(error).__name__}: {reason}{_raised_in(error)}"
        raise UserError(f"grpo.reward.modules: {module} cannot be imported: {why}", exit_code=2) from None


def _raised_in(error: BaseException) -> str:
    """The last line of somebody's own code on the way to an error; nothing where there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(_DIG) and "/importlib/" not in frame.filename]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def stages_behind(config: Config) -> tuple[str, ...]:
    """The stages that the rewards read besides those that GRPO reads anyway."""
    facts = required_facts(config)
    return tuple(stage for fact, stage in _ORIGIN.items() if fact in facts)


def own_terms(config: Config) -> dict[str, str]:
    """Hashes of the source of terms that are not the project's, which decide a result, too."""
    required_facts(config)
    sources = {}
    for name in config.grpo.reward.extra:
        if name not in REWARD_TERMS and _DESCRIBING.get():
            sources[name] = NOT_IMPORTED
            continue
        try:
            sources[name] = fingerprint(_source(REWARD_TERMS[name].function))
        except (OSError, KeyError, TypeError):  # typed into an interpreter
            sources[name] = "unknown"
    return sources


def _source(function: Callable[..., Any]) -> str:
    """A function's own source; of a partial or an object the module's, where its arguments stand."""
    if inspect.isroutine(function):
        return inspect.getsource(function)
    return inspect.getsource(sys.modules[module_of(function)])


def check_own_terms(context: StageContext) -> None:
    """Calls each term of one's own once, on made-up rollouts of the real catalogue.

    Counts are the real ones; codes, qualities and vectors are made up in their shape, since their stages have not run.

    Raises:
        UserError: a term raises, or gives something else than (batch, group) numbers; with the term and its line.
    """
    config = context.config
    own = [name for name, weight in config.grpo.reward.extra.items() if weight]
    if not own:
        return
    device = _device(config)
    facts = _made_up(context, set(required_facts(config))).to(device)
    rollouts = made_up_rollouts(len(load_catalogue(context)), config.grpo.group_size, device)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name in own:
            before = {what: tensor.clone() for what, tensor in _given(rollouts, facts).items()}
            try:
                call_term(name, rollouts, facts)
                _require_unchanged(name, before, _given(rollouts, facts))
            except (ValueError, KeyError) as error:
                line = f"grpo.reward.extra.{name}: {error.args[0] if error.args else error}"
                modelled = _MODELLED & REWARD_TERMS[name].requires
                if isinstance(error.__cause__, Exception) and modelled:
                    made_up = ", ".join(sorted(modelled))
                    warn(f"{line}; that was on made-up {made_up}, so the run continues; grpo may stop for it")
                    continue
                missing = isinstance(error.__cause__, KeyError) and "were not given" in str(error)
                hint = "; name it in requires=(…) of @reward_term" if missing else ""
                raise UserError(f"{line}{hint}; tried before training, on made-up rollouts", exit_code=2) from None


def made_up_rollouts(items: int, group: int, device: torch.device | str = "cpu") -> Rollouts:
    """Two groups of catalogue items, the first of which holds its target; the second has the shorter history."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(items, (_PROMPTS, group), generator=generator)
    targets = torch.randint(items, (_PROMPTS,), generator=generator)
    rows[0, 0] = targets[0]
    histories = torch.randint(items, (_PROMPTS, _REMEMBERED), generator=generator)
    histories[1, :-1] = -1
    log_probs = -0.5 - torch.arange(_PROMPTS * group, dtype=torch.float32).view(_PROMPTS, group)
    return Rollouts.of_items(*(each.to(device) for each in (rows, targets, log_probs, histories)))


def _given(rollouts: Rollouts, facts: RewardContext) -> dict[str, Tensor]:
    """What a term is given, by the attribute that it has there."""
    names = ("items", "targets", "log_probs", "histories", "valid", "hits", "rows", "first", "ranks")
    return {f"rollouts.{name}": getattr(rollouts, name) for name in names} | {
        f"context.get({name!r})": fact for name, fact in facts.named_buffers()
    }


def _require_unchanged(name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """All terms of a batch see the same tensors, so one that writes into them changes what the others pay."""
    changed = next((what for what in before if not torch.equal(before[what], after[what])), None)
    if changed is not None:
        raise ValueError(
            f"the reward term {name} writes into {changed}, which other terms read, too; work on {changed}.clone()"
        )


class _Undecided(nn.Module):
    """A sequential model that thinks every item equally likely."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items

    def forward(self, histories: Tensor) -> Tensor:
        """(batch, items) log-probabilities."""
        shape = (len(histories), self.items)
        return torch.full(shape, -float(np.log(self.items)), device=histories.device)


def _made_up(context: StageContext, required: set[str]) -> RewardContext:
    """What the terms require, in the shape of the real thing."""
    item_ids = load_catalogue(context)["item_id"].to_list()
    items, rqvae = len(item_ids), context.config.rqvae
    generator = torch.Generator().manual_seed(0)
    sizes = rqvae.codebook_size if isinstance(rqvae.codebook_size, list) else [rqvae.codebook_size] * rqvae.levels
    facts: dict[str, object] = {}
    if "codes" in required:
        facts["codes"] = torch.stack([torch.randint(size, (items,), generator=generator) for size in sizes], dim=1)
    if "quality" in required:
        facts["quality"] = torch.rand(items, generator=generator)
    for name in ("interests", "vectors"):
        if name in required:
            facts[name] = F.normalize(torch.randn(items, _WIDTH, generator=generator), dim=1)
    if "counts" in required:
        facts["counts"] = torch.from_numpy(np.bincount(load_sequences(context).train.flat(), minlength=items))
    if "sequential" in required:
        facts["sequential"] = _Undecided(items)
    return RewardContext(**facts, item_ids=item_ids)  # type: ignore[arg-type]  # each under its own name


def _device(config: Config) -> torch.device:
    """Where rollouts will be, so that constants of a term on another device show."""
    if config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")
