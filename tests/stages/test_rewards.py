"""Terms that a configuration switches on: known, imported, and with the stages that they need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dig.config import UserError, load_config
from dig.engine.console import console
from dig.engine.pipeline import find_stages, stage_keys
from dig.rollouts import REWARD_TERMS
from dig.stages import BUILT
from dig.stages.rewards import NOT_IMPORTED, own_terms, required_facts, stages_behind, without_own_code
from dig.train import main

OWN = """
from dig.rollouts import reward_term

@reward_term("even", requires=("counts",))
def even(groups, known):
    return (groups.rows % 2 == {0}).float()
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = dict(REWARD_TERMS)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "even_rewards.py"
    path.write_text(OWN.replace("{0}", "0"))
    yield path
    sys.modules.pop("even_rewards", None)
    REWARD_TERMS.clear()
    REWARD_TERMS.update(before)


def config(*overrides: str):
    return load_config("quickstart", list(overrides))


def test_the_default_needs_codes_and_qualities_alone():
    assert set(required_facts(config())) == {"codes", "quality"}
    assert stages_behind(config()) == ()


def test_stages_behind_what_terms_need():
    assert stages_behind(config("grpo.reward.diversity=0.1")) == ("embed",)
    asked = config("grpo.reward.collaborative=0.5")
    assert stages_behind(asked) == ("sasrec",)
    assert BUILT["sasrec"].enabled(asked) and not BUILT["sasrec"].enabled(config())
    assert "sasrec" in BUILT["grpo"].inputs(asked)


def test_a_term_of_ones_own_is_imported_and_its_source_decides_the_result(own_module: Path):
    asked = config("grpo.reward.modules=[even_rewards]", "grpo.reward.extra.even=0.5")
    assert required_facts(asked)["counts"] == "even"
    before = own_terms(asked)
    sys.modules.pop("even_rewards")
    REWARD_TERMS.pop("even")
    own_module.write_text(OWN.replace("{0}", "1") + "# longer, so that the file is read anew\n")
    assert own_terms(asked) != before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["grpo.reward.extra.novel=1"], "grpo.reward.extra.novel: no such term is registered; did you mean novelty"),
        (["grpo.reward.modules=[no.such.module]"], "grpo.reward.modules: no.such.module cannot be imported"),
    ],
)
def test_what_is_not_there_is_named(overrides: list[str], message: str):
    with pytest.raises(UserError, match=message) as found:
        required_facts(config(*overrides))
    assert found.value.exit_code == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["grpo.reward.extra.hit=1"], "grpo.reward.extra.hit is a term of its own: set grpo.reward.hit"),
        (["grpo.reward.hit=0", "grpo.reward.prefix=0", "grpo.reward.interest=0"], "weights are all 0"),
        (["grpo.reward.rank=-1"], "must not be negative"),
        (["grpo.reward.combine=mean"], "grpo.reward.combine='mean' is not one of sum, apart"),
        (["grpo.objective=ppo"], "grpo.objective='ppo' is not one of sequence, grpo, dr_grpo, dapo, gspo"),
        (["grpo.rollouts=greedy"], "is not one of sample, stochastic_beam, beam"),
        (["grpo.tasks.next_item=0"], "grpo.tasks leaves nothing to learn"),
        (["grpo.tasks.title_to_sid=1"], "grpo.tasks.title_to_sid needs a backbone that knows text"),
        (["grpo.reference=adapter"], "grpo.reference=adapter needs an adapter"),
        (["grpo.clip_range=null", "grpo.clip_range_high=0.3"], "clip_range=null clips nothing"),
        (["grpo.dynamic_sampling=0"], "grpo.dynamic_sampling must be above 0"),
    ],
)
def test_impossible_settings_are_refused_in_a_line(overrides: list[str], message: str):
    with pytest.raises(UserError, match=message) as found:
        config(*overrides)
    assert found.value.exit_code == 2


def test_advantages_go_with_the_objective():
    assert config().grpo.advantage_scale == "group"
    assert config("grpo.objective=dr_grpo").grpo.advantage_scale == "none"
    assert config("grpo.objective=dr_grpo", "grpo.advantage=batch").grpo.advantage_scale == "batch"


def test_a_dry_run_imports_nothing_that_a_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Guard 9: a received configuration is described without running the code that it names, which is said."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "marking_rewards.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    named = ("grpo.reward.modules=[marking_rewards]", "grpo.reward.extra.even=0.5")
    for flag in ("--dry-run", "--print-config"):
        assert main(["experiment=quickstart", *named, "trainer.accelerator=cpu", flag]) == 0
    shown = capsys.readouterr().out
    assert "a dry run does not: marking_rewards" in shown and "known in a run" in shown
    assert "grpo" not in find_stages(config(*named)).inputs
    assert stage_keys(config(*named))["sft"] == stage_keys(config())["sft"]
    assert not (tmp_path / "imported").exists() and "marking_rewards" not in sys.modules
    with pytest.raises(UserError, match=r"grpo\.reward\.extra\.even: no such term"):  # a run imports it
        required_facts(config(*named))
    assert (tmp_path / "imported").exists()
    sys.modules.pop("marking_rewards", None)


def test_terms_that_are_imported_already_are_known_in_a_dry_run(own_module: Path):
    """Guard 9: in a notebook that has imported them, the description is that of the run."""
    asked = config("grpo.reward.modules=[even_rewards]", "grpo.reward.extra.even=0.5")
    with without_own_code():
        assert own_terms(asked) == {"even": NOT_IMPORTED} and "counts" not in required_facts(asked)
    inside = own_terms(asked)
    with without_own_code():
        assert own_terms(asked) == inside and required_facts(asked)["counts"] == "even"
