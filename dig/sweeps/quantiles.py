"""Where W&B's distributions put a share of their probability: from a number between 0 and 1 to a value.

W&B's own search works on such numbers, and so does ours for the distributions that Optuna has not. The formulas are
those of W&B's package `sweeps`, version 0.3.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dig.sweeps.parameters import Parameter

__all__ = ["quantile"]


def quantile(parameter: Parameter, share: float) -> Any:
    """The value below which ``share`` of a parameter's probability lies.

    Args:
        parameter: of any distribution over numbers, or with probabilities.
        share: in [0, 1]; the ends of distributions without bounds are moved inwards a little.

    Raises:
        ValueError: for a distribution that has no such order.
    """
    settings, name = parameter.settings, parameter.distribution
    if name == "categorical_w_probabilities":
        return _chosen(settings["values"], settings["probabilities"], share)
    whole = name.removeprefix("q_")
    value = _smooth(whole, settings, share)
    return _rounded(value, settings["q"]) if "q" in settings else value


def _smooth(name: str, settings: Mapping[str, Any], share: float) -> float:
    from scipy import stats  # type: ignore[import-untyped]

    if name in ("uniform", "log_uniform", "inv_log_uniform", "log_uniform_values", "inv_log_uniform_values"):
        low, high = float(settings["min"]), float(settings["max"])
        if name == "uniform":
            return low + share * (high - low)
        if name.endswith("_values"):
            low, high = math.log(low), math.log(high)
            if name.startswith("inv"):
                low, high = -high, -low
        if name.startswith("inv"):
            return math.exp(-(low + (1 - share) * (high - low)))
        return math.exp(low + share * (high - low))
    inner = min(max(share, 1e-9), 1 - 1e-9)
    if name == "normal":
        return float(stats.norm.ppf(inner, loc=settings["mu"], scale=settings["sigma"]))
    if name == "log_normal":
        return float(stats.lognorm.ppf(inner, s=settings["sigma"], scale=math.exp(settings["mu"])))
    if name == "beta":
        return float(stats.beta.ppf(inner, a=settings["a"], b=settings["b"]))
    raise ValueError(f"{name} has no quantiles")


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
