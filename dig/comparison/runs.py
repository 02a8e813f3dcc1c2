"""The runs that a comparison names: where they are, what they say of themselves, and what their rows are called."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from dig.config import UserError, load_run_config, nearest
from dig.config.documents import read_yaml_mapping
from dig.config.renamed import modernised
from dig.engine.catalogue import Catalogue
from dig.engine.console import messages_to_stderr, printable, warn
from dig.engine.proof import RunProof
from dig.received.metrics import read_metrics
from dig.received.tables import read_parquet_table

__all__ = ["BESIDE", "ComparedRun", "find_runs", "named", "path_of", "Difference", "differing_keys", "row_labels"]


_RANKINGS = {"test": "recommendations.parquet", "valid": "recommendations_valid.parquet"}
_EXAMPLES = {"test": "examples.parquet", "valid": "examples_valid.parquet"}
_FINISHED = _RANKINGS["test"]
_LONGEST = 255
"""Bytes that a file's name can have; asking for a longer one is an error of the file system."""
BESIDE = ("seed", "run_id", "runs_dir", "logging", "slurm", "stages", "baselines")
"""Keys beside the recipe: no recommender is another one by them."""
_SHOWN = 60
_OTHER = {True: "recommendations_masked.parquet", False: "recommendations_unmasked.parquet"}


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Attributes:
        given: how it was named.
        folder: where it is.
        stages: recommenders that were asked for; empty for all.
        experiment: name of its experiment.
        seed: of its training; None if it does not say.
        split: how its data were split; None if it does not say.
        ks: cut-offs that it was measured at.
        part: whose rankings these are, ``test`` or ``valid``.
        rankings: files of rankings by whether items of the history were left out.
        recipe: the same for runs that differ in nothing that teaches or tests a recommender but the seed.
        name: what the user calls it in the table; empty leaves that to what tells it apart.
        config: its configuration.
        aliases: other ways in which it was named.
    """

    given: str
    folder: Path
    stages: tuple[str, ...]
    experiment: str
    seed: int | None
    split: str | None
    ks: tuple[int, ...]
    rankings: Mapping[bool, Path]
    recipe: str = ""
    part: str = "test"
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    aliases: tuple[str, ...] = ()

    @property
    def examples(self) -> Path:
        """What was asked, with slices; older runs have none."""
        return self.folder / _EXAMPLES[self.part]

    @property
    def again(self) -> str:
        """How its rankings are made anew."""
        return f"evaluate again: python -m dig.train experiment={self.folder / 'config.yaml'}"


def find_runs(names: Sequence[str], root: Path, seeds: bool = False, part: str = "test") -> list[ComparedRun]:
    """The runs in the order they were named, each once.

    Args:
        names: folders of runs, or names of experiments, which stand for their latest run; either with ``:stage``, and
            with ``name=`` before it if the rows are to be called so.
        root: folder of the experiments' runs.
        seeds: behind each run also the finished ones beside it that differ from it only in the seed, by their seeds.
        part: what they are compared on, ``test`` or ``valid``.

    Raises:
        UserError: there is none of a name, or it is not finished.
    """
    runs: dict[tuple[Path, str], ComparedRun] = {}
    asked = []
    for argument in names:
        name, rest = named(argument, root)
        asked.append(replace(_read(*_locate(rest, root), part), name=name))
    for run in [one for each in asked for one in (each, *(_other_seeds(each) if seeds else ()))]:
        before = runs.get((run.folder, run.name))
        if before is not None:
            everything = not before.stages or not run.stages
            stages = () if everything else tuple(dict.fromkeys((*before.stages, *run.stages)))
            others = (run.given,) if run.given not in (before.given, *before.aliases) else ()
            run = replace(before, stages=stages, aliases=(*before.aliases, *others))
        runs[run.folder, run.name] = run
    for folder in dict.fromkeys(folder for folder, _ in runs):
        _tell_unreadable(folder)
    return list(runs.values())


def named(argument: str, root: Path) -> tuple[str, str]:
    """``name=run`` as name and run; a run or file whose own name has an equals sign is itself.

    Raises:
        UserError: there is nothing on one side of the equals sign.
    """
    name, equals, rest = argument.partition("=")
    if not equals or path_of(argument).exists() or _folder(argument, root) is not None:
        return "", argument
    head, colon, _ = argument.rpartition(":")
    if colon and _folder(head, root) is not None:
        return "", argument
    if not name.strip() or not rest.strip():
        missing = "a name before the =" if not name.strip() else "a run or a file after the ="
        raise UserError(f"{argument}: it needs {missing}, such as labels_off=runs/quickstart/latest", exit_code=2)
    return name.strip(), rest


def _other_seeds(run: ComparedRun) -> list[ComparedRun]:
    """Finished runs of the same recipe beside it, as far as they have the stages that it was named for."""
    others = []
    for rankings in run.folder.parent.glob(f"*/{_RANKINGS[run.part]}"):
        folder = rankings.parent
        if folder == run.folder or folder.is_symlink() or not (folder / "config.yaml").is_file():
            continue
        tested = read_metrics(folder)
        stages = tuple(stage for stage in run.stages if stage in tested)
        if stages or not run.stages:
            other = _read(os.path.relpath(folder), folder, stages, run.part)
            same = other.recipe == run.recipe and other.seed != run.seed
            others += [replace(other, name=run.name)] if same else []
    return sorted(others, key=lambda other: other.seed or 0)


def _locate(name: str, root: Path) -> tuple[str, Path, tuple[str, ...]]:
    """The name of a run without its stage, its folder, and the stage."""
    whole = _folder(name, root)
    if whole is not None:
        return name, whole, ()
    head, colon, stage = name.rpartition(":")
    folder = _folder(head, root) if colon and head and stage else None
    if folder is not None:
        return head, folder, (stage,)
    unfinished = next((path for path in (path_of(name), root / name) if _is_folder(path)), None)
    if unfinished is not None:
        raise UserError(f"{name} is not a finished run: it has no config.yaml{_finished_beside(unfinished)}")
    hint = nearest(head if colon else name, _known(root))
    advice = f"did you mean {hint}?" if hint else f"there are none in {root}, --runs names another folder"
    raise UserError(f"{name}: no such run or experiment; {advice}", exit_code=2)


def path_of(text: str) -> Path:
    """What an argument names as a path; one that no file system could have is a path that is not there."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, or the home of nobody
        return Path("\0")
    return path


