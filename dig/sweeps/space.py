"""The space that a sweep searches: points of a grid, or draws by Optuna."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.sweeps.file import wrong
from dig.sweeps.parameters import Parameter
from dig.sweeps.quantiles import quantile

if TYPE_CHECKING:
    import optuna

__all__ = ["Point", "Space", "check_grid"]

Point = dict[str, Any]
"""Values by parameter, constants left out."""

_GRIDDED = ("constant", "categorical", "int_uniform", "q_uniform")


@dataclass(frozen=True)
class Space:
    """What varies and what does not.

    Attributes:
        varied: in the order of the file; those with one value alone among them.
        constants: values of parameters that are fixed.
    """

    varied: Sequence[Parameter]
    constants: Point

    @classmethod
    def of(cls, parameters: Sequence[Parameter], pinned: Sequence[str] = ()) -> Space:
        """Constants apart from the rest; parameters that are pinned elsewhere are left out."""
        kept = [each for each in parameters if each.name not in pinned]
        constants = {each.name: each.settings["value"] for each in kept if each.distribution == "constant"}
        return cls([each for each in kept if each.distribution != "constant"], constants)

    @property
    def names(self) -> list[str]:
        """Of what varies."""
        return [parameter.name for parameter in self.varied]

    @property
    def grid_size(self) -> int:
        """Points of the grid."""
        return prod(len(_grid_values(parameter)) for parameter in self.varied)

    def grid(self, limit: int | None = None) -> list[Point]:
        """Every point, or the first so many; the last parameter of the file varies fastest."""
        chosen = islice(product(*self.axes().values()), limit)
        return [dict(zip(self.names, values, strict=True)) for values in chosen]

    def axes(self) -> dict[str, list[Any]]:
        """The values of each parameter in a grid."""
        return {parameter.name: _grid_values(parameter) for parameter in self.varied}

    def point(self, number: int) -> Point:
        """The point of a grid with a number, without making those before it."""
        found = {}
        for name, values in reversed(self.axes().items()):
            number, place = divmod(number, len(values))
            found[name] = values[place]
        return {name: found[name] for name in self.names}

    def draw(self, trial: optuna.Trial) -> Point:
        """Lets Optuna choose a point; asked again, a trial gives the same one."""
        return {parameter.name: _draw(parameter, trial) for parameter in self.varied}

    def coordinates(self, point: Point) -> dict[str, Any]:
        """A point of the grid as Optuna knows it."""
        return {parameter.name: _choice(parameter, point[parameter.name]) for parameter in self.varied}

    def samples(self) -> list[tuple[Parameter, Any]]:
        """Values that stand for each parameter: all of a list, the ends of a range."""
        return [(parameter, value) for parameter in self.varied for value in _telling(parameter)]


def check_grid(path: Path, parameters: Sequence[Parameter]) -> None:
    """Refuses what has no end, as W&B does.

    Raises:
        UserError: with exit code 2.
    """
    for parameter in parameters:
        if parameter.distribution not in _GRIDDED:
            raise wrong(
                path,
                f"parameters.{parameter.name}",
                f"method: grid takes {', '.join(_GRIDDED)}, not {parameter.distribution}",
            )


def _grid_values(parameter: Parameter) -> list[Any]:
    settings = parameter.settings
    if parameter.distribution == "int_uniform":
        return list(range(settings["min"], settings["max"] + 1))
    if parameter.distribution == "q_uniform":  # numpy's arange, as W&B has it: max itself is not among them
        import numpy as np

        found = np.arange(settings["min"], settings["max"], settings["q"]).tolist()
        return [value if isinstance(value, int) else float(f"{value:.12g}") for value in found]
    return parameter.values


def _draw(parameter: Parameter, trial: optuna.Trial) -> Any:
    settings, name = parameter.settings, parameter.name
    match parameter.distribution:
        case "categorical":
            choices = [_choice(parameter, value) for value in parameter.values]
            return parameter.values[choices.index(trial.suggest_categorical(name, choices))]
        case "int_uniform":
            return trial.suggest_int(name, settings["min"], settings["max"])
        case "uniform":
            return trial.suggest_float(name, settings["min"], settings["max"])
        case "log_uniform_values":
            return trial.suggest_float(name, settings["min"], settings["max"], log=True)
        case _:
            return quantile(parameter, trial.suggest_float(name, 0.0, 1.0))


def _choice(parameter: Parameter, value: Any) -> Any:
    """A value as one of Optuna's choices: as it is where all are words or numbers that differ, else as JSON."""
    values = parameter.values
    simple = all(each is None or isinstance(each, (str, bool, int, float)) for each in values)
    alike = len({(each if each is not None else "null") for each in values}) < len(values) if simple else True
    return json.dumps(value) if alike else value


def _telling(parameter: Parameter) -> list[Any]:
    if parameter.distribution in ("categorical", "categorical_w_probabilities"):
        return parameter.values
    if parameter.distribution in ("int_uniform", "uniform", "log_uniform_values"):
        return [parameter.settings["min"], parameter.settings["max"]]
    return [quantile(parameter, share) for share in (0.01, 0.5, 0.99)]
