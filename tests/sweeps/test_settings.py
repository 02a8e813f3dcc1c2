"""Files, commands, parameters and metrics: what is taken, and one line for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.sweep_files import COMMAND, write

from dig.config import STAGES, UserError, load_config
from dig.evaluation import ranking_metrics
from dig.sweeps.check import check_trials
from dig.sweeps.settings import FAMILIES, Settings, find_metric, load_settings, reported
from dig.sweeps.space import override


def settings(folder: Path, *arguments: str, limit: int | None = None, **changes: Any) -> Settings:
    found = load_settings(write(folder, **changes), [f"runs_dir={folder}", *arguments], limit)
    check_trials(found)
    return found


def refused(folder: Path, *arguments: str, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        settings(folder, *arguments, **changes)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metod": "grid"}, "metod: unknown key; did you mean method?"),
        ({"method": "gird"}, "method: 'gird' is none of grid, random, bayes"),
        (
            {"method": "custom", "scheduler": {"engine": "optuna"}},
            "scheduler: a scheduler of your own is not supported",
        ),
        ({"run_cap": "ten"}, "run_cap: 'ten' must be a whole number"),
        ({"method": "random"}, "run_cap: missing, and method: random has no end"),
        ({"metric": {"nam": "x"}}, "metric.nam: unknown key; did you mean name?"),
        ({"metric": {"name": "valid/ndcg@10"}}, "metric.goal: missing: without it W&B minimises valid/ndcg@10"),
        ({"metric": {"name": "valid/ndcg@10", "goal": "minimize"}}, "would look for the worst"),
        ({"metric": {"name": "valid/ncdg@10", "goal": "maximize"}}, "did you mean valid/ndcg@10?"),
        ({"metric": {"name": "grpo.valid.ndcg@10", "goal": "maximize"}}, "grpo does not report while this runs"),
        ({"metric": {"name": "sft.test.ndcg@10", "goal": "maximize"}}, "take sft.valid.ndcg@10"),
        ({"metric": {"name": "test/ndcg@10", "goal": "maximize"}}, "take valid/ndcg@10"),
        ({"metric": {"name": "valid/ndcg@10", "goal": "maximize", "impute": "worst"}}, "metric.impute: not supported"),
        ({"early_terminate": {"type": "hyperband", "min_itr": 2}}, "did you mean min_iter?"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "max_iter needs s"),
        ({"parameters": {"rqvae.codebok_size": {"values": [8]}}}, "did you mean rqvae.codebook_size?"),
        ({"parameters": {"rqvae.levels": {"value": [2, 3], "values": [2]}}}, "values: unknown key"),
        ({"parameters": {"rqvae.levels": {"values": ["two"]}}}, "rqvae.levels=two"),
        ({"parameters": {"rqvae.levels": {"values": [2, 2]}}}, "2 is there twice"),
        ({"parameters": {"rqvae.levels": 3}}, "must say value, values, or min and max"),
        ({"parameters": {"rqvae.levels": {"values": [2, 0]}}}, "rqvae.levels"),
        ({"parameters": {"sft.dropout": {"min": 0.0, "max": 0.5}}}, "method: grid takes constant, categorical"),
        ({"parameters": {"sft.dropout": {"min": "1e-4", "max": 0.5}}}, "to YAML it is text: write 1.0e-4"),
        ({"parameters": {"sft.dropout": {"distribution": "unifrom", "min": 0, "max": 1}}}, "did you mean uniform?"),
        ({"parameters": {"run_id": {"values": ["a"]}}}, "parameters.run_id: cannot vary"),
        ({"parameters": {"trainer.devices": {"values": [1, 2]}}}, "a trial runs on one device"),
        ({"parameters": {"evaluation.ks": {"values": [[5, 10], [5]]}}}, "no stage reports metric.name: valid/ndcg@10"),
        ({"program": "other.py"}, "program: other.py: this runs only dig.train"),
        ({"command": [*COMMAND[:-1], "${args}"]}, "needs ${args_no_hyphens} instead of ${args}"),
        ({"command": [*COMMAND, "--dry-run"]}, "--dry-run: only experiment=NAME"),
        ({"command": [*COMMAND, "data.path=${envvar:HOME}"]}, "only DIG_… variables"),
        ({"command": [*COMMAND, "rqvae.epohs=3"]}, "did you mean rqvae.epochs?"),
        ({"command": None}, "which experiment?"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_where(tmp_path: Path, changes: dict[str, Any], said: str):
    line = refused(tmp_path, **changes)
    assert said in line and str(tmp_path / "some.yaml") in line


@pytest.mark.parametrize(
    ("earlier", "today"),
    [
        ("train/clip_share", "train/clip_ratio"),
        ("rollout/dead_groups", "rollout/frac_reward_zero_std"),
        ("rollout/distinct_items", "rollout/unique_fraction"),
        ("grpo.rollout/surprise", "grpo.rollout/nll"),
    ],
)
def test_an_earlier_name_of_a_metric_is_answered_by_a_line_with_today_s(tmp_path: Path, earlier: str, today: str):
    of_grpo = {"command": None, "parameters": {"grpo.clip_range": {"values": [0.1, 0.2]}}}
    line = refused(tmp_path, "experiment=quickstart", metric={"name": earlier, "goal": "maximize"}, **of_grpo)
    assert line.endswith(f"some.yaml: metric.name: {earlier}: this metric is {today} now")
    named = {"name": today, "goal": "maximize"}
    assert settings(tmp_path, "experiment=quickstart", metric=named, **of_grpo).metric.stage == "grpo"


def test_an_earlier_key_is_answered_wherever_a_file_names_it(tmp_path: Path):
    nested = {"sft": {"parameters": {"clip_norm": {"values": [1, 2]}}}}
    for parameters in ({"sft.clip_norm": {"values": [1, 2]}}, {"sft.clip_norm": {"value": None}}, nested):
        line = refused(tmp_path, parameters={"rqvae.levels": {"values": [2, 3]}, **parameters})
        assert line.endswith("sft.clip_norm: this key is sft.gradient_clip_val now")
    line = refused(tmp_path, command=[*COMMAND, "prompt.item_token=true"])
    assert "prompt.item_token: this key is items.representation=token" in line


def test_the_installed_command_is_the_program_too(tmp_path: Path):
    words = ["${env}", "dig", "train", "experiment=quickstart", "rqvae.levels=3", "${args_no_hyphens}"]
    found = settings(tmp_path, program=None, command=words)
    assert (found.given.experiment, found.given.overrides[0]) == ("quickstart", "rqvae.levels=3")
    assert "this runs only dig.train" in refused(tmp_path, program=None, command=[*words[:2], "sweep", *words[3:]])


def test_a_missing_file_has_a_nearest_one(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(UserError, match=r"no such sweep file; did you mean .*some\.yaml"):
        load_settings(tmp_path / "sone.yaml", [])


def test_an_impossible_combination_is_found_before_anything_runs(tmp_path: Path):
    softmax, own = "intrr.assignment.softmax", "intrr.assignment.uid_output"
    line = refused(tmp_path, parameters={softmax: {"values": ["trie", "level"]}, own: {"values": [True, False]}})
    assert f"the trial {softmax}=level, {own}=true" in line and "softmax=level needs uid_output=false" in line


def test_a_search_may_hold_impossible_combinations_but_no_impossible_value(tmp_path: Path):
    softmax, own = "intrr.assignment.softmax", "intrr.assignment.uid_output"
    parameters = {softmax: {"values": ["trie", "level"]}, own: {"values": [True, False]}}
    settings(tmp_path, method="random", run_cap=3, parameters=parameters)
    parameters = {"items.codes": {"values": [0, -1]}, softmax: {"values": ["trie", "level"]}}
    line = refused(tmp_path, method="random", run_cap=3, parameters=parameters)
    assert "items.codes must not be negative" in line


def test_ends_of_a_range_are_looked_at(tmp_path: Path):
    line = refused(tmp_path, method="bayes", run_cap=3, parameters={"sft.dropout": {"min": 0.1, "max": 1.5}})
    assert "sft.dropout" in line and "1.5" in line


def test_the_command_line_goes_before_the_file_and_pins_what_it_names(tmp_path: Path):
    found = settings(tmp_path, "rqvae.levels=3", "sft.epochs=2")
    assert found.pinned == ("rqvae.levels",) and found.space.names == ["rqvae.codebook_size"]
    config = found.config({"rqvae.codebook_size": 8}, 0)
    assert (config.rqvae.levels, config.rqvae.codebook_size, config.sft.epochs) == (3, 8, 2)
    assert (config.experiment, config.stages, config.run_id) == ("quickstart", ["sft"], "trial-0001")
    assert Path(config.runs_dir) == found.folder / "runs"
    assert settings(tmp_path, "experiment=gift_cards", "data.path=/x").base.experiment == "gift_cards"


def test_wandb_stays_off_unless_the_command_line_asks_for_it(tmp_path: Path):
    assert "logging.wandb.mode=online" in COMMAND
    assert settings(tmp_path).base.logging.wandb.mode == "disabled"
    assert settings(tmp_path, "logging.progress=false").base.logging.wandb.mode == "disabled"
    assert settings(tmp_path, "logging.wandb.mode=offline").base.logging.wandb.mode == "offline"


def test_the_same_command_is_the_same_sweep_and_another_is_not(tmp_path: Path):
    first = settings(tmp_path).folder
    assert first.parent == tmp_path / "sweeps" / "some" and first == settings(tmp_path).folder
    assert settings(tmp_path, limit=3).folder == settings(tmp_path, run_cap=5).folder == first
    others = [
        settings(tmp_path, "sft.epochs=3").folder,
        settings(tmp_path, "seed=1").folder,
        settings(tmp_path, parameters={"rqvae.levels": {"values": [2, 4]}}).folder,
        settings(tmp_path, early_terminate={"type": "hyperband", "min_iter": 2}).folder,
    ]
    assert len({first, *others}) == 5


def test_nested_parameters_are_dotted_keys_and_constants_do_not_vary(tmp_path: Path):
    nested = {
        "rqvae": {"parameters": {"codebook_size": {"values": [[8, 4], 16]}, "epochs": {"value": 7}}},
        "seed": {"values": [1, 2]},
    }
    found = settings(tmp_path, parameters=nested)
    assert found.space.names == ["rqvae.codebook_size", "seed"] and found.space.constants == {"rqvae.epochs": 7}
    points = found.space.grid()
    assert points[0] == {"rqvae.codebook_size": [8, 4], "seed": 1} and len(points) == 4
    config = found.config(points[0])
    assert (config.rqvae.sizes, config.rqvae.epochs, config.seed) == ([8, 4], 7, 1)


def test_an_experiment_may_be_a_parameter(tmp_path: Path):
    names = [str(tmp_path / f"{name}.yaml") for name in ("one", "two")]
    for name in names:
        Path(name).write_text("extends: quickstart\n")
    command = [word for word in COMMAND if not word.startswith("experiment")]
    found = settings(tmp_path, parameters={"experiment": {"values": names}}, command=command)
    assert [found.config(point).experiment for point in found.space.grid()] == ["one", "two"]


@pytest.mark.parametrize(
    "value", ["rqvae", "a b", "true", "12", "1e-3", "it's: #1", "", None, True, 3, 0.001, 1e-05, [1, 2], ["a", "b"]]
)
def test_values_survive_the_command_line(value: Any):
    from omegaconf import OmegaConf

    assert OmegaConf.from_dotlist([override("key", value)])["key"] == value


def test_the_command_of_the_best_trial_says_every_key_once_and_tests(tmp_path: Path):
    command = settings(tmp_path, "sft.epochs=2").command({"rqvae.codebook_size": 8, "rqvae.levels": 2})
    keys = [argument.partition("=")[0] for argument in command]
    assert len(keys) == len(set(keys)) and "stages=[sft,report]" in command
    assert not any(key.startswith("logging") for key in keys)


def test_a_metric_belongs_to_the_last_stage_that_logs_it(tmp_path: Path):
    plain = [word for word in COMMAND if not word.startswith("stages")]
    found = settings(tmp_path, command=plain)
    assert (found.metric.stage, found.stages) == ("grpo", ("grpo",))
    found = settings(tmp_path, command=plain, metric={"name": "sft.valid.hr@5", "goal": "maximize"})
    assert (found.metric.stage, found.metric.name, found.stages) == ("sft", "valid/hr@5", ("sft",))
    found = settings(tmp_path, metric={"name": "codebook/collision_rate", "goal": "minimize"}, command=plain)
    assert (found.metric.stage, found.stages, found.metric.maximize) == ("tokenize", ("tokenize",), False)
    found = settings(tmp_path, "stages=[sft,report]")
    assert found.stages == ("sft",)  # nothing is tested
    assert settings(tmp_path, metric=None).metric.name == "valid/ndcg@10"


def test_names_of_metrics_are_those_that_validations_log():
    config = load_config("quickstart")
    expected = set(ranking_metrics(config.evaluation.ks, prefix="valid/"))
    known = reported(config)
    assert {name for name in known["sft"] if name.startswith("valid/")} == expected
    assert set(known) <= set(STAGES) and FAMILIES == ("hr", "ndcg")


def test_the_value_of_a_stage_is_that_of_its_kept_weights_else_the_best(tmp_path: Path):
    from dig.engine.artifacts import write_json

    (tmp_path / "logs" / "000").mkdir(parents=True)
    (tmp_path / "logs" / "001").mkdir()
    head = "epoch,step,train/loss,valid/hr@5,valid/ndcg@10\n"
    (tmp_path / "logs/000/metrics.csv").write_text(head + "0,3,2.5,,\n0,3,,0.1,0.2\n1,7,,0.4,0.3\n")
    (tmp_path / "logs/001/metrics.csv").write_text(head + "1,7,,0.4,0.3\n2,11,1.5,,\n2,11,,0.3,0.1\n")
    write_json(tmp_path / "training.json", {"valid/ndcg@10": 0.29})
    path = write(tmp_path)
    base = load_config("quickstart", ["stages=[sft]"])

    def metric(name: str, goal: str = "maximize") -> Any:
        from dig.sweeps.file import read_sweep

        return find_metric(read_sweep(write(tmp_path, metric={"name": name, "goal": goal})), base)

    assert path.is_file()
    assert metric("valid/ndcg@10").read(tmp_path) == 0.29
    assert metric("valid/hr@5").read(tmp_path) == 0.4
    assert metric("train/loss", "minimize").read(tmp_path) == 1.5
    assert metric("valid/ndcg@10").history(tmp_path) == [0.2, 0.3, 0.1]
    with pytest.raises(UserError, match="has no valid/hr@10"):
        metric("valid/hr@10").read(tmp_path)
