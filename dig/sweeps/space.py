"""Parameters of a sweep file, checked and filled with W&B's defaults, and the space that they span.

A grid is walked through in the order of the file; of other sweeps Optuna draws the points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig.config import nearest
from dig.sweeps.file import check_keys, wrong

if TYPE_CHECKING:
    import optuna

__all__ = ["DISTRIBUTIONS", "Parameter", "override", "read_parameters", "quantile", "Point", "Space", "check_grid"]


_RANGE = {"min": None, "max": None}
_STEPS: dict[str, Any] = {**_RANGE, "q": 1.0}
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _RANGE,
    "uniform": _RANGE,
    "q_uniform": _STEPS,
    "log_uniform": _RANGE,
    "log_uniform_values": _RANGE,
    "q_log_uniform": _STEPS,
    "q_log_uniform_values": _STEPS,
}
"""Those of W&B's distributions that are drawn here, and what each is given; None stands for what has no default."""
_OTHERS = ("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta", "inv_log_uniform")
"""W&B's distributions that are refused: Optuna draws none of them, and W&B's own search does."""


@dataclass(frozen=True)
class Parameter:
    """A key of the configuration and what it is drawn from.

    Attributes:
        name: the dotted key.
        distribution: a name of ``DISTRIBUTIONS``.
        settings: what the distribution is given.
        written: whether the file names the distribution, rather than what it follows from.
    """

    name: str
    distribution: str
    settings: Mapping[str, Any]
    written: bool = False

    @property
    def values(self) -> list[Any]:
        """The values of a categorical parameter or a constant; none of other parameters."""
        if self.distribution == "constant":
            return [self.settings["value"]]
        return list(self.settings.get("values", ()))


def read_parameters(path: Path, content: Mapping[str, Any]) -> list[Parameter]:
    """The parameters in the order of the file; nested ones under their dotted key.

    Raises:
        UserError: with exit code 2, for a form or a distribution that is none of W&B's.
    """
    parameters = list(_flattened(path, content, ""))
    names = [parameter.name for parameter in parameters]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise wrong(path, f"parameters.{twice}", "is there twice, once nested")
    return parameters


def override(name: str, value: Any) -> str:
    """``key=value`` as the command line would have it; what is not plain is JSON, which YAML reads."""
    if isinstance(value, str):
        plain = value != "" and all(each.isalnum() or each in "_-./" for each in value) and not _reads_as_other(value)
        return f"{name}={value if plain else json.dumps(value)}"
    return f"{name}={json.dumps(value)}"


def _reads_as_other(text: str) -> bool:
    import yaml

    return not isinstance(yaml.safe_load(text), str) or text[0].isdigit() or text[0] in "-."


def _flattened(path: Path, parameters: Mapping[str, Any], prefix: str) -> Iterator[Parameter]:
    for key, content in parameters.items():
        name = f"{prefix}{key}"
        if not isinstance(content, dict):
            raise wrong(path, f"parameters.{name}", f"must say value, values, or min and max, not {content!r}")
        if "parameters" in content:
            check_keys(path, f"parameters.{name}", content, ("parameters",))
            if not isinstance(content["parameters"], dict) or not content["parameters"]:
                raise wrong(path, f"parameters.{name}.parameters", "must hold parameters")
            yield from _flattened(path, content["parameters"], f"{name}.")
        else:
            yield _parameter(path, name, content)


def _parameter(path: Path, name: str, content: Mapping[str, Any]) -> Parameter:
    where = f"parameters.{name}"
    distribution = _distribution(path, where, content)
    defaults = DISTRIBUTIONS[distribution]
    given = {key: value for key, value in content.items() if key != "distribution"}
    check_keys(path, where, given, defaults)
    missing = next((key for key, default in defaults.items() if default is None and key not in given), None)
    if missing is not None:
        raise wrong(path, where, f"{distribution} needs {missing}")
    settings = {**defaults, **given}
    if "values" in settings:
        _check_values(path, where, settings)
    elif distribution != "constant":
        _check_numbers(path, where, distribution, settings)
    return Parameter(name, distribution, settings, "distribution" in content)


