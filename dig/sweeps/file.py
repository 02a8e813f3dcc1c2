"""A sweep file as W&B defines it: read, and every key checked. Nothing here imports torch or Optuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig.config import UserError, nearest, provided, refuse_secrets
from dig.config.documents import read_yaml_mapping

__all__ = ["METHODS", "Bands", "MetricGoal", "SweepFile", "check_keys", "read_sweep", "wrong"]

METHODS = ("grid", "random", "bayes")
_LONGEST_NAME = 60
"""Characters of a sweep's folder, which may be of four bytes each."""
_KEYS = (
    "program",
    "method",
    "metric",
    "parameters",
    "early_terminate",
    "run_cap",
    "command",
    "name",
    "description",
    "project",
    "entity",
    "apiVersion",
    "kind",
    "controller",
)
"""Of these, the last six say something to W&B alone."""
_OF_LAUNCH = {
    "job": "W&B Launch",
    "image_uri": "W&B Launch",
    "scheduler": "a scheduler of your own",
    "metrics": "several objectives",
}


@dataclass(frozen=True)
class MetricGoal:
    """What a sweep looks for.

    Attributes:
        name: as it is logged, or ``<stage>.valid.<metric>``.
        goal: `maximize` or `minimize`; None where the file does not say.
        target: a value at which the sweep ends.
    """

    name: str
    goal: str | None = None
    target: float | None = None


@dataclass(frozen=True)
class Bands:
    """``early_terminate``: at which validations, counted from 1, a trial must be among the best ``1/eta``.

    Attributes:
        at: the validations, rising.
        eta: what is divided by.
        strict: compare what a trial had at the band; else the best that it ever had.
    """

    at: tuple[int, ...]
    eta: float
    strict: bool


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says.

    Attributes:
        path: where it lies.
        name: the sweep's name.
        method: `grid`, `random` or `bayes`.
        metric: None where the file has none.
        parameters: as written, by name.
        bands: None where no trial is stopped early.
        run_cap: trials at most, None for no limit.
        command: as written; empty where the file has none.
        program: what W&B would run.
    """

    path: Path
    name: str
    method: str
    metric: MetricGoal | None
    parameters: Mapping[str, Any]
    bands: Bands | None
    run_cap: int | None
    command: tuple[str, ...]
    program: str | None


def read_sweep(path: Path) -> SweepFile:
    """Reads a sweep file, or where there is none of that path the one that comes with the project.

    Raises:
        UserError: with exit code 2, for whatever is wrong with it: one line with the key and the nearest right one.
    """
    path = path if path.is_file() or path.is_absolute() else _provided(path)
    content = _load(path)
    refuse_secrets(str(path), content, every_key=True)
    for key, what in _OF_LAUNCH.items():
        if key in content:
            raise wrong(path, key, f"{what} is not supported; method: grid, random or bayes runs here")
    check_keys(path, "", content, _KEYS)
    method = content.get("method")
    if method not in METHODS:
        raise wrong(path, "method", f"{method!r} is none of {_listed(METHODS)}")
    run_cap = content.get("run_cap")
    if run_cap is not None and not (_whole(run_cap) and run_cap > 0):
        raise wrong(path, "run_cap", f"{run_cap!r} must be a whole number above 0")
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise wrong(path, "parameters", "missing: name at least one key of the configuration and its values")
    command = content.get("command", [])
    if not isinstance(command, list):
        raise wrong(path, "command", "must be a list of words")
    name = str(content.get("name") or path.stem)
    return SweepFile(
        path,
        _plain(name),
        method,
        _metric(path, content.get("metric")),
        parameters,
        _bands(path, content.get("early_terminate")),
        run_cap,
        tuple(map(str, command)),
        content.get("program"),
    )


def check_keys(path: Path, where: str, content: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Refuses a key that is not among the known ones, with the nearest of them."""
    known = tuple(known)
    for key in content:
        if key not in known:
            hint = nearest(str(key), known)
            right = f"did you mean {hint}?" if hint else f"there are {_listed(known)}"
            raise wrong(path, f"{where}.{key}" if where else str(key), f"unknown key; {right}")


