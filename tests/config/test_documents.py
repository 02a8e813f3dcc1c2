"""JSON and YAML of anybody: what is too much, too deep or something else is one line, and quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dig.config import UserError, load_config
from dig.config.documents import check_yaml, parse_json, read_json_lines, read_json_mapping, read_yaml_mapping

DEEP = 200_000
NESTED_ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(read: Any, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("null", "must hold keys and values, not null"),
        ("[1]", "must hold keys and values, not a list"),
        ('{"a":', "line 1 is not JSON"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "it names 'c' twice"),
        ("[" * DEEP, "it is deeper than 64 levels"),
        ('{"a": ' + "[" * DEEP + "]" * DEEP + "}", "it is deeper than 64 levels"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "it is deeper than 64 levels"),
        ('{"a": NaN}', "it holds NaN"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "is too large"),
        ('{"a": "\\ud800"}', "half a character"),
    ],
)
def test_json_that_is_not_what_is_read(tmp_path: Path, text: str, said: str):
    """Guard 8: brackets of 200,000 levels and the like end in one line."""
    path = tmp_path / "metrics.json"
    path.write_text(text)
    assert said in refusal(lambda each: read_json_mapping(each, finite=True), path)


def test_what_is_not_a_text_file_is_not_read(tmp_path: Path):
    """Guard 8: a pipe would be read for ever, and a file of any size would fill the memory."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"[" * (2 << 20))
    (tmp_path / "noise").write_bytes(b"{}\n\xff")
    assert "is not a file" in refusal(read_json_mapping, tmp_path / "pipe")
    assert "is not a file" in refusal(read_json_mapping, tmp_path)
    assert "is missing" in refusal(read_json_mapping, tmp_path / "none")
    assert "more than 1 MB" in refusal(lambda path: read_json_mapping(path, most=1 << 20), tmp_path / "large")
    assert "line 2 is not UTF-8" in refusal(read_json_mapping, tmp_path / "noise")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
@settings(max_examples=60, deadline=None)
def test_json_of_ours_is_read_as_it_was_written(content: Any):
    import json

    for ascii_only in (True, False):
        assert parse_json(json.dumps(content, ensure_ascii=ascii_only)) == content


def test_lines_of_json_name_the_line(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"a": "x", "b": null}\n\n{"a": 1, "b": null}\n')
    assert "line 3: a is a whole number and not a text" in refusal(lambda each: read_json_lines(each, ["a", "b"]), path)
    path.write_text('{"a": "x"}')
    assert "line 1: b is missing" in refusal(lambda each: read_json_lines(each, ["a", "b"]), path)
    path.write_text('{"a": "x", "b": null}\n')
    assert read_json_lines(path, ["a", "b"]) == [{"a": "x", "b": None}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NESTED_ALIASES, ":5: it has more than 10,000 values, aliases written out"),
        ("a: &a [*a]", ":1: the alias *a stands for nothing before it"),
        ("a: &a {b: *a}", ":1: the alias *a stands for nothing before it"),
        ("a: *b", ":1: the alias *b stands for nothing before it"),
        ("a: " + "[" * DEEP, ":1: it is deeper than 64 levels"),
        ("\n".join("  " * level + "a:" for level in range(200)), "it is deeper than 64 levels"),
        ("- a", "must hold keys and values, not a list"),
        ("", "must hold keys and values, not null"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("1: a", "the key 1 is a whole number and not a text"),
        ("a: {b: {2020-01-01: c}}", "a.b: the key"),
        ("a: 2024-13-45", "not YAML: month must be in 1..12"),
        ("a: " + "9" * 5000, ":1: a number has too many digits"),
        ("a: " + "1:1" * 50_000, ":1: a number has too many digits"),
        ("a: 0xffffffffffffffffffffffff", "a: the number is too large"),
        ("a: !!set {b, c}", "a: a set is nothing that a configuration holds"),
        ("a: !!python/name:os.system", "not YAML: could not determine a constructor"),
        ("a: !!python/object/new:pathlib.Path [x]", "not YAML: could not determine a constructor"),
    ],
)
def test_yaml_that_is_too_much_or_something_else(tmp_path: Path, text: str, said: str):
    """Guard 6: nine lines of nested aliases took half a minute; guard 8: one line, and nothing is made of it."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    start = time.process_time()
    assert said in refusal(read_yaml_mapping, path)
    assert time.process_time() - start < 2


def test_aliases_that_are_few_are_read(tmp_path: Path):
    """Guard 6: an alias is not a fault, its size is what counts."""
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: &c word\nd: [*c, *a]\n")
    assert read_yaml_mapping(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("text", ["a: &a [x]\nb: [" + ", ".join(["*a"] * 4990) + "]", "a: [" + "x," * 9997 + "]"])
def test_the_limit_is_that_of_values_written_out(text: str):
    """Guard 6: an alias counts as what it stands for, at the limit exactly."""
    check_yaml(text, "here")
    with pytest.raises(UserError, match="more than 10,000 values"):
        check_yaml(text.replace("[x]", "[x, x, x]").replace("x,]", "x, x, x, x]"), "here")


def test_experiments_are_read_within_the_same_bounds(tmp_path: Path):
    """Guard 6: whatever OmegaConf's version allows; it takes a millisecond for each value, so a file may have fewer."""
    path = tmp_path / "mine.yaml"
    path.write_text(NESTED_ALIASES)
    with pytest.raises(UserError, match="more than 4,000 values") as caught:
        load_config(path)
    assert caught.value.exit_code == 2


@given(st.binary(max_size=60) | st.text("[]{}&*:,-a1 \n!", max_size=40).map(str.encode))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes):
    """Guard 8: no content whatever raises anything else."""
    for name, read in (("x.yaml", read_yaml_mapping), ("x.json", read_json_mapping)):
        (tmp_path / name).write_bytes(content)
        try:
            assert isinstance(read(tmp_path / name), dict)
        except UserError as error:
            assert "\n" not in str(error)