def _distribution(path: Path, where: str, content: Mapping[str, Any]) -> str:
    """What is written, or what W&B takes from the keys that are there."""
    written = content.get("distribution")
    if written is not None:
        if written not in DISTRIBUTIONS:
            hint = None if str(written).removesuffix("_values") in _OTHERS else nearest(str(written), DISTRIBUTIONS)
            right = f"did you mean {hint}?" if hint else f"there are {', '.join(DISTRIBUTIONS)}"
            raise wrong(path, f"{where}.distribution", f"{written!r} is not supported; {right}")
        return str(written)
    if "value" in content:
        return "constant"
    if "values" in content:
        return "categorical_w_probabilities" if "probabilities" in content else "categorical"
    if "min" in content and "max" in content:
        whole = all(isinstance(content[key], int) and not isinstance(content[key], bool) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    check_keys(path, where, content, {key for settings_of in DISTRIBUTIONS.values() for key in settings_of})
    raise wrong(path, where, "must say value, values, min and max, or a distribution")


def _check_values(path: Path, where: str, settings: Mapping[str, Any]) -> None:
    values = settings["values"]
    if not isinstance(values, list) or not values:
        raise wrong(path, f"{where}.values", "must be a list with something in it")
    shown = [json.dumps(value, default=str) for value in values]
    twice = next((text for place, text in enumerate(shown) if text in shown[:place]), None)
    if twice is not None:
        raise wrong(path, f"{where}.values", f"{twice} is there twice")
    probabilities = settings.get("probabilities")
    if probabilities is None:
        return
    if not isinstance(probabilities, list) or len(probabilities) != len(values):
        raise wrong(path, f"{where}.probabilities", f"must be a list of {len(values)}, one a value")
    if not all(_number(each) and each >= 0 for each in probabilities) or abs(sum(probabilities) - 1) > 1e-6:
        raise wrong(path, f"{where}.probabilities", "must be numbers of at least 0 with the sum 1")


def _check_numbers(path: Path, where: str, distribution: str, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if not _number(value):
            hint = "; to YAML it is text: write 1.0e-4" if isinstance(value, str) and "e" in value.lower() else ""
            raise wrong(path, f"{where}.{key}", f"{value!r} is not a number{hint}")
        if distribution == "int_uniform" and not isinstance(value, int):
            raise wrong(path, f"{where}.{key}", f"{value!r} is not a whole number; take distribution: uniform")
        if key == "q" and value <= 0:
            raise wrong(path, f"{where}.{key}", f"{value!r} must be above 0")
    if "min" not in settings:
        return
    if settings["min"] > settings["max"]:
        raise wrong(path, where, f"min {settings['min']} is above max {settings['max']}")
    if distribution.endswith("_values") and settings["min"] <= 0:
        raise wrong(path, f"{where}.min", f"{settings['min']} must be above 0: {distribution} looks at its logarithm")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def quantile(parameter: Parameter, share: float) -> Any:
    """The value below which ``share`` (in [0, 1]) of a parameter's probability lies, as W&B's search has it.

    For the distributions that Optuna does not have: Optuna draws the share.
    """
    settings, name = parameter.settings, parameter.distribution
    if name == "categorical_w_probabilities":
        return _chosen(settings["values"], settings["probabilities"], share)
    low, high = float(settings["min"]), float(settings["max"])
    if name.endswith("_values"):
        low, high = math.log(low), math.log(high)
    value = low + share * (high - low)
    value = math.exp(value) if "log" in name else value
    return _rounded(value, settings["q"]) if "q" in settings else value


def _rounded(value: float, q: float) -> float | int:
    """To the nearest multiple of ``q``: a whole number where ``q`` is one."""
    steps = round(value / q)
    return steps * q if isinstance(q, int) else float(f"{steps * q:.12g}")


def _chosen(values: list[Any], probabilities: list[float], share: float) -> Any:
    total = 0.0
    for value, probability in zip(values, probabilities, strict=True):
        total += probability
        if share < total:
            return value
    return next(value for value, each in zip(reversed(values), reversed(probabilities), strict=True) if each > 0)


# The space that a sweep searches: points of a grid, or draws by Optuna.


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
        free = [each for each in parameters if each.name not in pinned]
        constants = {each.name: each.settings["value"] for each in free if each.distribution == "constant"}
        return cls([each for each in free if each.distribution != "constant"], constants)

    @property
    def names(self) -> list[str]:
        """Of what varies."""
        return [parameter.name for parameter in self.varied]

    @property
    def grid_size(self) -> int:
        """Points of the grid."""
        return prod(len(_grid_values(parameter)) for parameter in self.varied)

    def grid(self, limit: int | None = None) -> list[Point]:
        """Every point, or the first this many; the last parameter of the file varies fastest."""
        chosen = islice(product(*self.axes().values()), limit)
        return [dict(zip(self.names, values, strict=True)) for values in chosen]

    def axes(self) -> dict[str, list[Any]]:
        """The values of each parameter in a grid."""
        return {parameter.name: _grid_values(parameter) for parameter in self.varied}

    def point(self, number: int) -> Point:
        """The point of a grid with a number, without making those before it."""
        values_by_name = {}
        for name, values in reversed(self.axes().items()):
            number, place = divmod(number, len(values))
            values_by_name[name] = values[place]
        return {name: values_by_name[name] for name in self.names}

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

        values = np.arange(settings["min"], settings["max"], settings["q"]).tolist()
        return [value if isinstance(value, int) else float(f"{value:.12g}") for value in values]
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