def wrong(path: Path, key: str, what: str) -> UserError:
    """The error that a line of the file deserves."""
    return UserError(f"{path}: {key}: {what}", exit_code=2)


def _provided(path: Path) -> Path:
    ours = provided(path.as_posix())
    return ours if path.parent == Path("sweeps") and ours.is_file() else path


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        names = {each.as_posix() for folder in {path.parent, Path("sweeps")} for each in folder.glob("*.yaml")}
        names |= {f"sweeps/{each.name}" for each in provided("sweeps").glob("*.yaml")}
        hint = nearest(path.as_posix(), sorted(names))
        raise UserError(f"{path}: no such sweep file{f'; did you mean {hint}?' if hint else ''}", exit_code=2)
    return read_yaml_mapping(path, exit_code=2)


def _metric(path: Path, found: Any) -> MetricGoal | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise wrong(path, "metric", "must hold name and goal")
    for key in ("impute", "impute_while_running"):
        if key in found:
            raise wrong(path, f"metric.{key}", "not supported: a failed trial tells the search nothing here")
    check_keys(path, "metric", found, ("name", "goal", "target"))
    name, goal, target = found.get("name"), found.get("goal"), found.get("target")
    if not isinstance(name, str) or not name:
        raise wrong(path, "metric.name", "missing: for example valid/ndcg@10")
    if goal is not None and goal not in ("maximize", "minimize"):
        raise wrong(path, "metric.goal", f"{goal!r} is neither maximize nor minimize")
    if target is not None and not _number(target):
        raise wrong(path, "metric.target", f"{target!r} is no number{_as_text(target)}")
    return MetricGoal(name, goal, None if target is None else float(target))


def _bands(path: Path, found: Any) -> Bands | None:
    """W&B's bands: ``min_iter · eta^i``, or ``s`` of them down from ``max_iter``."""
    if found is None:
        return None
    key = "early_terminate"
    if not isinstance(found, dict) or found.get("type") != "hyperband":
        given = found.get("type") if isinstance(found, dict) else found
        raise wrong(path, f"{key}.type", f"{given!r}: hyperband is the one there is")
    check_keys(path, key, found, ("type", "min_iter", "max_iter", "s", "eta", "strict"))
    eta, strict = found.get("eta", 3), found.get("strict", True)
    if not _number(eta) or eta <= 1:
        raise wrong(path, f"{key}.eta", f"{eta!r} must be a number above 1{_as_text(eta)}")
    if not isinstance(strict, bool):
        raise wrong(path, f"{key}.strict", f"{strict!r} must be true or false")
    for name in ("min_iter", "max_iter", "s"):
        value = found.get(name)
        if value is not None and not (_whole(value) and value > 0):
            raise wrong(path, f"{key}.{name}", f"{value!r} must be a whole number above 0")
    if "max_iter" in found:
        if "s" not in found:
            raise wrong(path, key, "max_iter needs s, the number of bands below it")
        at = {int(found["max_iter"] / eta**step) for step in range(1, found["s"] + 1)} - {0}
        if not at:
            raise wrong(path, key, "leaves no band: raise max_iter or lower eta")
    elif "min_iter" in found:
        at = {int(found["min_iter"] * eta**step) for step in range(100) if found["min_iter"] * eta**step < 1e9}
    else:
        raise wrong(path, key, "needs min_iter, or max_iter and s")
    return Bands(tuple(sorted(at)), float(eta), strict)


def _plain(name: str) -> str:
    """A name as that of a folder."""
    found = "".join(each if each.isalnum() or each in "-_." else "-" for each in name).strip("-.")
    return found[:_LONGEST_NAME] or "sweep"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    """YAML reads 1e-4 as text."""
    return "; to YAML it is text: write 1.0e-4" if isinstance(value, str) and "e" in value.lower() else ""
