"""JSON and YAML that may come from anybody: bounded in size, depth and nodes, and of the type that is expected.

A parser takes what it is given: brackets in 200,000 levels end Python's stack, nine lines of YAML whose aliases name
each other are 10⁹ values once somebody walks through them, and a number of 5,000 digits cannot even be printed. All of
that is refused here, in one line that names the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dig.config.errors import UserError

__all__ = [
    "YAML_BYTES",
    "check_yaml",
    "parse_json",
    "read_json_lines",
    "read_json_mapping",
    "read_text",
    "read_yaml_mapping",
]

JSON_BYTES = 64 << 20
"""Bytes of a JSON file at most: the metrics of a run with all its slices have a few hundred kilobytes."""
YAML_BYTES = 1 << 20
"""Bytes of a YAML file at most: a whole configuration has ten kilobytes."""
_DEEPEST = 64
_NODES = 10_000
"""Values of a YAML file once its aliases are written out; OmegaConf's own limit."""
_CONFIG_NODES = 4000
"""Values and keys of a configuration at most: a whole one has nine hundred, and seventy for each further model."""
_REFERENCE, _REFERENCES = 128, 8192
"""Characters that a reference counts for beside those of its text; and characters of all texts with references."""
_LARGEST = 2**64
_SHOWN = 120
_LONGEST_NUMBER = 100
_NUMBER = re.compile(r"[-+0-9_.:a-fA-FxoeE]+")
"""Where many of these are one word, making a number of them takes the square of their count."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SCANNER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path, most: int = JSON_BYTES, exit_code: int = 1) -> str:
    """A text file in UTF-8 of ``most`` bytes at most.

    Raises:
        UserError: it is not a file, too large, not UTF-8, or cannot be read.
    """
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            reason = "is not a file" if path.exists() else "is missing"
            raise UserError(f"{path} {reason}", exit_code)
        with path.open("rb") as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            what = f"it has more than {most >> 20} MB, too much for what it should hold"
            raise UserError(f"{path} cannot be read: {what}", exit_code)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} cannot be read: line {line} is not UTF-8", exit_code) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or type(error).__name__}", exit_code) from None


def read_json_mapping(path: Path, most: int = JSON_BYTES, advice: str = "", finite: bool = False) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: the file.
        most: bytes at most.
        advice: what to do, behind a semicolon of the message.
        finite: also refuse NaN and Infinity, which are not JSON but what Python writes for them.

    Raises:
        UserError: it cannot be read, is not JSON, holds something else than an object, names a key twice, or is deeper
            than 64 levels.
    """
    behind = f"; {advice}" if advice else ""
    try:
        content = parse_json(read_text(path, most), finite=finite)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}{behind}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, not {_kind(content)}{behind}")
    return content


def read_json_lines(path: Path, required: Iterable[str], most: int = JSON_BYTES, advice: str = "") -> list[Any]:
    """A file with a JSON object of texts, or null, in each line.

    Args:
        path: the file.
        required: keys that every object has; each holds a text or null.
        most: bytes at most.
        advice: what to do, behind a semicolon of the message.

    Raises:
        UserError: with the line that is something else.
    """
    behind, required, records = f"; {advice}" if advice else "", list(required), []
    for number, line in enumerate(read_text(path, most).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
            if not isinstance(record, dict):
                raise ValueError(f"it must hold keys and values, not {_kind(record)}")
            for key in required:
                if key not in record or not isinstance(record[key], str | None):
                    what = f"is {_kind(record[key])} and not a text" if key in record else "is missing"
                    raise ValueError(f"{key} {what}")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}{behind}") from None
        records.append(record)
    return records


def parse_json(text: str, finite: bool = False) -> Any:
    """JSON as Python's containers.

    Args:
        text: the whole.
        finite: refuse NaN and Infinity.

    Raises:
        ValueError: with a reason of one line.
    """
    if not text.strip():
        raise ValueError("it is empty")
    try:
        content = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_bounded_int,
            parse_float=_finite_float if finite else None,
            parse_constant=_refused if finite else None,
        )
    except RecursionError:
        raise ValueError(f"it is deeper than {_DEEPEST} levels") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} is not JSON ({error.msg})") from None
    if text.count("[") + text.count("{") > _DEEPEST:
        _check_depth(content)
    if _SURROGATE.search(text):
        _check_texts(content)
    return content


def read_yaml_mapping(path: Path, exit_code: int = 1) -> dict[str, Any]:
    """A YAML file that holds keys and values, whose keys are texts at all levels.

    Raises:
        UserError: it cannot be read, is not YAML, holds something else, or too much of it.
    """
    text = read_text(path, YAML_BYTES, exit_code)
    check_yaml(text, path, exit_code)
    try:
        content = yaml.load(text, Loader=_SCANNER)  # noqa: S506 - both loaders are safe ones
    except yaml.YAMLError as error:
        raise _not_yaml(path, error, exit_code) from None
    except (ValueError, OverflowError, RecursionError) as error:  # a date of month 13, a number of 5,000 digits
        raise UserError(f"{path}: not YAML: {_first_line(error)}", exit_code) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, not {_kind(content)}", exit_code)
    try:
        _check_values(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}", exit_code) from None
    return content


