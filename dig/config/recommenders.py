"""The registry of recommenders: ours, and those that installed packages register.

A recommender describes itself once, in a :class:`RecommenderSpec`. Whatever tells recommenders apart asks here: the
configuration for their settings and the names that ``baselines=[…]`` takes, the pipeline for their stages, the report
for names and colours, sweeps and W&B for what a training logs, ``dig.recommend`` for a loader.

A package of one's own registers one with an entry point, which names the module and the spec in it::

    [project.entry-points."dig.recommenders"]
    next_item = "next_item:SPEC"

The module is imported with the configuration, so it imports little: what is heavy stands in the spec as
``module:attribute`` and is imported when it is used. What is registered wrongly is left out with one warning, and is an
error for who asks for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import OmegaConf

from dig.config.errors import UserError

__all__ = [
    "COLOURS",
    "GROUP",
    "STAGES_BEFORE",
    "RecommenderSpec",
    "Registry",
    "build_registry",
    "is_recommender_name",
    "resolve",
]

GROUP = "dig.recommenders"
"""The group of entry points in which packages register recommenders."""
_OURS = ("popularity", "item_knn", "sasrec", "tiger", "eimf", "intrr")
"""Modules of ``dig.recommenders``, in the order of every table: one line for a further one."""
STAGES_BEFORE = ("prepare", "adapt", "pictures", "mine", "label", "embed", "relations", "tokenize")
"""Stages that recommenders may read."""
COLOURS = 8
"""Colours of the report, which people with any colour vision tell apart."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LONGEST_TITLE = 40
_METHODS = ("fit", "save", "load", "rank")
"""What a recommender that counts has."""
_SHOWN = 200
_TOO_EARLY = (
    "; it is imported together with dig.config, so what needs that is imported in functions, or in a file of its own"
)
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class RecommenderSpec(Generic[S]):
    """What a recommender says of itself.

    It either counts, then ``model`` is all that it needs, or it has a training ``stage`` and a ``loader`` of its own.

    Attributes:
        name: in ``baselines=[…]``, and the name of its section, its stage and its entry point.
        title: as people write it.
        settings: the dataclass of its section, every field with a default; None for a recommender without settings.
        model: ``module:Class`` of a recommender that counts, with ``fit(train, num_items[, settings])``,
            ``save(folder, metadata)`` and ``load(folder)``, and ``rank`` as ``dig.evaluation.Ranker`` has it.
        stage: ``module:attribute`` of its :class:`~dig.engine.stage.Stage`, in place of ``model``.
        loader: ``module:function`` which takes model folder, configuration and device (or None) and returns a ranker;
            goes with ``stage``.
        needs: stages that its own stage always reads.
        logs: what a training logs under a configuration beside ``train/loss`` and the validations.
        samples: histories of one process and one optimiser step; None takes its settings' ``batch_size``.
        colour: number of its colour in the report, from 0; None takes one that is left.
        version: bumped where the same settings and data give another result.
        baseline: whether ``baselines=[…]`` takes it; the policies are trained by stages of their own.
        package: name and version of the package that registers it; None for ours.
    """

    name: str
    title: str
    settings: type[S] | None = None
    model: str | None = None
    stage: str | None = None
    loader: str | None = None
    needs: tuple[str, ...] = ("prepare",)
    logs: Callable[[Any], Sequence[str]] | None = None
    samples: Callable[[Any], int] | None = None
    colour: int | None = None
    version: int = 1
    baseline: bool = True
    package: str | None = None

    @property
    def trained(self) -> bool:
        """Whether it is trained, with validations, and not counted."""
        return self.model is None

    @property
    def wrong(self) -> str:
        """How a message begins that says what is wrong with its registration."""
        return _registers(self.package or "dig", self.name)

    def of(self, config: Any) -> S:
        """Its settings in a configuration."""
        settings: S = getattr(config, self.name)
        return settings

    def batch_size(self, config: Any) -> int | None:
        """Histories (prompts of GRPO) of one process and one optimiser step; None where nothing is trained."""
        if self.samples is not None:
            return self.samples(config)
        return getattr(self.of(config), "batch_size", None) if self.trained and self.settings else None


