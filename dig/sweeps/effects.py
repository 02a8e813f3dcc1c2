"""Whether a parameter makes any difference: trials that no stage tells apart are one trial."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from datamodules.fetching import missing_files
from dig.config import UserError
from dig.engine.pipeline import stage_keys
from dig.sweeps.file import wrong
from dig.sweeps.parameters import Parameter
from dig.sweeps.settings import Settings
from dig.sweeps.space import Point

__all__ = ["check_effects"]

_BESIDE = 4
"""Points beside which a parameter's values are compared: it may matter under some settings of the others alone."""
_VALUES = 4


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
                f"trials which differ in it alone are one; write value: {values[0]}",
            )
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
        return True  # one value alone is no comparison
    compared = False
    for beside in _points(settings):
        found = [_keys(settings, {**beside, parameter.name: value}) for value in values]
        known = [each for each in found if each is not None]
        compared |= len(known) > 1
        if any(each != known[0] for each in known):
            return True
    return not compared


def _keys(settings: Settings, point: Point) -> dict[str, str] | None:
    """The fingerprints of a trial's stages; None for a point that is no configuration."""
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
    found = [value for each, value in settings.space.samples() if each.name == parameter.name]
    if len(found) <= _VALUES:
        return found
    return [found[round(place * (len(found) - 1) / (_VALUES - 1))] for place in range(_VALUES)]


def _alike(settings: Settings, unread: Sequence[Parameter]) -> str:
    """How many trials are one."""
    if settings.file.method != "grid":
        return "trials that differ in it alone"
    axes = settings.space.axes()
    count = 1
    for each in unread:
        count *= len(axes[each.name])
    all_of_it = count == settings.space.grid_size
    return f"these {count:,} trials" if all_of_it else f"each {count:,} trials that differ in it alone"
