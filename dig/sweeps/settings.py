"""A sweep as it will run: its file with the arguments of the command line, its metric, each trial's configuration."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dig.config import BASELINES, RECOMMENDERS, STAGES, Config, UserError, config_to_dict, load_config, nearest
from dig.config.documents import read_json_mapping
from dig.config.renamed import LOGGED
from dig.config.schema import BUILT_IN_STAGES
from dig.engine.artifacts import fingerprint
from dig.engine.secrets import shown_override
from dig.sweeps.file import Arguments, MetricGoal, SweepFile, command_arguments, read_sweep, split_arguments, wrong
from dig.sweeps.space import Point, Space, check_grid, override, read_parameters

__all__ = ["FAMILIES", "Metric", "find_metric", "reported", "Settings", "load_settings", "shown_point", "told_of"]


FAMILIES = ("hr", "ndcg")
"""What a validation logs at each cut-off."""
_LESS_IS_BETTER = ("loss", "collision_rate", "largest_collision", "dead_codes", "reconstruction", "kl")


@dataclass(frozen=True)
class Metric:
    """A number of a stage's log.

    Attributes:
        stage: whose.
        name: as it is logged.
        maximize: whether more is better.
        target: a value that ends the sweep.
    """

    stage: str
    name: str
    maximize: bool
    target: float | None = None

    @property
    def validated(self) -> bool:
        """Whether validations tell it while training continues."""
        return self.name.startswith("valid/")

    def better(self, one: float, other: float) -> bool:
        """Whether the first is better."""
        return one > other if self.maximize else one < other

    def reaches_target(self, value: float) -> bool:
        """Whether a sweep may end with this value."""
        return self.target is not None and not self.better(self.target, value)

    def read(self, artifact: Path) -> float:
        """The number of a finished stage: that of the weights that were kept, where the log says it; else the best
        validation; of what training itself logs, the last.

        Raises:
            UserError: the log has it nowhere.
        """
        chosen = artifact / "training.json"
        if chosen.is_file() and isinstance(value := read_json_mapping(chosen).get(self.name), (int, float)):
            return float(value)
        values = [value for _, value in _logged(artifact, self.name) if math.isfinite(value)]
        if not values:
            raise UserError(f"the log of {self.stage} has no {self.name}")
        if not self.validated:
            return values[-1]
        return max(values) if self.maximize else min(values)

    def history(self, artifact: Path) -> list[float]:
        """What each validation of a finished stage's training found; empty for what no validation tells."""
        by_step = dict(_logged(artifact, self.name)) if self.validated else {}
        return [by_step[step] for step in sorted(by_step) if step > 0]  # at 0 the weights before training compete


def find_metric(file: SweepFile, config: Config) -> Metric:
    """What the file looks for, in the log of the last stage of the configuration that writes it.

    Raises:
        UserError: with exit code 2: it is of the test, or no stage that runs reports it.
    """
    asked = file.metric or MetricGoal(f"valid/ndcg@{max(config.evaluation.ks)}", "maximize")
    stage, name = _stage_and_name(file, asked.name)
    stages = reported(config)
    having = [each for each in stages if name in stages[each] and stage in (None, each)]
    if not having:
        raise wrong(file.path, "metric.name", _unknown(asked.name, stage, name, stages))
    return Metric(having[-1], name, _maximize(file, asked, name), asked.target)


def reported(config: Config) -> dict[str, list[str]]:
    """What each stage logs that a configuration trains, in the order in which stages run.

    What a stage needs trains, too: a run of ``grpo`` has the log of ``sft``.
    """
    ks = config.evaluation.ks
    valid = [f"valid/{family}@{k}" for k in ks for family in FAMILIES]
    codebook = [
        f"codebook/{name}_{level}"
        for name in ("batch_usage", "usage", "perplexity", "dead_codes")
        for level in range(1, len(config.rqvae.sizes) + 1)
    ]
    codebook += [f"codebook/{name}" for name in ("collision_rate", "largest_collision", "reconstruction")]
    logged = {"tokenize": ["train/loss", "train/reconstruction", "train/quantizer", *codebook]}
    if config.rqvae.tokenizer != "rqvae":
        del logged["tokenize"]
    for name, spec in RECOMMENDERS.items():
        if spec.trained:
            logged[name] = ["train/loss", *(spec.logs(config) if spec.logs else ()), *valid]
    return {stage: names for stage, names in logged.items() if stage in _running(config)}


def _running(config: Config) -> set[str]:
    """The training stages of a configuration, with those that they need."""
    running = set(config.stages) - (set(BASELINES) - set(config.baselines))
    if config.stages == list(BUILT_IN_STAGES):
        running |= set(config.baselines)  # those of installed packages, too
    for name, spec in reversed(RECOMMENDERS.items()):
        running |= set(spec.needs) if name in running else set()
    return running


def _stage_and_name(file: SweepFile, asked: str) -> tuple[str | None, str]:
    parts = asked.split(".")
    split = parts[1] if len(parts) > 2 else asked.partition("/")[0]
    if split.startswith("test"):
        instead = asked.replace("test_masked", "test").replace("test", "valid", 1)
        raise wrong(
            file.path, "metric.name", f"{asked} is of the test split, by which nothing may be chosen; take {instead}"
        )
    if len(parts) > 2 and parts[1] == "valid":
        return parts[0], f"valid/{'.'.join(parts[2:])}"
    if len(parts) > 1 and parts[0] in STAGES:
        return parts[0], ".".join(parts[1:])
    return None, asked


def _unknown(asked: str, stage: str | None, name: str, stages: dict[str, list[str]]) -> str:
    if not stages:
        return f"no stage that runs reports {asked}: none of them trains"
    if stage is not None and stage not in stages:
        return f"{asked}: {stage} does not report while this runs; {', '.join(stages)} {_do(stages)}"
    if name in LOGGED:
        return f"{asked}: this metric is {asked.removesuffix(name)}{LOGGED[name]} now"
    metric_names = {each for names in (stages.values() if stage is None else [stages[stage]]) for each in names}
    hint = nearest(name, sorted(metric_names))
    return (
        f"no stage that runs reports {asked}{f'; did you mean {hint}?' if hint else ''} ({', '.join(stages)} "
        f"{_do(stages)} report)"
    )


def _do(stages: dict[str, list[str]]) -> str:
    return "does" if len(stages) == 1 else "do"


def _maximize(file: SweepFile, asked: MetricGoal, name: str) -> bool:
    """The file's goal; where it has none and W&B would minimise what should be maximised, it must say so."""
    leaf = name.rpartition("/")[2]
    more_is_better = name.startswith("valid/")
    if asked.goal is None and not any(leaf.startswith(each) for each in _LESS_IS_BETTER):
        raise wrong(file.path, "metric.goal", f"missing: without it W&B minimises {asked.name}; write goal: maximize")
    maximize = asked.goal == "maximize"
    if more_is_better and not maximize:
        raise wrong(file.path, "metric.goal", f"minimize would look for the worst {asked.name}; write goal: maximize")
    return maximize


def _logged(artifact: Path, name: str) -> Iterator[tuple[int, float]]:
    """A metric's values with their steps, those of interrupted attempts before those that continued."""
    for path in sorted((artifact / "logs").glob("*/metrics.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row.get(name):
                    yield int(row["step"]), float(row[name])


# A sweep as it will run: the file with the arguments of the command line, and the configuration of each trial.


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
    given = split_arguments(arguments)
    return load_config(given.experiment, given.overrides)


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