@dataclass(frozen=True)
class Registry:
    """What is registered.

    Attributes:
        specs: by name, in the order of every table: our baselines, those of packages, the policies.
        broken: one line for each recommender that is registered wrongly, by name.
    """

    specs: dict[str, RecommenderSpec[Any]]
    broken: dict[str, str]

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names that ``baselines=[…]`` takes."""
        return tuple(name for name, spec in self.specs.items() if spec.baseline)


def build_registry(reserved: Set[str]) -> Registry:
    """Ours and those of installed packages; whose module cannot be imported, or whose spec is wrong, is broken.

    Args:
        reserved: names that a package cannot take, since stages and sections of the configuration have them.
    """
    ours = {name: import_module(f"{GROUP}.{name}").SPEC for name in _OURS}
    policies = {spec.name: spec for spec in import_module(f"{GROUP}.policies").SPECS}
    theirs, broken = _installed({**ours, **policies}, reserved)
    return Registry({**ours, **theirs, **policies}, broken)


def resolve(spec: RecommenderSpec[Any], field: str) -> Any:
    """What a field of a spec names as ``module:attribute``; the module is imported.

    Raises:
        UserError: with exit code 2, of a recommender of a package: there is no such thing, its code fails, or it is
            not what the field is for.
    """
    module, _, attribute = getattr(spec, field).partition(":")
    with _named_errors(spec, field):
        value: Any = import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    if spec.package is not None:
        methods = [] if field != "model" else [name for name in _METHODS if not callable(getattr(value, name, None))]
        if methods:
            message = f"expected a class with {', '.join(_METHODS)}, {spec.model} has no {', '.join(methods)}"
            raise UserError(f"{spec.wrong}: {field}: {message}", exit_code=2)
        if field == "loader" and not callable(value):
            message = f"expected a function of folder, configuration and device, {spec.loader} is {_shown(value)}"
            raise UserError(f"{spec.wrong}: {field}: {message}", exit_code=2)
    return value


@contextmanager
def _named_errors(spec: RecommenderSpec[Any], field: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        if spec.package is None:
            raise
        message = f"{field}: expected what can be imported, {getattr(spec, field)!r} fails: {_reason(error)}"
        raise UserError(f"{spec.wrong}: {message}", exit_code=2) from error


class _WrongError(Exception):
    """A field of a spec, and what was expected of it."""


def _installed(
    taken: dict[str, RecommenderSpec[Any]], reserved: Set[str]
) -> tuple[dict[str, RecommenderSpec[Any]], dict[str, str]]:
    """Specs of installed packages by name, and a line for each that is wrong."""
    specs: dict[str, RecommenderSpec[Any]] = {}
    broken: dict[str, str] = {}
    by_name: dict[str, list[tuple[str, EntryPoint]]] = {}
    for package, distribution in sorted(_packages().items()):
        try:
            for point in distribution.entry_points.select(group=GROUP):
                by_name.setdefault(point.name, []).append((package, point))
        except Exception as error:  # the file of a package that nobody may use
            broken[package] = f"the package {package}: entry_points.txt cannot be read: {_reason(error)}"
    for name, points in sorted(by_name.items()):
        package, point = points[0]
        try:
            if len(points) > 1:
                raise _WrongError(f"name: {points[1][0]} registers it, too; expected one package")
            specs[name] = _load(point, package, {**taken, **specs}, reserved)
        except _WrongError as error:
            broken[name] = f"{_registers(package, name)}: {error}"
    return specs, broken


def _registers(package: str, name: str) -> str:
    return f"the package {package} registers the recommender {name} wrongly"


def _packages() -> dict[str, Distribution]:
    """Installed packages that speak of recommenders, by name and version; of several copies that which Python imports.

    The folder that a command runs in is not searched, though ``python -m`` puts it first on the path: it may be a run
    of somebody else's, and what lies there is not installed.
    """
    try:
        here = str(Path.cwd().resolve())
    except FileNotFoundError:  # it was removed
        here = ""
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = {os.path.realpath(folder) for folder in asked if folder}
    folders = [each for each in sys.path if each and (os.path.realpath(each) != here or here in named)]
    packages: dict[str, Distribution] = {}
    names: set[str] = set()
    for distribution in distributions(path=folders):
        try:
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        except (OSError, ValueError):  # a damaged installation of whatever package registers nothing
            continue
        if name not in names:
            packages[f"{name or 'without a name'} {version or ''}".strip()] = distribution
        names.add(name)
    return packages


def _load(
    point: EntryPoint, package: str, taken: dict[str, RecommenderSpec[Any]], reserved: Set[str]
) -> RecommenderSpec[Any]:
    if not _TARGET.fullmatch(point.value.replace(" ", "")):
        raise _WrongError(f"entry point: expected module:attribute, it is {_shown(point.value)}")
    if point.name in taken and taken[point.name].package is None:
        raise _WrongError(f"name: {point.name} is one of dig's own; expected another")
    try:
        spec = point.load()
    except (Exception, SystemExit) as error:  # somebody else's code, which only concerns who uses it
        hint = _TOO_EARLY if isinstance(error, ImportError) and _unfinished(error.name) else ""
        raise _WrongError(f"entry point: {point.value} cannot be imported: {_reason(error)}{hint}") from error
    if not isinstance(spec, RecommenderSpec):
        raise _WrongError(f"entry point: expected a RecommenderSpec, {point.value} is {_shown(spec)}")
    spec = replace(spec, package=package, baseline=True)
    for field, expected, right in _rules(spec, point.name, taken, reserved):
        if not right:
            raise _WrongError(f"{field}: expected {expected}, it is {_shown(getattr(spec, field))}")
    if spec.settings is not None:
        _check_settings(spec.settings)
    return spec


def _unfinished(module: str | None) -> bool:
    """Whether a name of our configuration could not be imported since the configuration is being imported just now."""
    spec = getattr(sys.modules.get("dig.config.schema"), "__spec__", None)
    return (module or "").startswith("dig.config") and bool(getattr(spec, "_initializing", False))


def _rules(
    spec: RecommenderSpec[Any], name: str, taken: dict[str, RecommenderSpec[Any]], reserved: Set[str]
) -> Iterator[tuple[str, str, bool]]:
    """Fields of a spec of somebody else's, what is expected of each, and whether it is so; a later rule may stand on
    those before it."""
    yield "name", f"{name!r}, as the entry point is called", spec.name == name
    yield "name", "small letters, digits and _, 40 at most", is_recommender_name(name)
    yield "name", "none that a stage or a section of the configuration has", name not in reserved
    yield "title", f"a text of 1 to {_LONGEST_TITLE} characters", _is_title(spec.title)
    yield (
        "title",
        "one that no other recommender has",
        spec.title.lower() not in {t.title.lower() for t in taken.values()},
    )
    yield "settings", "a dataclass or None", spec.settings is None or _is_dataclass(spec.settings)
    if spec.model is None:
        alternative = "module:attribute, or model in place of stage and loader"
        yield "stage", alternative, _is_target(spec.stage)
        yield "loader", alternative, _is_target(spec.loader)
    else:
        yield "model", "module:Class", _is_target(spec.model)
        yield "stage", "None beside model", spec.stage is None
        yield "loader", "None beside model", spec.loader is None
    yield "needs", f"a tuple of prepare and further of {', '.join(STAGES_BEFORE)}", _are_stages(spec.needs)
    yield "logs", "a function of the configuration or None", spec.logs is None or callable(spec.logs)
    yield "samples", "a function of the configuration or None", spec.samples is None or callable(spec.samples)
    yield "colour", f"a number from 0 to {COLOURS - 1} or None", spec.colour is None or _is_colour(spec.colour)
    yield "version", "a whole number above 0", type(spec.version) is int and spec.version > 0


def is_recommender_name(name: str) -> bool:
    """Whether a recommender could be called so: the name of a section, a stage and a folder."""
    return _NAME.fullmatch(name) is not None


def _is_title(title: Any) -> bool:
    return isinstance(title, str) and bool(title.strip()) and title.isprintable() and len(title) <= _LONGEST_TITLE


def _is_dataclass(settings: Any) -> bool:
    return isinstance(settings, type) and is_dataclass(settings)


def _is_target(target: Any) -> bool:
    return isinstance(target, str) and _TARGET.fullmatch(target) is not None


def _are_stages(needs: Any) -> bool:
    return isinstance(needs, tuple) and "prepare" in needs and set(needs) <= set(STAGES_BEFORE)


def _is_colour(colour: Any) -> bool:
    return type(colour) is int and 0 <= colour < COLOURS


def _check_settings(settings: Any) -> None:
    """Every field has a default and a type that a configuration can hold, and the defaults pass their own checks."""
    for field in fields(settings):
        if field.default is MISSING and field.default_factory is MISSING:
            raise _WrongError(
                f"settings: expected a default for every field, {settings.__name__}.{field.name} has none"
            )
    try:
        OmegaConf.to_object(OmegaConf.structured(settings))
    except Exception as error:  # the library's on types, their own checks' on values
        expected = "expected fields that a configuration can hold, with defaults that pass their checks"
        raise _WrongError(f"settings: {expected}; {settings.__name__}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    line = " ".join(str(error).split("\n", 1)[0].split())[:_SHOWN]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except Exception:  # its own code
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
