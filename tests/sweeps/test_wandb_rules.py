"""Our reading of a sweep file beside W&B's own code: its schema, its distributions, its way to stop trials early."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.sweep_files import SIMPLE, ask_wandb, wandb_sweeps, write

from dig.config import UserError
from dig.sweeps.file import read_sweep
from dig.sweeps.space import DISTRIBUTIONS, Space, quantile, read_parameters
from dig.sweeps.trials import falls_behind

SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
SPREAD = [
    {"distribution": "uniform", "min": -1.5, "max": 2},
    {"distribution": "q_uniform", "min": 0, "max": 10, "q": 3},
    {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
    {"distribution": "log_uniform", "min": -5, "max": 1},
    {"distribution": "log_uniform_values", "min": 0.001, "max": 10},
    {"distribution": "q_log_uniform", "min": 0, "max": 5, "q": 2},
    {"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 5},
    {"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]},
]
SHARES = [0.01, 0.12, 0.25, 0.4, 0.5, 0.66, 0.75, 0.9, 0.99]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweep_files_fit_wandbs_schema_and_have_a_validation_metric(path: Path):
    schema = json.loads((wandb_sweeps() / "sweeps" / "config" / "schema.json").read_text())
    content = yaml.safe_load(path.read_text())
    jsonschema.Draft7Validator(schema).validate(content)
    assert content["program"] == "dig.train" and content["command"][-1] == "${args_no_hyphens}"
    assert content["metric"] == {"name": "valid/ndcg@10", "goal": "maximize"} and "early_terminate" in content
    broken = {**content, "metod": "grid"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(broken)


@pytest.mark.parametrize(
    "name",
    ["normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta", "inv_log_uniform", "inv_log_uniform_values"],
)
def test_distributions_that_optuna_has_not_are_refused_with_those_that_are_there(name: str):
    """W&B knows them; nothing near is proposed, since a nearly equal name means another distribution."""
    schema = (wandb_sweeps() / "sweeps" / "config" / "schema.json").read_text()
    assert f'"{name}"' in schema
    with pytest.raises(UserError) as caught:
        read_parameters(Path("f.yaml"), {"p": {"distribution": name, "min": 1, "max": 2}})
    known = ", ".join(DISTRIBUTIONS)
    assert str(caught.value) == f"f.yaml: parameters.p.distribution: {name!r} is not supported; there are {known}"
    assert caught.value.exit_code == 2


def test_every_distribution_has_wandbs_values():
    script = """
from sweeps.params import HyperParameter
import numpy as np
found = []
for settings in asked["spread"]:
    parameter = HyperParameter("p", settings)
    values = [parameter.ppf(share) for share in asked["shares"]]
    found.append([value.item() if isinstance(value, np.generic) else value for value in values])
print(json.dumps(found))
"""
    theirs = ask_wandb(script, {"spread": SPREAD, "shares": SHARES})
    for settings, expected in zip(SPREAD, theirs, strict=True):
        (parameter,) = read_parameters(Path("f"), {"p": settings})
        ours = [quantile(parameter, share) for share in SHARES]
        if "values" in settings:
            assert ours == expected
        else:
            assert ours == pytest.approx(expected, rel=1e-6), settings


def test_a_grid_is_wandbs_grid(tmp_path: Path):
    parameters = {
        "rqvae.codebook_size": {"values": [8, 16]},
        "rqvae.levels": {"min": 2, "max": 4},
        "sft.dropout": {"distribution": "q_uniform", "min": 0.0, "max": 0.4, "q": 0.1},
        "seed": {"value": 3},
    }
    script = """
from sweeps.grid_search import grid_search_next_runs
runs = [run for run in grid_search_next_runs([], asked, n=1000) if run is not None]
print(json.dumps([{name: each["value"] for name, each in run.config.items()} for run in runs]))
"""
    theirs = ask_wandb(script, {"method": "grid", "parameters": parameters})
    file = read_sweep(write(tmp_path, parameters=parameters))
    space = Space.of(read_parameters(file.path, file.parameters))
    ours = [{**space.constants, **point} for point in space.grid()]
    rounded = lambda point: tuple(sorted((name, round(value, 9)) for name, value in point.items()))  # noqa: E731
    assert sorted(map(rounded, ours)) == sorted(map(rounded, theirs))
    assert space.grid_size == len(ours) == 2 * 3 * 4


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_trials_are_stopped_where_wandb_stops_them(tmp_path: Path, goal: str):
    chance = random.Random(7)  # noqa: S311 - not for secrets
    rules = [
        {"type": "hyperband", "min_iter": 2, "eta": 2},
        {"type": "hyperband", "min_iter": 1, "strict": False},
        {"type": "hyperband", "max_iter": 9, "s": 2, "eta": 3},
        {"type": "hyperband", "min_iter": 3, "eta": 1.5},
    ]
    cases = [
        {"rule": rule, "runs": [[chance.random() for _ in range(chance.randint(0, 9))] for _ in range(8)]}
        for rule in rules
        for _ in range(12)
    ]
    script = """
from sweeps.hyperband_stopping import hyperband_stop_runs
from sweeps.run import RunState, SweepRun
found = []
for case in asked["cases"]:
    runs = [SweepRun(name=str(place), state=RunState.running, history=[{"m": value} for value in values])
            for place, values in enumerate(case["runs"])]
    config = {"method": "random", "metric": {"name": "m", "goal": asked["goal"]}, "early_terminate": case["rule"],
              "parameters": {"a": {"values": [1, 2]}}}
    found.append([run.name for run in hyperband_stop_runs(runs, config)])
print(json.dumps(found))
"""
    theirs = ask_wandb(script, {"cases": cases, "goal": goal})
    assert 50 < sum(map(len, theirs)) < sum(len(case["runs"]) for case in cases)
    sign = -1 if goal == "maximize" else 1
    for case, expected in zip(cases, theirs, strict=True):
        bands = read_sweep(write(tmp_path, early_terminate=case["rule"])).bands
        runs = [[sign * value for value in run] for run in case["runs"]]
        stopped = [
            str(place) for place, run in enumerate(runs) if falls_behind(run, runs[:place] + runs[place + 1 :], bands)
        ]
        assert stopped == expected, case


def test_what_the_schema_refuses_is_refused_here(tmp_path: Path):
    schema = jsonschema.Draft7Validator(json.loads((wandb_sweeps() / "sweeps" / "config" / "schema.json").read_text()))
    for change in (
        {"method": "gird"},
        {"run_cap": 0},
        {"metric": {"name": "valid/ndcg@10", "goal": "max"}},
        {"metric": {"goal": "maximize"}},
        {"parameters": {}},
        {"parameters": {"a": {"values": []}}},
        {"parameters": {"a": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}},
        {"parameters": {"a": {"distribution": "zipf"}}},
        {"parameters": {"a": {"min": 0, "max": 1, "mode": 2}}},
        {"early_terminate": {"type": "hyperband"}},
        {"early_terminate": {"type": "median"}},
        {"paramters": {}},
        {"early_terminate": {"type": "hyperband", "min_iter": 0}},
    ):
        assert not schema.is_valid({**SIMPLE, **change}), change
        with pytest.raises(UserError):
            file = read_sweep(write(tmp_path, **change))
            read_parameters(file.path, file.parameters)
