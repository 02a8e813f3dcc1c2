"""A sweep as it will run: the file with the arguments of the command line, and the configuration of each trial."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dig.config import Config, UserError, config_to_dict, load_config
from dig.config.schema import BUILT_IN_STAGES
from dig.engine.artifacts import fingerprint
from dig.engine.secrets import shown_override
from dig.sweeps.command import Arguments, command_arguments, split_arguments
from dig.sweeps.file import SweepFile, read_sweep, wrong
from dig.sweeps.metric import Metric, find_metric
from dig.sweeps.parameters import override, read_parameters
from dig.sweeps.space import Point, Space, check_grid

__all__ = ["Settings", "load_settings", "shown_point", "told_of"]

_RESERVED = ("stages", "runs_dir", "run_id")
_WANDB = ("logging.wandb.mode=", "logging.wandb=", "logging=")
_TRIES = 12  # points that are tried for one that fits


@dataclass(frozen=True)
class Settings:
    """A sweep.

    Attributes:
        file: what its file says.
        given: fixed arguments, those of the command line last.
        pinned: parameters of the file that the command line fixes.
        space: what varies.
        metric: what is looked for.
        stages: of every trial.
        base: the configuration of one point that fits.
        folder: where the sweep lies.
        limit: trials at most.
    """

    file: SweepFile
    given: Arguments
    pinned: tuple[str, ...]
    space: Space
    metric: Metric
    stages: tuple[str, ...]
    base: Config
    folder: Path
    limit: int | None

    def arguments(self, point: Point) -> list[str]:
        """What ``dig.train`` takes to run a point by itself."""
        return _arguments(self.given, self.space, point)

    def command(self, point: Point) -> list[str]:
        """What ``dig.train`` takes to run a point by itself and to test it: the last of every key."""
        arguments = [*self.arguments(point), f"stages=[{','.join(self.stages)},report]"]
        last = {argument.partition("=")[0]: argument for argument in arguments}
        return [each for key, each in last.items() if key != "logging.wandb.mode"]

    def config(self, point: Point, number: int | None = None) -> Config:
        """The configuration of a trial.

        Args:
            point: what varies.
            number: the trial's, from 0; None where nothing runs.

        Raises:
            UserError: with exit code 2, if the point is none.
        """
        own = [f"runs_dir={self.folder / 'runs'}"] + ([] if number is None else [f"run_id=trial-{number + 1:04d}"])
        return _load([*self.arguments(point), f"stages=[{','.join(self.stages)}]", *own])


def load_settings(path: Path, arguments: Sequence[str], limit: int | None = None) -> Settings:
    """Reads a sweep file and joins it with arguments of the command line, which go before it.

    Args:
        path: the file.
        arguments: ``experiment=NAME`` and ``key=value``.
        limit: trials at most, in place of the file's ``run_cap``.

    Raises:
        UserError: with exit code 2, for whatever is wrong with them.
    """
    file = read_sweep(path)
    parameters = read_parameters(path, file.parameters)
    reserved = next((each.name for each in parameters if each.name in _RESERVED), None)
    if reserved is not None:
        raise wrong(path, f"parameters.{reserved}", "cannot vary: a sweep sets it for its trials")
    if file.method == "grid":
        check_grid(path, parameters)
    given, pinned = _joined(file, arguments, [each.name for each in parameters])
    space = Space.of(parameters, pinned)
    limit = limit or file.run_cap
    if file.method != "grid" and limit is None:
        raise wrong(path, "run_cap", f"missing, and method: {file.method} has no end; write it, or give --trials N")
    if given.experiment is None and "experiment" not in (*space.names, *space.constants):
        raise UserError(f"{path}: which experiment? add experiment=NAME here or to the file's command", exit_code=2)
    base = _fitting(file, given, space)
    if base.run_id is not None:
        raise UserError("run_id cannot be set: each trial has its own", exit_code=2)
    metric = find_metric(file, base)
    stages = _stages(base, metric)
    folder = Path(base.runs_dir).absolute() / "sweeps" / file.name / _identity(file, space, base)
    return Settings(file, given, pinned, space, metric, stages, base, folder, limit)


def shown_point(point: Point) -> str:
    """A point as people read it."""
    return ", ".join(shown_override(override(name, value)) for name, value in point.items()) or "no parameter varies"


def told_of(path: Path, point: Point, error: UserError) -> UserError:
    """The error of a point, with the file: and with the point itself, unless one parameter alone is wrong."""
    text = str(error)
    alone = any(
        text.startswith((f"{shown_override(override(name, value))}:", f"{name}:")) for name, value in point.items()
    )
    where = "parameters" if alone else f"the trial {shown_point(point)}" if point else "command"
    return UserError(f"{path}: {where}: {text}", exit_code=2)


def _joined(file: SweepFile, arguments: Sequence[str], names: Sequence[str]) -> tuple[Arguments, tuple[str, ...]]:
    """The file's arguments and then those of the command line; W&B stays off unless the latter ask for it."""
    written, typed = command_arguments(file), split_arguments(list(arguments))
    overrides = [*written.overrides]
    if not any(each.startswith(_WANDB) for each in typed.overrides):
        overrides.append("logging.wandb.mode=disabled")  # whatever the file says: no account is needed here
    pinned = tuple(name for name in names if any(each.startswith(f"{name}=") for each in typed.overrides))
    if typed.experiment is not None and "experiment" in names:
        pinned = (*pinned, "experiment")
    return Arguments(typed.experiment or written.experiment, (*overrides, *typed.overrides)), pinned


def _arguments(given: Arguments, space: Space, point: Point) -> list[str]:
    values = {**space.constants, **point}
    experiment = values.pop("experiment", given.experiment)
    return [f"experiment={experiment}", *given.overrides, *(override(name, each) for name, each in values.items())]


def _load(arguments: list[str]) -> Config:
    found = split_arguments(arguments)
    return load_config(found.experiment, found.overrides)


def _fitting(file: SweepFile, given: Arguments, space: Space) -> Config:
    """The configuration of the first point that is one; the same on every worker."""
    chance = random.Random(0)  # noqa: S311 - not for secrets
    by_name = {name: [value for each, value in space.samples() if each.name == name] for name in space.names}
    points = [{name: values[0] for name, values in by_name.items()}]
    points += [{name: chance.choice(values) for name, values in by_name.items()} for _ in range(_TRIES)]
    first: UserError | None = None
    for point in points:
        try:
            return _load(_arguments(given, space, point))
        except UserError as error:
            first = first or told_of(file.path, point, error)
    raise first or AssertionError("there are points")


def _stages(config: Config, metric: Metric) -> tuple[str, ...]:
    """As far as the metric needs; stages that were named stay, but nothing is tested."""
    if config.stages == list(BUILT_IN_STAGES):
        return (metric.stage,)
    named = tuple(stage for stage in config.stages if stage != "report")
    return named if metric.stage in named or metric.stage not in config.stages else (*named, metric.stage)


def _identity(file: SweepFile, space: Space, base: Config) -> str:
    """What makes two commands the same sweep: not how many trials they may run."""
    bands = None if file.bands is None else [list(file.bands.at), file.bands.eta, file.bands.strict]
    metric = None if file.metric is None else [file.metric.name, file.metric.goal]
    content = config_to_dict(base)
    for key in ("runs_dir", "logging"):
        content.pop(key)
    varied = [[each.name, each.distribution, dict(each.settings)] for each in space.varied]
    return fingerprint([file.method, metric, bands, varied, space.constants, content])[:12]
