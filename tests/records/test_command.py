"""The command of a record: it gives the run's configuration again, and nothing of the machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dig.config import UserError, config_to_dict, load_config
from dig.records.command import repeat_command

CHANGES = (
    "seed=7",
    "stages=[sft,report]",
    "sft.epochs=3",
    "trainer.precision=bf16-mixed",
    "rqvae.codebook_size=[32,16]",
    "embedding.fields=[title,brand]",
    "embedding.interests=all",
    "grpo.learning_rate=1e-5",
    "data.columns.user_id=who bought it",
    "prompt.max_history=7",
    "backbone.config.num_hidden_layers=1",
    "evaluation.max_users=100",
)


def again(command: str) -> dict:
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "dig.train"]
    named = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    overrides = [word for word in words[3:] if not word.startswith("experiment=")]
    return config_to_dict(load_config(named[0] if named else None, overrides))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CHANGES), unique=True), st.sampled_from(["quickstart", "ablations/no_labels"]))
def test_the_command_gives_the_configuration_again(monkeypatch, changes: list[str], experiment: str):
    monkeypatch.setenv("DIG_DATA_ROOT", "/somewhere")
    config = config_to_dict(load_config(experiment, changes))
    command, left_out = repeat_command(config)
    assert again(command) == config and not left_out
    assert f"experiment={experiment}" in command


def test_only_what_differs_is_named():
    config = config_to_dict(load_config("quickstart", ["seed=42", "sft.epochs=3", "logging.progress=false"]))
    assert repeat_command(config | {"runs_dir": "/mine", "run_id": "a"}) == (
        "python -m dig.train experiment=quickstart sft.epochs=3",
        [],
    )


def test_a_run_without_an_experiment():
    command, _ = repeat_command(config_to_dict(load_config(None, ["data.source=quickstart", "seed=3"])))
    assert command == "python -m dig.train seed=3 data.source=quickstart"


def test_folders_and_addresses_are_not_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DIG_DATA_ROOT", str(tmp_path / "data"))
    changes = [
        f"data.path={tmp_path}/data/toys",
        f"mining.imports=[{tmp_path}/private/interests.jsonl]",
        "data.mirrors=[http://inside.example:8000/files]",
    ]
    command, left_out = repeat_command(config_to_dict(load_config("beauty", changes)))
    assert str(tmp_path) not in command and "inside.example" not in command and not left_out
    assert "'data.path=${oc.env:DIG_DATA_ROOT}/toys'" in command
    assert "FOLDER/interests.jsonl" in command and "data.mirrors=[ADDRESS]" in command
    assert again(command)["data"]["path"] == f"{tmp_path}/data/toys"


def test_keys_that_are_gone_are_told():
    config = config_to_dict(load_config("quickstart")) | {"sequential": {"layers": 2}, "stages": ["nothing_like_it"]}
    command, left_out = repeat_command(config)
    assert command == "python -m dig.train experiment=quickstart"
    assert left_out == ["stages", "sequential.layers"]


def test_an_experiment_that_is_gone():
    with pytest.raises(UserError, match=r"quickstat .* the nearest is quickstart"):
        repeat_command({"experiment": "quickstat"})


def test_the_data_root_must_be_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DIG_DATA_ROOT", raising=False)
    with pytest.raises(UserError, match="DIG_DATA_ROOT"):
        repeat_command({"experiment": "beauty"})