def _folder(name: str, root: Path) -> Path | None:
    if _too_long(Path(name)):
        return None
    path = path_of(name)
    candidates = (path, path / "latest", root / name / "latest")
    return next((folder for folder in candidates if (folder / "config.yaml").is_file()), None)


def _is_folder(path: Path) -> bool:
    return not _too_long(path) and path.is_dir()


def _too_long(path: Path) -> bool:
    return any(len(os.fsencode(part)) > _LONGEST for part in path.parts)


def _finished_beside(folder: Path) -> str:
    """Names the newest finished run of the same experiment."""
    for parent in (folder, folder.parent):
        finished = [path.parent for path in parent.glob(f"*/{_FINISHED}") if not path.parent.is_symlink()]
        if finished:
            newest = max(finished, key=lambda path: (path / _FINISHED).stat().st_mtime)
            return f"; the newest finished one is {newest}"
    return ""


def _known(root: Path) -> list[str]:
    """Experiments, and paths of runs."""
    runs = [path.parent for path in root.glob("*/*/config.yaml")]
    return [*dict.fromkeys(run.parent.name for run in runs), *map(str, runs)]


def _read(given: str, folder: Path, stages: tuple[str, ...], part: str) -> ComparedRun:
    folder = folder.resolve()
    proof = RunProof(folder)
    proof.require("config.yaml", "metrics.json")
    path = folder / "config.yaml"
    config = modernised(read_yaml_mapping(path))
    data, evaluation = (_section(config, name, path) for name in ("data", "evaluation"))
    measured = [metrics for name, metrics in read_metrics(folder, finite=True).items() if not stages or name in stages]
    split = next((metrics["split"] for metrics in measured if metrics.get("split")), data.get("split"))
    masked = evaluation.get("mask_history", False)
    if not isinstance(masked, bool):
        raise UserError(f"{path}: evaluation.mask_history: must be true or false, it is {str(masked)[:_SHOWN]!r}")
    masked = next((metrics["mask_history"] for metrics in measured if "mask_history" in metrics), masked)
    ks = _ks(evaluation, path)
    files = {masked: folder / _RANKINGS[part]}
    if part == "test":
        files[not masked] = folder / _OTHER[not masked]
    proof.require_present(*(each.name for each in files.values()))
    _require_catalogue(proof)
    run = ComparedRun(
        given=given,
        folder=folder,
        stages=stages,
        experiment=str(config.get("experiment") or folder.parent.name),
        seed=_seed(config, path),
        split=None if split is None else str(split),
        ks=_cutoffs(measured) or ks,
        rankings={protocol: path for protocol, path in files.items() if path.is_file()},
        recipe=json.dumps({key: config[key] for key in config if key not in BESIDE}, sort_keys=True, default=str),
        part=part,
        config=config,
    )
    if not files[masked].is_file():
        raise UserError(f"{given}: it has no {_RANKINGS[part]}; {run.again}")
    return run


