"""Sweep files: every trial is a valid configuration, and what all trials share is computed once."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from dig.config import load_config
from dig.pipeline import _plan

SWEEPS = sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))


def trials(sweep: dict) -> list[list[str]]:
    names = list(sweep["parameters"])
    grids = [sweep["parameters"][name]["values"] for name in names]
    return [[f"{name}={value}" for name, value in zip(names, chosen, strict=True)] for chosen in product(*grids)]


def test_there_are_sweeps():
    assert [path.name for path in SWEEPS] == ["codebook.yaml"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_trial_is_a_configuration_and_shares_the_vectors(path: Path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["command"][-1] == "${args_no_hyphens}" and "${program}" in sweep["command"]
    plans = [{step.stage.name: step.key for step in _plan(load_config("quickstart", trial))} for trial in trials(sweep)]
    assert len(plans) == 36
    assert len({plan["embed"] for plan in plans}) == 1
    assert len({plan["tokenize"] for plan in plans}) == 36
