"""Looks at every trial as a configuration before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from dig.config import Config, UserError
from dig.console import say
from dig.sweeps.metric import reported
from dig.sweeps.settings import Settings, told_of
from dig.sweeps.space import Point

__all__ = ["check_trials"]

_MANY = 100  # configurations take a tenth of a second each


def check_trials(settings: Settings) -> None:
    """All points of a grid; of other sweeps each value of a list and both ends of a range, in some combination.

    Raises:
        UserError: with exit code 2 and one line: the point, the key, and the nearest right one.
    """
    if settings.file.method == "grid":
        points = settings.space.grid()[: settings.limit]
        if len(points) > _MANY:
            say(f"checking {len(points):,} configurations")
        for point in points:
            _check(settings, point)
        return
    for point in _covering(settings):
        _check(settings, point)


def _covering(settings: Settings) -> Iterator[Point]:
    """Points that hold every telling value, beside others that fit it where any do."""
    by_name: dict[str, list[object]] = {name: [] for name in settings.space.names}
    for parameter, value in settings.space.samples():
        by_name[parameter.name].append(value)
    fitting = [{name: values[0] for name, values in by_name.items()}]
    for name, values in by_name.items():
        for value in values:
            candidates = [{**point, name: value} for point in (*fitting[-3:], *_turned(by_name))]
            found = next((point for point in candidates if _fits(settings, point)), candidates[0])
            if found not in fitting:
                fitting.append(found)
            yield found


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
        raise UserError(f"trainer.devices={devices}, trainer.num_nodes={config.trainer.num_nodes}: a trial runs on one "
                        "device; leave both at 1 and start more workers", exit_code=2)  # fmt: skip
