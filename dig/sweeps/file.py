"""A sweep file as W&B defines it: read, and every key checked. Nothing here imports torch or Optuna."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dig.config import UserError, nearest, provided, refuse_secrets
from dig.config.documents import read_yaml_mapping
from dig.engine.secrets import shown_override

__all__ = [
    "METHODS",
    "Bands",
    "MetricGoal",
    "SweepFile",
    "check_keys",
    "read_sweep",
    "wrong",
    "Arguments",
    "command_arguments",
    "split_arguments",
]


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
        files = {each.as_posix() for folder in {path.parent, Path("sweeps")} for each in folder.glob("*.yaml")}
        files |= {f"sweeps/{each.name}" for each in provided("sweeps").glob("*.yaml")}
        hint = nearest(path.as_posix(), sorted(files))
        raise UserError(f"{path}: no such sweep file{f'; did you mean {hint}?' if hint else ''}", exit_code=2)
    return read_yaml_mapping(path, exit_code=2)


def _metric(path: Path, content: Any) -> MetricGoal | None:
    if content is None:
        return None
    if not isinstance(content, dict):
        raise wrong(path, "metric", "must hold name and goal")
    for key in ("impute", "impute_while_running"):
        if key in content:
            raise wrong(path, f"metric.{key}", "not supported: a failed trial tells the search nothing here")
    check_keys(path, "metric", content, ("name", "goal", "target"))
    name, goal, target = content.get("name"), content.get("goal"), content.get("target")
    if not isinstance(name, str) or not name:
        raise wrong(path, "metric.name", "missing: for example valid/ndcg@10")
    if goal is not None and goal not in ("maximize", "minimize"):
        raise wrong(path, "metric.goal", f"{goal!r} is neither maximize nor minimize")
    if target is not None and not _number(target):
        raise wrong(path, "metric.target", f"{target!r} is not a number{_as_text(target)}")
    return MetricGoal(name, goal, None if target is None else float(target))


def _bands(path: Path, content: Any) -> Bands | None:
    """W&B's bands: ``min_iter · eta^i``, or ``s`` of them down from ``max_iter``."""
    if content is None:
        return None
    key = "early_terminate"
    if not isinstance(content, dict) or content.get("type") != "hyperband":
        given = content.get("type") if isinstance(content, dict) else content
        raise wrong(path, f"{key}.type", f"{given!r}: hyperband is the one there is")
    check_keys(path, key, content, ("type", "min_iter", "max_iter", "s", "eta", "strict"))
    eta, strict = content.get("eta", 3), content.get("strict", True)
    if not _number(eta) or eta <= 1:
        raise wrong(path, f"{key}.eta", f"{eta!r} must be a number above 1{_as_text(eta)}")
    if not isinstance(strict, bool):
        raise wrong(path, f"{key}.strict", f"{strict!r} must be true or false")
    for name in ("min_iter", "max_iter", "s"):
        value = content.get(name)
        if value is not None and not (_whole(value) and value > 0):
            raise wrong(path, f"{key}.{name}", f"{value!r} must be a whole number above 0")
    if "max_iter" in content:
        if "s" not in content:
            raise wrong(path, key, "max_iter needs s, the number of bands below it")
        at = {int(content["max_iter"] / eta**step) for step in range(1, content["s"] + 1)} - {0}
        if not at:
            raise wrong(path, key, "leaves no band: raise max_iter or lower eta")
    elif "min_iter" in content:
        at = {int(content["min_iter"] * eta**step) for step in range(100) if content["min_iter"] * eta**step < 1e9}
    else:
        raise wrong(path, key, "needs min_iter, or max_iter and s")
    return Bands(tuple(sorted(at)), float(eta), strict)


def _plain(name: str) -> str:
    """A name as that of a folder."""
    plain = "".join(each if each.isalnum() or each in "-_." else "-" for each in name).strip("-.")
    return plain[:_LONGEST_NAME] or "sweep"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    """YAML reads 1e-4 as text."""
    return "; to YAML it is text: write 1.0e-4" if isinstance(value, str) and "e" in value.lower() else ""


# What a sweep file's ``command`` gives every trial, so that one file serves ``wandb sweep`` and ``dig.sweep``.


_MACRO = re.compile(r"^\$\{(\w+)\}$")
_VARIABLE = re.compile(r"\$\{envvar:([^}]*)\}")
_ARGUMENTS = "${args_no_hyphens}"


class Arguments(NamedTuple):
    """Arguments of ``dig.train``: the experiment, None where it is not named, and ``key=value`` overrides."""

    experiment: str | None
    overrides: tuple[str, ...]


def command_arguments(file: SweepFile) -> Arguments:
    """The fixed arguments in a sweep file's command.

    Raises:
        UserError: with exit code 2, for a command that does not run ``dig.train`` with ``key=value``.
    """
    _check_program(file)
    if not file.command:
        return Arguments(None, ())
    if _ARGUMENTS not in file.command:
        others = [word for word in file.command if word.startswith("${args")]
        instead = f" instead of {others[0]}" if others else ""
        raise wrong(file.path, "command", f"needs {_ARGUMENTS}{instead}: dig.train takes key=value")
    arguments = []
    for word in _behind_program(file):
        if word == _ARGUMENTS:
            continue
        word = _expanded(file.path, word)
        if word.startswith("-") or _MACRO.match(word) or "=" not in word:
            what = f"only experiment=NAME, key=value and {_ARGUMENTS} may follow the program"
            raise wrong(file.path, "command", f"{shown_override(word)}: {what}")
        arguments.append(word)
    return split_arguments(arguments)


def split_arguments(arguments: list[str]) -> Arguments:
    """Arguments of ``dig.train``, the experiment apart; the last one named holds."""
    experiments = [argument.partition("=")[2] for argument in arguments if argument.startswith("experiment=")]
    overrides = tuple(argument for argument in arguments if not argument.startswith("experiment="))
    return Arguments(experiments[-1] if experiments else None, overrides)


def _check_program(file: SweepFile) -> None:
    named = file.program is None or _runs_training(str(file.program))
    literal = _behind_training(file.command) is not None
    if not named or (file.program is None and file.command and not literal):
        what = file.program if file.program is not None else " ".join(map(shown_override, file.command))
        raise wrong(file.path, "program", f"{what}: this runs only dig.train; write program: dig.train")


def _runs_training(word: str) -> bool:
    return word in ("dig.train", "dig/train.py", "./dig/train.py")


def _behind_program(file: SweepFile) -> tuple[str, ...]:
    if (behind := _behind_training(file.command)) is not None:
        return behind
    if "${program}" in file.command:
        return file.command[file.command.index("${program}") + 1 :]
    raise wrong(file.path, "command", "does not name the program: write ${program}")


def _behind_training(command: tuple[str, ...]) -> tuple[str, ...] | None:
    """What stands behind ``dig.train``, or ``dig train`` of an installed package; None where neither is named."""
    for place, word in enumerate(command):
        if _runs_training(word):
            return command[place + 1 :]
        if command[place : place + 2] == ("dig", "train"):
            return command[place + 2 :]
    return None


def _expanded(path: Path, word: str) -> str:
    """W&B's ``${envvar:NAME}``."""
    for name in _VARIABLE.findall(word):
        if not name.startswith("DIG_"):
            what = "only DIG_… variables may enter a configuration, since it is written to disk"
            raise wrong(path, "command", f"{shown_override(word)}: {what}")
        if name not in os.environ:
            raise UserError(
                f"{path}: command: {shown_override(word)}: the environment variable {name} is not set", exit_code=2
            )
    return _VARIABLE.sub(lambda match: os.environ[match[1]], word)