def check_yaml(text: str, path: Path | str, exit_code: int = 1, config: bool = False) -> None:
    """Counts what a YAML text holds, aliases written out, before anything is made of it.

    Args:
        text: the whole.
        path: where it stands, for the message.
        exit_code: of the error.
        config: OmegaConf is going to read it, which takes a millisecond for each value and more for each ``${…}``; so
            it may have less.

    Raises:
        UserError: it is not YAML, deeper than 64 levels, or has more of something than it may have.
    """
    most = _CONFIG_NODES if config else _NODES
    sizes: dict[str | None, _Size] = {}  # below each anchor
    open_nodes: list[tuple[str | None, _Size]] = [(None, _Size(0, 0, 0))]
    try:
        for event in yaml.parse(text, Loader=_SCANNER):
            below = _Size(0, 0, 0)
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, _Size(1, 0, 0)))
                sizes.pop(event.anchor, None)  # within itself it stands for nothing
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, size = open_nodes.pop()
                below = size._replace(depth=size.depth + 1)
                if anchor:
                    sizes[anchor] = below
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in sizes:
                    raise _wrong_yaml(path, event, f"the alias *{event.anchor} stands for nothing before it", exit_code)
                below = sizes[event.anchor]
            elif isinstance(event, yaml.ScalarEvent):
                if event.implicit[0] and len(event.value) > _LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
                    raise _wrong_yaml(path, event, "a number has too many digits", exit_code)
                references = event.value.count("${")
                below = _Size(1, 0, len(event.value) + _REFERENCE * references if references else 0)
                if event.anchor:
                    sizes[event.anchor] = below
            open_nodes[-1] = (open_nodes[-1][0], open_nodes[-1][1].with_below(below))
            if sum(size.values for _, size in open_nodes) > most:
                raise _wrong_yaml(path, event, f"it has more than {most:,} values, aliases written out", exit_code)
            if len(open_nodes) + open_nodes[-1][1].depth > _DEEPEST + 1:
                raise _wrong_yaml(path, event, f"it is deeper than {_DEEPEST} levels", exit_code)
            if config and sum(size.references for _, size in open_nodes) > _REFERENCES:
                raise _wrong_yaml(path, event, "it has more references ${…} than a configuration needs", exit_code)
    except yaml.YAMLError as error:
        raise _not_yaml(path, error, exit_code) from None


class _Size(NamedTuple):
    """What is below a node: values, levels, and how much of references there is to resolve."""

    values: int
    depth: int
    references: int

    def with_below(self, other: _Size) -> _Size:
        return _Size(self.values + other.values, max(self.depth, other.depth), self.references + other.references)


def _wrong_yaml(path: Path | str, event: Any, what: str, exit_code: int) -> UserError:
    return UserError(f"{path}:{event.start_mark.line + 1}: {what}", exit_code)


def _not_yaml(path: Path | str, error: yaml.YAMLError, exit_code: int) -> UserError:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark is not None else f"{path}"
    return UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or _first_line(error)}", exit_code)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it names {_shown(twice)} twice")
    return content


def _bounded_int(digits: str) -> int:
    if len(digits) > 21 or abs(int(digits)) >= _LARGEST:
        raise ValueError(f"the number {digits[:20]}… is too large")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _refused(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not a number")


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(_DEEPEST + 1):
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"it is deeper than {_DEEPEST} levels")


def _check_texts(content: Any) -> None:
    """Half of a pair of surrogates is in no file's encoding, so that nobody could print it."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a surrogate without the other)") from None


def _check_values(content: Any, where: str = "") -> None:
    """What a configuration can hold: texts for keys, no number that is wider than 64 bits, no bytes and sets."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str):
                raise ValueError(f"{f'{where}: ' if where else ''}the key {_shown(key)} is {_kind(key)} and not a text")
            _check_values(value, f"{where}.{key}" if where else key)
    elif isinstance(content, list):
        for value in content:
            _check_values(value, where)
    elif isinstance(content, int) and not isinstance(content, bool) and abs(content) >= _LARGEST:
        raise ValueError(f"{where}: the number is too large")
    elif not isinstance(content, str | int | float | date | None):
        raise ValueError(f"{where}: {_kind(content)} is nothing that a configuration holds")


def _kind(content: Any) -> str:
    """What a value is, in words: ``a list``."""
    names = {
        dict: "keys and values",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(content), f"a {type(content).__name__}")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < _LARGEST else "a large number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_SHOWN]
