"""Names of rows: what the user calls them, or as short as tells them apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dig.comparison.runs import BESIDE, Run
from dig.engine.console import printable

__all__ = ["Difference", "differing_keys", "row_labels"]

_LONGEST = 80
_KEYS = 2
"""Differing keys that a label has room for."""
_VALUE = 24
"""Characters of a value in a label; the end of a path tells more than its beginning."""
_ABSENT = object()

Difference = tuple[str, list[str]]
"""A key, and its value in each of some runs as YAML on one line."""


def row_labels(rows: Sequence[tuple[Run, str]], seeds: bool = True) -> list[str]:
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
    return _unique([printable("/".join(part), _LONGEST) for part in parts])


def differing_keys(runs: Sequence[Run]) -> list[Difference]:
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


def _seeds(runs: Sequence[Run]) -> list[str]:
    return ["" if run.seed is None else f"seed-{run.seed}" for run in runs]


def _short_differences(runs: Sequence[Run], experiment_told: bool) -> list[str]:
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
        told = " ".join(f"{key}={_cut(values[number])}" for key, values in first)
        words.append(f"{'' if experiment_told else f'{run.experiment} '}{told}{more}")
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
