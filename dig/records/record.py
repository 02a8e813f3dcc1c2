"""The record of a run: what is published of it, small enough to be committed and free of anything of its machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from dig.config import UserError, nearest
from dig.config.documents import read_json_mapping, read_yaml_mapping
from dig.config.sections.checks import folder_name_problem
from dig.engine.console import warn
from dig.engine.proof import RunProof
from dig.received.metrics import read_metrics
from dig.records.command import repeat_command
from dig.records.curve import validation_curve

__all__ = ["ONE_HOP", "PROTOCOLS", "RunRecord", "package_versions", "read_run"]

PROTOCOLS = ("unmasked", "masked")
"""Whether items of the history take part in the ranking, or are left out of it."""
ONE_HOP = ("beneficiary", "non-beneficiary")
"""Whether one step of the training part's transitions leads to the target (arXiv 2606.17276)."""
_DIGITS = 6
_AGAIN = "the same dig.train command writes it again"
_TRAINING = ("steps", "chosen", "samples_per_second")


@dataclass(frozen=True)
class RunRecord:
    """A run as it is published.

    Attributes:
        name: of its file.
        content: ``experiment``, ``command``, ``seed``, ``split``, ``users``, ``examples``, ``date``, ``versions`` and
            ``recommenders``: for each ``seconds``, ``evaluation_seconds``, ``training``, ``curve``, ``valid``,
            ``over_sft`` and, a protocol each, ``metrics``, ``intervals`` and ``one_hop``. Any of the latter may be
            missing.
    """

    name: str
    content: dict[str, Any]

    @property
    def recommenders(self) -> dict[str, dict[str, Any]]:
        """What was measured, by name, in the order of the run."""
        return self.content["recommenders"]

    @property
    def test(self) -> tuple[str, int | None]:
        """The split and the number of test users: runs that differ in them do not stand in one table."""
        return str(self.content["split"]), self.content.get("users")

    def value(self, recommender: str, protocol: str, metric: str, part: str | None = None) -> float | None:
        """A metric of the test, of all users or of one ``part`` of ``ONE_HOP``; None where it was not measured."""
        found = self._test(recommender, protocol)
        return (found.get("one_hop", {}).get(part, {}) if part else found.get("metrics", {})).get(metric)

    def interval(self, recommender: str, protocol: str, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric of all users, over users."""
        found = self._test(recommender, protocol).get("intervals", {}).get(metric)
        return (found[0], found[1]) if found else None

    def _test(self, recommender: str, protocol: str) -> Mapping[str, Any]:
        return self.recommenders.get(recommender, {}).get(protocol, {})


def read_run(folder: Path, name: str | None = None) -> RunRecord:
    """The record of a finished run's folder, named ``<experiment>-<seed>`` where no name is given.

    Raises:
        UserError: it is no finished run, or its recommenders were measured on different splits or users.
    """
    if (folder / "config.yaml").is_file():
        RunProof(folder).require("config.yaml", "metrics.json", "versions.json")
    config, metrics = _config(folder), _metrics(folder)
    splits = _same(folder, metrics, "split")
    command, left_out = repeat_command(config)
    if left_out:
        warn(f"{folder}: the command leaves out what today's configuration does not know: {', '.join(left_out)}")
    masks = bool((config.get("evaluation") or {}).get("mask_history", False))
    experiment, seed = str(config.get("experiment", "custom")), config.get("seed")
    content = {
        "experiment": experiment,
        "command": command,
        "seed": seed,
        "split": splits,
        "users": _same(folder, metrics, "users"),
        "examples": _same(folder, metrics, "examples"),
        "date": datetime.fromtimestamp((folder / "metrics.json").stat().st_mtime, UTC).date().isoformat(),
        "versions": _versions(folder),
        "recommenders": {each: _recommender(folder, each, found, masks) for each, found in metrics.items()},
    }
    return RunRecord(name or f"{experiment}-{seed}", content)


def package_versions() -> dict[str, str]:
    """Versions of dig and torch that are installed here."""
    return {package: metadata.version(package) for package in ("dig", "torch")}


def _versions(folder: Path) -> dict[str, str]:
    """Those that the run was made with; a run of before says nothing, so those that are installed."""
    path = folder / "versions.json"
    if not path.is_file():
        return package_versions()
    content = read_json_mapping(path, advice=_AGAIN)
    if not all(isinstance(version, str | None) for version in content.values()):
        raise UserError(f"{path}: must hold the version of each package; {_AGAIN}")
    return content


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    _check_there(folder, path)
    content = read_yaml_mapping(path)
    if not isinstance(content.get("evaluation", {}), dict | None) or type(content.get("seed")) not in (int, type(None)):
        raise UserError(f"{path}: is not a configuration: evaluation holds keys and values, seed a whole number")
    return content


def _metrics(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "metrics.json"
    _check_there(folder, path)
    measured = read_metrics(folder)
    for name in measured:
        problem = folder_name_problem(name)  # it names folders of the run
        if problem is not None:
            raise UserError(f"{path}: a recommender's name {problem}: {name[:60]!a}")
    if not measured:
        raise UserError(f"{path}: no recommender in it has a test")
    return measured


def _check_there(folder: Path, path: Path) -> None:
    if path.is_file():
        return
    if not folder.is_dir():
        beside = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = nearest(folder.name, beside)
        raise UserError(f"{folder}: no such run{f'; did you mean {folder.parent / hint}?' if hint else ''}", 2)
    raise UserError(f"{folder}: no finished run, {path.name} is missing; the stage report writes it", exit_code=2)


def _same(folder: Path, metrics: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """What all recommenders say of a key; None where none of them says anything."""
    told = {name: found[key] for name, found in metrics.items() if found.get(key) is not None}
    if len(set(told.values())) > 1:
        words = ", ".join(f"{name} has {value}" for name, value in told.items())
        raise UserError(f"{folder}: recommenders differ in {key}: {words}")
    return next(iter(told.values()), None)


def _recommender(folder: Path, name: str, found: Mapping[str, Any], masks: bool) -> dict[str, Any]:
    """One recommender: the main protocol and the other one by their names."""
    main, other = ("masked", "unmasked") if found.get("mask_history", masks) else ("unmasked", "masked")
    record: dict[str, Any] = {}
    for key in ("seconds", "evaluation_seconds"):
        if _finite(found.get(key)) is not None:
            record[key] = round(float(found[key]), 1)
    training = _training(folder, name)
    if training:
        record["training"] = training
    curve = validation_curve(folder / "logs" / name)
    if curve:
        record["curve"] = curve
    if isinstance(found.get("valid"), dict):
        record["valid"] = _numbers(found["valid"])
    for protocol, part in ((main, "test"), (other, f"test_{other}")):
        if isinstance(found.get(part), dict):
            record[protocol] = _part(found, part)
    if isinstance(found.get("over_sft"), dict):
        record["over_sft"] = {metric: _numbers(each) for metric, each in found["over_sft"].items()}
    return record


def _part(found: Mapping[str, Any], part: str) -> dict[str, Any]:
    intervals = (found.get("intervals") or {}).get(part) or {}
    slices = (found.get("slices") or {}).get(part) or {}
    one_hop = {each: _numbers(slices[f"one-hop: {each}"]) for each in ONE_HOP if f"one-hop: {each}" in slices}
    kept = {
        "metrics": _numbers(found[part]),
        "intervals": {metric: [round(float(end), _DIGITS) for end in ends] for metric, ends in intervals.items()},
        "one_hop": one_hop,
    }
    return {key: value for key, value in kept.items() if value}


def _training(folder: Path, name: str) -> dict[str, Any]:
    """Steps and what was chosen, where the run's folder tells."""
    for place in ("checkpoints", "logs"):
        path = folder / place / name / "training.json"
        if path.is_file():
            content = read_json_mapping(path, advice=_AGAIN)
            return {key: _rounded(content[key]) for key in _TRAINING if content.get(key) is not None}
    return {}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _rounded(value) for key, value in values.items() if _finite(value) is not None}


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
