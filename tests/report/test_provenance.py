"""Where a configuration comes from: its parent, its differences, and a command that loads it again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dig.config import config_to_dict, load_config
from dig.report.provenance import provenance


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
