"""Trials that are one, grids that are too large to look at, and ranges that mean less than they say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.sweep_files import write

from dig.config import UserError, key_type
from dig.sweeps import check
from dig.sweeps.check import check_effects, check_trials
from dig.sweeps.settings import Settings, load_settings


def settings(folder: Path, limit: int | None = None, **changes: Any) -> Settings:
    return load_settings(write(folder, **changes), [f"runs_dir={folder}"], limit)


def values(**lists: list[Any]) -> dict[str, Any]:
    return {name.replace("__", "."): {"values": found} for name, found in lists.items()}


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials are not loaded as configurations, which takes most of the time: what is said does not depend on it."""
    monkeypatch.setattr(check, "_check", lambda settings, point: None)


def test_trials_that_no_stage_tells_apart_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Entry 20: a swept key that no stage reads makes six trials one."""
    monkeypatch.setattr(check, "_BESIDE", 2)
    unread = values(grpo__learning_rate=[0.1, 0.2, 0.3], sasrec__epochs=[1, 2])
    with pytest.raises(UserError) as caught:
        check_effects(settings(tmp_path, parameters=unread))
    line = str(caught.value)
    assert "some.yaml: parameters.grpo.learning_rate: these 6 trials are one: no stage reads" in line
    assert "grpo.learning_rate and sasrec.epochs on the way to sft" in line and "\n" not in line
    assert caught.value.exit_code == 2
    beside = values(sft__learning_rate=[0.1, 0.2, 0.3], sasrec__epochs=[1, 2])
    with pytest.raises(UserError, match=r"parameters\.sasrec\.epochs: each 2 trials that differ only in it are one"):
        check_effects(settings(tmp_path, parameters=beside))
    drawn = {"sft.learning_rate": {"min": 0.1, "max": 0.2}, "grpo.kl_weight": {"min": 0.0, "max": 1.0}}
    with pytest.raises(UserError, match=r"parameters\.grpo\.kl_weight: trials that differ only in it are one"):
        check_effects(settings(tmp_path, method="random", run_cap=3, parameters=drawn))


@pytest.mark.parametrize(
    ("method", "parameter"),
    [("grid", {"values": [1, 1.0]}), ("random", {"min": 0.5, "max": 0.5})],
)
def test_values_that_are_all_one_are_called_so(method: str, parameter: dict[str, Any], tmp_path: Path):
    """Entry 20: a key that is read, but whose values are equal, is not called one that no stage reads."""
    cap = {"run_cap": 3} if method == "random" else {}
    with pytest.raises(UserError, match=r"parameters\.sft\.weight_decay: its values are all .*; write value: "):
        check_effects(settings(tmp_path, method=method, parameters={"sft.weight_decay": parameter}, **cap))


def test_a_parameter_that_matters_somewhere_is_taken(tmp_path: Path):
    """Entry 20: one value, data that are not there, and a key that is read under another's value are not a fault."""
    check_effects(settings(tmp_path))
    check_effects(settings(tmp_path, parameters=values(seed=[1, 2])))
    check_effects(settings(tmp_path, parameters=values(sft__epochs=[1, 2], sasrec__epochs=[3])))
    missing = [f"runs_dir={tmp_path}", "experiment=beauty", f"data.path={tmp_path}"]
    check_effects(load_settings(write(tmp_path, parameters=values(sasrec__epochs=[1, 2])), missing))


def test_a_large_grid_is_looked_at_in_seconds(tmp_path: Path, capsys, monkeypatch):
    """Entry 20: of 125,000 points each value once and some combinations; no more configurations than that are made."""
    monkeypatch.setattr(check, "_SECONDS", 0.5)
    grid = values(
        sft__batch_size=list(range(8, 58)), rqvae__codebook_size=list(range(8, 58)), sft__epochs=list(range(1, 51))
    )
    found = settings(tmp_path, parameters=grid)
    loaded: list[dict[str, Any]] = []
    monkeypatch.setattr(check, "_check", lambda settings, point: loaded.append(point))
    check_trials(found)
    assert 50 <= len(loaded) <= 150
    for name, listed in found.space.axes().items():
        assert {point[name] for point in loaded} == set(listed)
    assert "checking 50 of 125,000 configurations" in " ".join(capsys.readouterr().out.split())
    monkeypatch.undo()
    grid["sft.epochs"]["values"][5] = 0
    with pytest.raises(UserError, match=r"sft\.epochs"):
        check_trials(settings(tmp_path, parameters=grid))


def test_a_grid_without_end_is_refused_and_a_cut_one_never_made(tmp_path: Path):
    """Entry 20: a thousand million points fit into no list."""
    axis = {"distribution": "int_uniform", "min": 1, "max": 1000}
    grid = {"sft.epochs": axis, "sft.batch_size": axis, "seed": axis}
    with pytest.raises(UserError, match="a grid of 1,000,000,000 points; take method: random"):
        check_trials(settings(tmp_path, parameters=grid))
    cut = settings(tmp_path, limit=3, parameters=grid)
    started = time.monotonic()
    check_trials(cut)
    assert [point["seed"] for point in cut.space.grid(3)] == [1, 2, 3] and time.monotonic() - started < 20


def test_points_by_number_are_those_of_the_grid(tmp_path: Path):
    space = settings(tmp_path, parameters=values(seed=[1, 2], sft__epochs=[1, 2, 3])).space
    assert [space.point(number) for number in range(6)] == space.grid() and space.grid(4) == space.grid()[:4]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"grpo.kl_weight": {"min": 0, "max": 1}}, "so 0 and 1 only are drawn, as W&B does; write 0.0 and 1.0"),
        ({"grpo.temperature": {"min": 1, "max": 3}}, "so whole numbers from 1 to 3 only are drawn"),
        ({"grpo.reward.prefix": {"min": 0, "max": 1}}, "parameters.grpo.reward.prefix"),
        ({"grpo.kl_weight": {"min": 0.0, "max": 1.0}}, ""),
        ({"grpo.kl_weight": {"min": 0, "max": 1.0}}, ""),
        ({"grpo.kl_weight": {"distribution": "int_uniform", "min": 0, "max": 1}}, ""),
        ({"rqvae.levels": {"min": 2, "max": 4}}, ""),
    ],
)
def test_whole_bounds_of_a_key_that_takes_any_number_are_told(
    tmp_path: Path, parameters, told: str, capsys, only_told: None
):
    """Entry 20: `{min: 0, max: 1}` draws whole numbers, as under W&B, and says so."""
    check_trials(settings(tmp_path, method="random", run_cap=3, parameters=parameters))
    out = " ".join(capsys.readouterr().out.split())
    assert (told in out and "warning:" in out) if told else out == ""


def test_a_grid_that_is_cut_short_says_what_it_leaves_out(tmp_path: Path, capsys, only_told: None):
    check_trials(settings(tmp_path, limit=2))
    out = " ".join(capsys.readouterr().out.split())
    assert "the first 2 of 4 trials all have rqvae.codebook_size=8: a grid goes through the last parameter" in out
    check_trials(settings(tmp_path, limit=3))
    check_trials(settings(tmp_path))
    assert capsys.readouterr().out == ""


def test_types_of_keys():
    assert key_type("grpo.kl_weight") is float and key_type("rqvae.levels") is int
    assert key_type("mining.max_cost_usd") is float and key_type("grpo.reward.extra.own") is float
    assert key_type("mining.models.gpt.price_in") is float and key_type("mining.models.gpt.vision") is bool
    assert key_type("no.such") is None and key_type("seed.deeper") is None
