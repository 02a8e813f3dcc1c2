"""Looks at the trials as configurations before anything runs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dig.config import Config, UserError, key_type
from dig.engine.console import say, warn
from dig.sweeps.file import wrong
from dig.sweeps.settings import Settings, reported, told_of
from dig.sweeps.space import Parameter, Point, override

__all__ = ["check_trials", "check_effects"]


_MANY = 100
"""Configurations that are looked at one by one, and combinations of a larger grid that are drawn; each takes a tenth of
a second."""
_SECONDS = 5.0
"""For which combinations of a large grid are drawn."""
_VALUES = 50
"""Of a parameter of a large grid that are looked at, spread evenly."""
_LARGEST = 1_000_000
"""Points of a grid without a limit."""


def check_trials(settings: Settings) -> None:
    """All points of a grid, or of a large one each value once and some combinations; of other sweeps each value of a
    list and both ends of a range, in some combination. Says what the file may not mean.

    Raises:
        UserError: with exit code 2 and one line: the point, the key, and the nearest right one.
    """
    grid = settings.file.method == "grid"
    for point in _of_grid(settings) if grid else _covering(settings):
        _check(settings, point)
    if grid:
        _tell_of_order(settings)
    else:
        _tell_of_whole_numbers(settings)


def _of_grid(settings: Settings) -> Iterator[Point]:
    space = settings.space
    size = space.grid_size
    count = min(size, settings.limit or size)
    if count > _LARGEST:
        raise wrong(
            settings.file.path,
            "parameters",
            f"a grid of {size:,} points; take method: random and a run_cap, or --trials N",
        )
    if count <= _MANY:
        yield from space.grid(count)
        return
    axes = {name: _spread(values) for name, values in space.axes().items()}
    seen = list(_turned(axes))  # as many as the longest list has values hold every value of every list
    say(
        f"checking {len(seen):,} of {count:,} configurations, each value once, and combinations for up to "
        f"{_SECONDS:g} seconds; others are checked when their trial begins"
    )
    yield from seen
    chance, started = random.Random(0), time.monotonic()  # noqa: S311 - not for secrets
    for _ in range(_MANY):
        if time.monotonic() - started > _SECONDS:
            return
        yield space.point(chance.randrange(count))


def _spread(values: list[object]) -> list[object]:
    if len(values) <= _VALUES:
        return values
    return [values[round(place * (len(values) - 1) / (_VALUES - 1))] for place in range(_VALUES)]


def _tell_of_order(settings: Settings) -> None:
    """A grid that is cut short tries the last parameters first, and may leave others at one value."""
    size = settings.space.grid_size
    if settings.limit is None or settings.limit >= size:
        return
    points = settings.space.grid(settings.limit)
    still = [
        name
        for name, values in settings.space.axes().items()
        if len(values) > 1 and all(point[name] == points[0][name] for point in points)
    ]
    if still:
        shown = " and ".join(override(name, points[0][name]) for name in still)
        warn(
            f"the first {len(points):,} of {size:,} trials all have {shown}: a grid goes through the last parameter "
            "of the file first; method: random with a run_cap draws from all"
        )


def _tell_of_whole_numbers(settings: Settings) -> None:
    """W&B draws whole numbers between whole bounds, also for a key that takes any."""
    for each in settings.space.varied:
        if each.distribution == "int_uniform" and not each.written and key_type(each.name) is float:
            low, high = each.settings["min"], each.settings["max"]
            drawn = f"{low} and {high} only" if high - low == 1 else f"whole numbers from {low} to {high} only"
            warn(
                f"{settings.file.path}: parameters.{each.name}: min and max are whole numbers, so {drawn} are drawn, "
                f"as W&B does; write {low}.0 and {high}.0 for a uniform draw, or distribution: int_uniform if that is "
                "meant"
            )


def _covering(settings: Settings) -> Iterator[Point]:
    """Points that hold every telling value, beside others that fit it where any do."""
    by_name: dict[str, list[object]] = {name: [] for name in settings.space.names}
    for parameter, value in settings.space.samples():
        by_name[parameter.name].append(value)
    fitting = [{name: values[0] for name, values in by_name.items()}]
    for name, values in by_name.items():
        for value in values:
            candidates = [{**point, name: value} for point in (*fitting[-3:], *_turned(by_name))]
            fitted = next((point for point in candidates if _fits(settings, point)), candidates[0])
            if fitted not in fitting:
                fitting.append(fitted)
            yield fitted


def _turned(by_name: dict[str, list[object]]) -> Iterator[Point]:
    """Points of the second, third … value of each parameter."""
    for turn in range(max((len(values) for values in by_name.values()), default=0)):
        yield {name: values[turn % len(values)] for name, values in by_name.items()}


def _fits(settings: Settings, point: Point) -> bool:
    try:
        _check(settings, point)
    except UserError:
        return False
    return True


def _check(settings: Settings, point: Point) -> None:
    try:
        config = settings.config(point)
        _check_process(config)
        _check_metric(settings, config)
    except UserError as error:
        raise told_of(settings.file.path, point, error) from None


def _check_metric(settings: Settings, config: Config) -> None:
    metric = settings.metric
    if metric.name not in reported(config).get(metric.stage, ()):
        raise UserError(f"no stage reports metric.name: {metric.name} ({metric.stage})", exit_code=2)


def _check_process(config: Config) -> None:
    devices = config.trainer.devices
    one = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if not one or config.trainer.num_nodes != 1:
        raise UserError(
            f"trainer.devices={devices}, trainer.num_nodes={config.trainer.num_nodes}: a trial runs on one "
            "device; leave both at 1 and start more workers",
            exit_code=2,
        )


# Whether a parameter makes any difference: trials that no stage tells apart are one trial.


_BESIDE = 4
"""Points beside which a parameter's values are compared: it may matter under some settings of the others alone."""
_COMPARED = 4


