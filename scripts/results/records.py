"""The record of a run: what is published of it, small enough to be committed and free of anything of its machine."""

from __future__ import annotations

import csv
import math
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from dig.config import UserError, config_to_dict, list_experiments, load_config, nearest
from dig.config.documents import read_json_mapping, read_yaml_mapping
from dig.config.renamed import modernised
from dig.config.schema import DataConfig
from dig.config.sections.checks import folder_name_problem
from dig.engine.artifacts import read_json, write_json
from dig.engine.console import warn
from dig.engine.proof import RunProof
from dig.received.metrics import read_metrics
from dig.report.data import package_versions

__all__ = ["ONE_HOP", "PROTOCOLS", "RunRecord", "RunStore", "check_comparable", "read_run"]


_MOST = 500
"""Keys that a command repeats; each is tried by loading the configuration with it."""
_NO_RESULT = ("experiment", "runs_dir", "run_id", "logging")
"""Sections that decide where a run is written and what it says, not what it finds."""


def repeat_command(content: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A line for the shell, and the keys that it cannot hold.

    Folders below ``DIG_DATA_ROOT`` are written by that variable; of other folders the last name is kept, of addresses
    nothing, since the line is published.

    Args:
        content: a run's ``config.yaml``.

    Returns:
        The command, and keys of the run that today's configuration does not know or refuses.

    Raises:
        UserError: the experiment has no file, or its file cannot be loaded here.
    """
    experiment = _experiment(str(content.get("experiment", "custom")))
    ours, theirs = _base(experiment), dict(_leaves(_deciding(content)))
    # an empty mapping merges into anything without changing it
    differing = {
        key: value for key, value in theirs.items() if value != {} and not (key in ours and ours[key] == value)
    }
    if len(differing) > _MOST:
        raise UserError(f"the run's configuration differs in {len(differing):,} keys from its experiment {experiment}")
    left_out = _refused(experiment, differing)
    overrides = [f"{key}={_written(_public(value))}" for key, value in differing.items() if key not in left_out]
    words = ["python", "-m", "dig.train", *([f"experiment={experiment}"] if experiment else []), *overrides]
    return " ".join(_quoted(word) for word in words), left_out


def _base(experiment: str | None) -> dict[str, Any]:
    """Values of the experiment's file; without one the schema's, which are not a whole configuration by themselves."""
    config = load_config(experiment, [] if experiment else ["data.source=quickstart"])
    own = {} if experiment else {"data.source": DataConfig().source}
    return dict(_leaves(_deciding(config_to_dict(config)))) | own


def _experiment(name: str) -> str | None:
    """The name that ``experiment=`` takes for what a configuration calls itself, its last part; None for no file."""
    if name == "custom":
        return None
    names = list_experiments()
    candidates = [known for known in names if known.rsplit("/", 1)[-1] == name]
    if not candidates:
        hint = nearest(name, names)
        raise UserError(
            f"experiment {name} of the run has no file under experiments/ now"
            f"{f'; the nearest is {hint}' if hint else ''}",
            exit_code=2,
        )
    return min(candidates, key=len)


def _deciding(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _NO_RESULT}


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _refused(experiment: str | None, values: Mapping[str, Any]) -> list[str]:
    """Keys that today's configuration does not take, none where it takes all of them together."""
    overrides = {key: f"{key}={_written(value)}" for key, value in values.items()}
    if _loads(experiment, list(overrides.values())):
        return []
    return [key for key, override in overrides.items() if not _loads(experiment, [override])]


def _loads(experiment: str | None, overrides: list[str]) -> bool:
    try:
        load_config(experiment, overrides)
    except UserError:
        return False
    return True


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _quoted(word: str) -> str:
    """A word for the shell, quoted where needed; ``=`` alone needs no quotes, brackets do."""
    return word if word == shlex.quote(word) else f"'{word}'" if "'" not in word else shlex.quote(word)


def _public(value: Any) -> Any:
    """A value without folders and addresses of a machine."""
    if isinstance(value, str):
        return _public_text(value)
    if isinstance(value, Sequence):
        return [_public(each) for each in value]
    return value


def _public_text(text: str) -> str:
    if "://" in text:
        return "ADDRESS"
    path = Path(text).expanduser() if text.startswith(("/", "~")) else None
    if path is None or not path.is_absolute():
        return text
    root = os.environ.get("DIG_DATA_ROOT")
    if root and path.is_relative_to(Path(root).absolute()):
        below = path.relative_to(Path(root).absolute())
        return f"${{oc.env:DIG_DATA_ROOT}}/{below.as_posix()}"
    return f"FOLDER/{path.name}"


# The validation of a training stage over its epochs, as its logs have it.


_PREFIX = "valid/"
_DIGITS = 6


def validation_curve(logs: Path) -> list[dict[str, float]]:
    """Metrics of every validation: ``{"epoch": 1, "hr@10": …}``, in order, ``epoch`` the epochs that are done.

    Where an epoch was validated twice, as by an attempt that was killed and the one that continued, the later counts.

    Args:
        logs: a stage's folder of logs, with a folder an attempt.

    Raises:
        UserError: a log is not one.
    """
    by_epoch: dict[int, dict[str, float]] = {}
    for path in sorted(logs.glob("*/metrics.csv")):
        for epoch, values in _validations(path):
            by_epoch[epoch] = {"epoch": epoch, **values}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def thinned_curve(curve: Sequence[dict[str, float]], most: int) -> list[dict[str, float]]:
    """At most ``most`` points, evenly spread, the first and the last among them."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(at * (len(curve) - 1) / (most - 1))] for at in range(most)]


def _validations(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in _rows(path, file):
            values = {
                name.removeprefix(_PREFIX): round(number, _DIGITS)
                for name, value in row.items()
                if name and name.startswith(_PREFIX) and (number := _number(value)) is not None
            }
            epoch = _number(row.get("epoch"))
            if values and epoch is not None:
                yield int(epoch) + 1, values


def _rows(path: Path, file: Iterable[str]) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(file)
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _number(text: str | None) -> float | None:
    """None for nothing, for what is not finite, and for the end of a line that a kill cut."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# The record of a run: what is published of it, small enough to be committed and free of anything of its machine.


PROTOCOLS = ("unmasked", "masked")
"""Whether items of the history take part in the ranking, or are left out of it."""
ONE_HOP = ("beneficiary", "non-beneficiary")
"""Whether one step of the training part's transitions leads to the target (arXiv 2606.17276)."""
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
        measured = self._test(recommender, protocol)
        return (measured.get("one_hop", {}).get(part, {}) if part else measured.get("metrics", {})).get(metric)

    def interval(self, recommender: str, protocol: str, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric of all users, over users."""
        ends = self._test(recommender, protocol).get("intervals", {}).get(metric)
        return (ends[0], ends[1]) if ends else None

    def _test(self, recommender: str, protocol: str) -> Mapping[str, Any]:
        return self.recommenders.get(recommender, {}).get(protocol, {})


def read_run(folder: Path, name: str | None = None) -> RunRecord:
    """The record of a finished run's folder, named ``<experiment>-<seed>`` where no name is given.

    Raises:
        UserError: it is not a finished run, or its recommenders were measured on different splits or users.
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
        "recommenders": {each: _recommender(folder, each, measured, masks) for each, measured in metrics.items()},
    }
    return RunRecord(name or f"{experiment}-{seed}", content)


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
    content = modernised(read_yaml_mapping(path))
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
    told = {name: values[key] for name, values in metrics.items() if values.get(key) is not None}
    if len(set(told.values())) > 1:
        words = ", ".join(f"{name} has {value}" for name, value in told.items())
        raise UserError(f"{folder}: recommenders differ in {key}: {words}")
    return next(iter(told.values()), None)


def _recommender(folder: Path, name: str, measured: Mapping[str, Any], masks: bool) -> dict[str, Any]:
    """One recommender: the main protocol and the other one by their names."""
    main, other = ("masked", "unmasked") if measured.get("mask_history", masks) else ("unmasked", "masked")
    record: dict[str, Any] = {}
    for key in ("seconds", "evaluation_seconds"):
        if _finite(measured.get(key)) is not None:
            record[key] = round(float(measured[key]), 1)
    training = _training(folder, name)
    if training:
        record["training"] = training
    curve = validation_curve(folder / "logs" / name)
    if curve:
        record["curve"] = curve
    if isinstance(measured.get("valid"), dict):
        record["valid"] = _numbers(measured["valid"])
    for protocol, part in ((main, "test"), (other, f"test_{other}")):
        if isinstance(measured.get(part), dict):
            record[protocol] = _part(measured, part)
    if isinstance(measured.get("over_sft"), dict):
        record["over_sft"] = {metric: _numbers(each) for metric, each in measured["over_sft"].items()}
    return record


def _part(measured: Mapping[str, Any], part: str) -> dict[str, Any]:
    intervals = (measured.get("intervals") or {}).get(part) or {}
    slices = (measured.get("slices") or {}).get(part) or {}
    one_hop = {each: _numbers(slices[f"one-hop: {each}"]) for each in ONE_HOP if f"one-hop: {each}" in slices}
    kept = {
        "metrics": _numbers(measured[part]),
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


# The folder of records: one JSON file a run, found by its name or, over several seeds, by the name before the seed.


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RunStore:
    """Records of runs.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def save(self, record: RunRecord, replace: bool) -> Path:
        """Writes a record.

        Args:
            record: the run.
            replace: also over the record of a run with another command.

        Raises:
            UserError: the name cannot be a file's, or belongs to a run with another command.
        """
        if not _NAME.fullmatch(record.name):
            raise UserError(f"{record.name}: a record's name has letters, digits and -_. alone; name it by --as", 2)
        path = self.folder / f"{record.name}.json"
        if path.is_file() and not replace:
            before = self.load(record.name).content.get("command")
            if before != record.content["command"]:
                raise UserError(
                    f"{path}: holds another run ({before}); --as {record.name} replaces it, another name keeps both",
                    exit_code=2,
                )
        write_json(path, record.content)
        return path

    def load(self, name: str) -> RunRecord:
        """The record of exactly this name.

        Raises:
            UserError: it is not there, or is not a record.
        """
        path = self.folder / f"{name}.json"
        if not path.is_file():
            raise self._missing(name)
        try:
            content = read_json(path)
        except ValueError:
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("recommenders"), dict):
            raise UserError(f"{path}: is not a record of a run")
        return RunRecord(name, content)

    def family(self, name: str) -> list[RunRecord]:
        """The record of this name, or those of its seeds: ``beauty`` also means ``beauty-42`` and ``beauty-2333``.
        Raises:
            UserError: there is none; or its seeds have other splits, other test users, or other commands but for seed,
                stages and baselines.
        """
        members = [each for each in self.names() if each == name or re.fullmatch(rf"{re.escape(name)}-\d+", each)]
        if not members:
            raise self._missing(name)
        records = sorted((self.load(each) for each in members), key=lambda record: record.content.get("seed") or 0)
        check_comparable(records)
        for record in records[1:]:
            one, other = _beside_seed(records[0]), _beside_seed(record)
            if one != other:
                raise UserError(
                    f"{records[0].name} and {record.name} differ in more than the seed "
                    f"({' '.join(sorted(one ^ other))}); give each a name of its own"
                )
        return records

    def _missing(self, name: str) -> UserError:
        names = self.names()
        hint = nearest(name, {*names, *(re.sub(r"-\d+$", "", each) for each in names)})
        return UserError(
            f"no record {name} in {self.folder}{f'; did you mean {hint}?' if hint else ''} "
            f"(python -m scripts.results add RUN --as {name})"
        )


def check_comparable(records: list[RunRecord]) -> None:
    """Whether records may stand in one table.

    Raises:
        UserError: their splits or test users differ.
    """
    for record in records[1:]:
        if record.test != records[0].test:
            (split, users), (other, others) = records[0].test, record.test
            raise UserError(
                f"one table cannot hold {records[0].name} (split {split}, {users} test users) and "
                f"{record.name} (split {other}, {others} test users)"
            )


def _beside_seed(record: RunRecord) -> frozenset[str]:
    words = shlex.split(str(record.content.get("command", "")))
    return frozenset(word for word in words if not word.startswith(("seed=", "stages=", "baselines=")))
