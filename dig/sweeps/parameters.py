"""Parameters of a sweep file: every form and distribution of W&B's, flattened, checked and filled with its defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig.config import nearest
from dig.sweeps.file import check_keys, wrong

__all__ = ["DISTRIBUTIONS", "Parameter", "override", "read_parameters"]

_RANGE = {"min": None, "max": None}
_STEPS: dict[str, Any] = {**_RANGE, "q": 1.0}
_BELL = {"mu": 0.0, "sigma": 1.0}
_BETA = {"a": 1.0, "b": 1.0}
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
    "inv_log_uniform": _RANGE,
    "inv_log_uniform_values": _RANGE,
    "normal": _BELL,
    "q_normal": {**_BELL, "q": 1.0},
    "log_normal": _BELL,
    "q_log_normal": {**_BELL, "q": 1.0},
    "beta": _BETA,
    "q_beta": {**_BETA, "q": 1.0},
}
"""W&B's distributions: what each is given, with its defaults; None must be there."""
_ABOVE_ZERO = ("q", "sigma", "a", "b")


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


def read_parameters(path: Path, found: Mapping[str, Any]) -> list[Parameter]:
    """The parameters in the order of the file; nested ones under their dotted key.

    Raises:
        UserError: with exit code 2, for a form or a distribution that is none of W&B's.
    """
    parameters = list(_flattened(path, found, ""))
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


def _flattened(path: Path, found: Mapping[str, Any], prefix: str) -> Iterator[Parameter]:
    for key, content in found.items():
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
    known = DISTRIBUTIONS[distribution]
    given = {key: value for key, value in content.items() if key != "distribution"}
    check_keys(path, where, given, known)
    missing = next((key for key, default in known.items() if default is None and key not in given), None)
    if missing is not None:
        raise wrong(path, where, f"{distribution} needs {missing}")
    settings = {**known, **given}
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
            hint = nearest(str(written), DISTRIBUTIONS)
            known = f"did you mean {hint}?" if hint else f"there are {', '.join(DISTRIBUTIONS)}"
            raise wrong(path, f"{where}.distribution", f"{written!r} is none; {known}")
        return str(written)
    if "value" in content:
        return "constant"
    if "values" in content:
        return "categorical_w_probabilities" if "probabilities" in content else "categorical"
    if "min" in content and "max" in content:
        whole = all(isinstance(content[key], int) and not isinstance(content[key], bool) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    check_keys(path, where, content, {key for known in DISTRIBUTIONS.values() for key in known})
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
            raise wrong(path, f"{where}.{key}", f"{value!r} is no number{hint}")
        if distribution == "int_uniform" and not isinstance(value, int):
            raise wrong(path, f"{where}.{key}", f"{value!r} is no whole number; take distribution: uniform")
        if key in _ABOVE_ZERO and value <= 0:
            raise wrong(path, f"{where}.{key}", f"{value!r} must be above 0")
    if "min" not in settings:
        return
    if settings["min"] > settings["max"]:
        raise wrong(path, where, f"min {settings['min']} is above max {settings['max']}")
    if distribution.endswith("_values") and settings["min"] <= 0:
        raise wrong(path, f"{where}.min", f"{settings['min']} must be above 0: {distribution} looks at its logarithm")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