def check_effects(settings: Settings) -> None:
    """Compares the fingerprints of the stages of trials that differ in one parameter alone.

    Nothing is compared before the data are there, since what is read depends on them.

    Raises:
        UserError: with exit code 2, for a parameter that no stage of a trial reads, or whose values are all one.
    """
    for each in settings.space.varied:
        values = _values(settings, each)
        if len(values) > 1 and all(value == values[0] for value in values):
            raise wrong(
                settings.file.path,
                f"parameters.{each.name}",
                f"its values are all {values[0]}, so that "
                f"trials which differ only in it are one; write value: {values[0]}",
            )
    from datamodules.fetching import missing_files  # torch comes along: only once the file itself is right

    if missing_files(settings.base.data):
        return
    unread = [each for each in settings.space.varied if not _matters(settings, each)]
    if not unread:
        return
    names = " and ".join(each.name for each in unread)
    stages = ", ".join(settings.stages)
    raise wrong(
        settings.file.path,
        f"parameters.{unread[0].name}",
        f"{_alike(settings, unread)} are one: no stage "
        f"reads {names} on the way to {stages}; take it out, or name a metric of one that does",
    )


def _matters(settings: Settings, parameter: Parameter) -> bool:
    values = _values(settings, parameter)
    if len(values) < 2:
        return True  # one value alone is not a comparison
    compared = False
    for beside in _points(settings):
        keys = [_keys(settings, {**beside, parameter.name: value}) for value in values]
        values_given = [each for each in keys if each is not None]
        compared |= len(values_given) > 1
        if any(each != values_given[0] for each in values_given):
            return True
    return not compared


def _keys(settings: Settings, point: Point) -> dict[str, str] | None:
    """The fingerprints of a trial's stages; None for a point that is not a configuration."""
    from dig.engine.pipeline import stage_keys

    try:
        return stage_keys(settings.config(point))
    except UserError:
        return None


def _points(settings: Settings) -> list[Point]:
    by_name = {each.name: _values(settings, each) for each in settings.space.varied}
    chance = random.Random(0)  # noqa: S311 - not for secrets
    points = [{name: values[0] for name, values in by_name.items()}]
    if len(by_name) > 1:
        points += [{name: chance.choice(values) for name, values in by_name.items()} for _ in range(_BESIDE - 1)]
    return points


def _values(settings: Settings, parameter: Parameter) -> list[Any]:
    """A few values that stand for a parameter, the ends among them."""
    samples = [value for each, value in settings.space.samples() if each.name == parameter.name]
    if len(samples) <= _COMPARED:
        return samples
    return [samples[round(place * (len(samples) - 1) / (_COMPARED - 1))] for place in range(_COMPARED)]


def _alike(settings: Settings, unread: Sequence[Parameter]) -> str:
    """How many trials are one."""
    if settings.file.method != "grid":
        return "trials that differ only in it"
    axes = settings.space.axes()
    count = 1
    for each in unread:
        count *= len(axes[each.name])
    all_of_it = count == settings.space.grid_size
    return f"these {count:,} trials" if all_of_it else f"each {count:,} trials that differ only in it"
