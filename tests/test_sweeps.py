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
    assert [path.name for path in SWEEPS] == ["codebook.yaml", "small_backbone.yaml"]


@pytest.mark.parametrize(
    ("name", "count", "shared", "different"),
    [("codebook", 36, "embed", "tokenize"), ("small_backbone", 3 * 3 * 2 * 4 * 2 * 2 * 2, "tokenize", "sft")],
)
def test_every_trial_is_a_configuration_and_shares_what_comes_before(
    name: str, count: int, shared: str, different: str
):
    sweep = yaml.safe_load((SWEEPS[0].parent / f"{name}.yaml").read_text())
    assert sweep["command"][-1] == "${args_no_hyphens}" and "${program}" in sweep["command"]
    settings = trials(sweep)
    assert len(settings) == count
    some = settings[:: -(-count // 40)]  # all of a small sweep
    plans = [{step.stage.name: step.key for step in _plan(load_config("quickstart", trial))} for trial in some]
    assert len({plan[shared] for plan in plans}) == 1
    assert len({plan[different] for plan in plans}) == len(plans)
