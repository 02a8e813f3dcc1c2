"""A configuration against its experiment, and the command that asks for it again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dig.config import config_to_dict, load_config
from dig.report.data import Change, config_changes, flow, provenance


def test_leaves_that_differ_are_told_in_the_order_of_the_configuration():
    before = {"experiment": "a", "seed": 1, "sft": {"epochs": 3, "tasks": {"x": 1}}, "list": [1, 2], "gone": None}
    after = {"experiment": "b", "sft": {"epochs": 4, "tasks": {"x": 1, "y": 2}}, "list": [1], "seed": 1}
    assert config_changes(before, after) == [
        Change("sft.epochs", "3", "4"),
        Change("sft.tasks.y", None, "2"),
        Change("list", "[1, 2]", "[1]"),
        Change("gone", "null", None),
    ]
    assert config_changes(before, before) == []


def test_values_are_yaml_in_one_line():
    assert [flow(each) for each in (None, True, "a: b", {"k": [1]}, 1e-4, "é" * 200, {})] == [
        "null",
        "true",
        "'a: b'",
        "{k: [1]}",
        "0.0001",
        "é" * 200,
        "{}",
    ]


def test_an_experiment_is_compared_with_what_it_extends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_DATA_ROOT", "/data")
    found = provenance(load_config("ablations/no_interests"))
    assert found.parent == "the experiment beauty, which it extends"
    assert found.command == "python -m dig.train experiment=ablations/no_interests"
    keys = {change.key for change in found.changes}
    assert 0 < len(keys) < 12 and "data.path" not in keys


def test_what_the_command_line_asked_for_is_in_the_command_which_loads_the_same():
    config = load_config("quickstart", ["seed=7", "sft.epochs=2", "embedding.fields=[title, brand]"])
    found = provenance(config)
    assert found.parent == "the schema's defaults"
    assert {change.key: change.after for change in found.changes}["seed"] == "7"
    program, experiment, *overrides = shlex.split(found.command)[2:]
    assert program == "dig.train" and len(overrides) == 3
    assert config_to_dict(load_config(experiment.removeprefix("experiment="), overrides)) == config_to_dict(config)


def test_a_file_elsewhere_is_compared_with_the_defaults_and_has_no_command(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {source: quickstart}\nseed: 3\n", encoding="utf-8")
    found = provenance(load_config(path))
    assert found.command == "" and {change.key for change in found.changes} == {"data.source", "seed"}


def test_a_parent_that_no_longer_loads_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_DATA_ROOT", "/data")
    config = load_config("sports")
    monkeypatch.delenv("DIG_DATA_ROOT")
    assert provenance(config).parent == "the schema's defaults"