def _require_catalogue(proof: RunProof) -> None:
    """The items that lie beside the numbers are those that they are about."""
    path = proof.run / "items.parquet"
    if proof.catalogue is not None and path.is_file():
        proof.require(path.name)
        ids = read_parquet_table(path, {"item_id": pl.String})["item_id"].to_list()
        proof.require_catalogue(Catalogue.of(ids), path.name)


def _tell_unreadable(folder: Path) -> None:
    """The numbers of a run need few of its settings; that its models cannot answer by them is said all the same."""
    try:
        load_run_config(folder)
    except UserError as error:
        with messages_to_stderr():  # the standard output may be a table for a program
            warn(f"{error}; its numbers are compared as they stand, and dig.recommend refuses this run")


def _section(config: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise UserError(f"{path}: {name}: must hold keys and values, it is {str(section)[:_SHOWN]!r}")
    return section


def _seed(config: Mapping[str, Any], path: Path) -> int | None:
    seed = config.get("seed")
    if seed is not None and type(seed) is not int:
        raise UserError(f"{path}: seed: must be a whole number, it is {str(seed)[:_SHOWN]!r}")
    return seed


def _ks(evaluation: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    ks = evaluation.get("ks", [5, 10])
    if not isinstance(ks, list) or not ks or not all(type(k) is int and k > 0 for k in ks):
        raise UserError(f"{path}: evaluation.ks: must be a list of whole numbers above 0, it is {str(ks)[:_SHOWN]!r}")
    return tuple(ks)


def _cutoffs(measured: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Those of HR that all measured recommenders have."""
    cutoffs = [
        {int(name[3:]) for name in metrics["test"] if name.startswith("hr@") and name[3:].isdecimal()}
        for metrics in measured
    ]
    return tuple(sorted(set.intersection(*cutoffs))) if cutoffs else ()


# Names of rows: what the user calls them, or as short as tells them apart.


_LONGEST_LABEL = 80
_KEYS = 2
"""Differing keys that a label has room for."""
_VALUE = 24
"""Characters of a value in a label; the end of a path tells more than its beginning."""
_ABSENT = object()

Difference = tuple[str, list[str]]
"""A key, and its value in each of some runs as YAML on one line."""


def row_labels(rows: Sequence[tuple[ComparedRun, str]], seeds: bool = True) -> list[str]:
    """The user's name for a row; else the stage, behind what tells it from others of the same stage.

    That is the experiment, the keys in which the configurations differ, the seed; where all these are the same, run id
    or path.

    Args:
        rows: run and stage; no pair twice.
        seeds: whether a row is called by its seed; no where it has several.
    """
    parts = [[stage] for _, stage in rows]
    unnamed = [number for number, (run, _) in enumerate(rows) if not run.name]
    for group in _alike(parts, unnamed):
        _tell(parts, group, [rows[row][0].experiment for row in group])
    for group in _alike(parts, unnamed):
        runs = [rows[row][0] for row in group]
        for words in (_short_differences(runs, len(parts[group[0]]) > 1), _seeds(runs) if seeds else []):
            _tell(parts, group, words)
    for way in ("folder", "path"):
        for group in _alike(parts, unnamed):
            _tell(parts, group, [rows[row][0].folder.name if way == "folder" else rows[row][0].given for row in group])
    for row, (run, stage) in enumerate(rows):
        if run.name:
            several = sum(other.name == run.name for other, _ in rows) > 1
            parts[row] = [run.name, stage] if several else [run.name]
    return _unique([printable("/".join(part), _LONGEST_LABEL) for part in parts])


def differing_keys(runs: Sequence[ComparedRun]) -> list[Difference]:
    """Keys of the configuration in which runs differ, beside seed and what changes no recommender.

    Keys that not all of them have come last: those of an older version lack what was added since.
    """
    leaves = [dict(_leaves(run.config)) for run in runs]
    keys = dict.fromkeys(key for each in leaves for key in each if key.partition(".")[0] not in (*BESIDE, "experiment"))
    odd = [key for key in keys if any(each.get(key, _ABSENT) != leaves[0].get(key, _ABSENT) for each in leaves)]
    odd.sort(key=lambda key: any(key not in each for each in leaves))
    return [(key, [_flow(each[key]) if key in each else "not there" for each in leaves]) for key in odd]


def _alike(parts: Sequence[Sequence[str]], rows: Sequence[int]) -> list[list[int]]:
    """Rows that are called the same so far."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(parts[row])].append(row)
    return [group for group in groups.values() if len(group) > 1]


def _tell(parts: list[list[str]], group: Sequence[int], words: Sequence[str]) -> None:
    """Puts a word before the stage of each row, if the words differ."""
    if len(set(words)) > 1:
        for row, word in zip(group, words, strict=True):
            parts[row][-1:-1] = [word] if word else []


def _seeds(runs: Sequence[ComparedRun]) -> list[str]:
    return ["" if run.seed is None else f"seed-{run.seed}" for run in runs]


def _short_differences(runs: Sequence[ComparedRun], experiment_told: bool) -> list[str]:
    """``beauty labels.enabled=false`` for each run; of many keys the first that tell most apart."""
    differences = differing_keys(runs)
    if not differences:
        return []
    first = differences
    if len(differences) > _KEYS:
        first = sorted(differences, key=lambda each: -len(set(each[1])))[:_KEYS]
    more = f" +{len(differences) - len(first)}" if len(differences) > len(first) else ""
    words = []
    for number, run in enumerate(runs):
        settings = " ".join(f"{key}={_cut(values[number])}" for key, values in first)
        words.append(f"{'' if experiment_told else f'{run.experiment} '}{settings}{more}")
    return words


def _cut(value: str) -> str:
    return value if len(value) <= _VALUE else f"…{value[1 - _VALUE :]}"


def _unique(labels: Sequence[str]) -> list[str]:
    """Labels that came out the same, because they were cut or named so, get a number."""
    counts, seen = Counter(labels), Counter[str]()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(f"{label} ({seen[label]})" if counts[label] > 1 else label)
    return unique


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, content
