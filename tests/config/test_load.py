"""Layers, checks and messages of the configuration."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from dig.config import Config, UserError, config_to_dict, list_experiments, load_config, load_run_config, schema_keys
from dig.config.explain import config_yaml, help_text


@pytest.fixture(autouse=True)
def data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIG_DATA_ROOT", str(tmp_path))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def message(experiment: str | None, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(experiment, overrides)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", list_experiments())
def test_every_experiment_loads(name: str) -> None:
    assert load_config(name).experiment == Path(name).name


def test_layers_from_weakest_to_strongest(tmp_path: Path) -> None:
    write(tmp_path / "parent.yaml", "data: {source: quickstart}\nsft: {epochs: 3, batch_size: 7}\nseed: 1\n")
    child = write(tmp_path / "child.yaml", "extends: parent\nsft: {epochs: 4}\n")
    config = load_config(child, ["seed=2"])
    assert (config.sft.epochs, config.sft.batch_size, config.seed) == (4, 7, 2)
    assert config.sft.gradient_clip_val == 1.0
    assert config.experiment == "child"
    assert load_config(child, ["sft.epochs=5", "sft.epochs=6"]).sft.epochs == 6


def test_lists_are_replaced_and_codebooks_take_a_size_a_level() -> None:
    config = load_config("quickstart", ["rqvae.codebook_size=[64,32,16,8]", "evaluation.ks=[1]"])
    assert config.rqvae.sizes == [64, 32, 16, 8]
    assert config.rqvae.levels == 4
    assert config.evaluation.ks == [1]
    assert load_config("quickstart", ["rqvae.codebook_size=9", "rqvae.levels=2"]).rqvae.sizes == [9, 9]


def test_extends_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b\n")
    assert "circle: b -> a -> b" in message(write(tmp_path / "b.yaml", "extends: a\n"))


def test_missing_parent_names_file_and_nearest(tmp_path: Path) -> None:
    text = message(write(tmp_path / "a.yaml", "extends: beuty\n"))
    assert "a.yaml: extends: beuty" in text and "did you mean beauty?" in text


def test_unknown_experiment_names_the_nearest() -> None:
    assert "did you mean quickstart?" in message("quikstart")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rqvae.codebok_size=1", "did you mean rqvae.codebook_size?"),
        ("rqvea.codebook_size=1", "rqvea"),
        ("codebook_size=1", "did you mean rqvae.codebook_size?"),
        ("sft.epochs=many", "sft.epochs=many: "),
        ("sft.epochs=0", "sft.epochs must be above 0"),
        ("rqvae=3", "rqvae=3"),
        ("seed", "arguments look like key=value"),
        ("stages=[tokenise]", "did you mean 'tokenize'?"),
        ("stages=[]", "nothing to do"),
        ("grpo.group_size=1", "at least 2"),
        ("grpo.reward={hit: 0, valid: 0, prefix: 0, interest: 0}", "all 0"),
        ("evaluation.num_beams=5", "evaluation.ks asks for 10"),
        ("mining.miners=[imported]", "mining.imports"),
        ("mining.miners=[gpt]", "lexical, imported"),
        ("rqvae.codebook_size=big", "must be a number or a list"),
        ("data.source=tables", "data.path is not set"),
        ("sft.epochs=[", "not YAML"),
    ],
)
def test_wrong_arguments_get_one_line(override: str, expected: str) -> None:
    assert expected in message("quickstart", override)


@pytest.mark.parametrize("key", ["stages", "baselines", "mining.miners"])
def test_what_is_like_nothing_is_not_likened_to_nothing(key: str) -> None:
    words = message("quickstart", f"{key}=[qqq]")
    assert "qqq" in words and "None" not in words


def test_impossible_combinations() -> None:
    assert "grpo.minibatches=1" in message("quickstart", "trainer.accumulate_grad_batches=2", "grpo.minibatches=2")
    assert "needs a GPU" in message("quickstart", "trainer.accelerator=cpu", "trainer.precision=16-mixed")
    assert "items.start=text needs a backbone that knows words" in message(
        "quickstart", "items.representation=sid", "items.codes=null", "items.start=text"
    )
    assert "no text to embed" in message("quickstart", "embedding.fields=[]", "embedding.interests=none")


def test_wrong_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    text = message(write(tmp_path / "mine.yaml", "sft:\n  epoch: 3\n"))
    assert "mine.yaml: sft.epoch: unknown key; did you mean sft.epochs?" in text


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert "mine.yaml:2: not YAML" in message(write(tmp_path / "mine.yaml", "sft:\n  a: b: c\n"))
    assert "must hold keys and values" in message(write(tmp_path / "list.yaml", "- 1\n"))


def test_backbone_config_takes_any_key() -> None:
    config = load_config("quickstart", ["backbone.config.rope_theta=5.0"]).backbone.config
    assert config == {**load_config("quickstart").backbone.config, "rope_theta": 5.0}


def test_environment_is_resolved_and_secrets_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIG_DATA_ROOT", "/data")
    assert load_config("beauty").data.path == "/data/beauty"
    monkeypatch.setenv("MY_SECRET", "hunter2")
    text = message("quickstart", "data.path=${oc.env:MY_SECRET}")
    assert "only DIG_" in text and "hunter2" not in text
    monkeypatch.delenv("DIG_DATA_ROOT")
    text = message("beauty")
    assert "DIG_DATA_ROOT is not set" in text and "data.path" in text


def test_a_wrong_key_is_told_before_a_missing_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIG_DATA_ROOT")
    assert "rqvae.codebook_size" in message("beauty", "rqvae.codebok_size=1")


def test_printed_configuration_loads_as_the_same(tmp_path: Path) -> None:
    config = load_config("beauty", ["sft.max_steps=7", "rqvae.codebook_size=[4,5]"])
    again = load_config(write(tmp_path / "beauty.yaml", config_yaml(config)))
    assert config_to_dict(again) == config_to_dict(config)


def test_help_has_a_sentence_for_every_key() -> None:
    lines = help_text().partition("Keys and their defaults:")[2].splitlines()
    keys = set(schema_keys())
    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    for leaf in (leaf.replace("*", "NAME") for leaf in leaves):
        index = next(index for index, line in enumerate(lines) if line.startswith(f"  {leaf}="))
        assert lines[index + 1].strip().endswith("."), leaf


def test_help_and_errors_do_not_import_torch() -> None:
    code = (
        "import sys; from dig.train import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'polars' not in sys.modules; sys.exit(code)"
    )
    for argument, expected in (("--help", 0), ("experiment=beauty rqvae.codebok_size=1", 2)):
        done = subprocess.run([sys.executable, "-c", code, *argument.split()], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr


def test_a_load_leaves_nothing_behind_for_the_next():
    before = config_to_dict(load_config("quickstart"))
    load_config("quickstart", ["data.columns={user_id: customer}", "evaluation.ks=[1]", "grpo.reward.unseen=3.0"])
    assert config_to_dict(load_config("quickstart")) == before


def float_keys(schema: type = Config, prefix: str = "") -> list[str]:
    """Every key of the schema that takes a float, outside sections whose name is the user's choice."""
    found = []
    for name, hint in get_type_hints(schema).items():
        if is_dataclass(hint):
            found += float_keys(hint, f"{prefix}{name}.")
        elif hint in (float, float | None):
            found.append(f"{prefix}{name}")
    return found


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "nan"])
def test_no_key_takes_nan_or_infinity(value: str, tmp_path: Path):
    """Entry 20: every float key, and those inside of free sections, from an argument and from a file."""
    keys = float_keys()
    assert len(keys) > 60 and "rqvae.commitment_weight" in keys
    free = ["grpo.reward.extra.own"] + (["backbone.config.rope_theta", "visual.config.x"] if value != "nan" else [])
    for key in ("rqvae.commitment_weight", *keys[:: 9 if value == ".nan" else 40], *free):
        with pytest.raises(
            UserError, match=rf"^{re.escape(key)}={re.escape(value)}: must be a finite number"
        ) as caught:
            load_config("quickstart", [f"{key}={value}"])
        assert caught.value.exit_code == 2
    (tmp_path / "own.yaml").write_text(f"extends: quickstart\nsft: {{learning_rate: {value}}}\n")
    with pytest.raises(UserError, match=r"own\.yaml: sft\.learning_rate: must be a finite number, it is"):
        load_config(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=!!int x", "seed: the value is not YAML: a number"),
        ("seed=" + "1" * 5000, "seed: the value is not YAML: a number"),
        ("sft.epochs=!!timestamp 2020-99-99", "sft.epochs: the value is not YAML: a number, a date"),
        ("data.path=\udcff", "data.path: the value is not UTF-8"),
        ("\udcff=1", r"'\udcff': a key has no line breaks"),
        ("\n=1", r"'\n': a key has no line breaks"),
        ("seed\x1b[31m=1", r"'seed\x1b[31m': a key has no line breaks"),
    ],
)
def test_arguments_that_no_configuration_holds_get_one_line(override: str, expected: str) -> None:
    """Guards, minor: a bad command line is one line; the value is not quoted."""
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert str(caught.value).startswith(expected) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stages", "[[grpo]]"),
        ("baselines", "[{a: b}]"),
        ("data.split_fractions", "[[1], 0, 0]"),
        ("mining.models.m", "{model: x, headers: {X-Api-Key: [hidden-value]}}"),
        ("grpo.tasks.shares", "{next_item: [1]}"),
        ("data.columns", "[[x]]"),
        ("backbone.config", "[x]"),
        ("trainer.devices", "{a: b}"),
        ("rqvae.codebook_size", "{a: [b]}"),
        ("mining.miners", "[{a: b}]"),
        ("visual.config", "{a: {1: 2}}"),
    ],
)
def test_a_container_where_a_value_belongs_is_a_line(key: str, value: str) -> None:
    """Guard 8: lists and mappings within lists and mappings; the value may be a credential and is not quoted."""
    try:
        load_config("quickstart", [f"{key}={value}"])
    except UserError as error:
        assert key.split(".")[0] in str(error) and "\n" not in str(error) and error.exit_code == 2
        assert "hidden-value" not in str(error)
    else:
        assert key in ("visual.config", "backbone.config", "trainer.devices", "rqvae.codebook_size", "data.columns")


def test_a_name_of_the_user_s_choice_stands_in_the_message() -> None:
    """Guard 8: the model that lacks something is named."""
    told = message("quickstart", "mining.models.cheap={model: x}", "mining.models.dear={kind: vllm}")
    assert told.startswith("mining.models.dear.model is not set")


@pytest.mark.parametrize(
    "text",
    [
        "${" * 100_000,
        "${seed}" * 100_000,
        "${seed}" * 60,
        "${oc.env:DIG_X,a}" * 200,
        "${oc.env:DIG_X," + "a" * 20_000 + "}",
    ],
)
def test_references_are_counted_before_they_are_resolved(tmp_path: Path, text: str) -> None:
    """Guard 6: each takes OmegaConf a while, and what refers to what refers twice doubles each time."""
    path = write(tmp_path / "x.yaml", f"extends: quickstart\nlogging: {{wandb: {{notes: '{text}'}}}}\n")
    began = time.monotonic()
    assert "references" in message(path)
    assert time.monotonic() - began < 10
    aliased = f"{{a: &a '{'${seed}' * 12}', b: [{', '.join(['*a'] * 100)}]}}"
    assert "references" in message(write(tmp_path / "y.yaml", f"backbone: {{config: {aliased}}}\n"))


def test_a_configuration_of_thousands_of_keys_is_refused_at_once(tmp_path: Path) -> None:
    """Guard 6: OmegaConf takes a millisecond and more for each."""
    keys = ", ".join(f"k{number}: {number}" for number in range(4900))
    path = write(tmp_path / "x.yaml", f"extends: quickstart\nbackbone: {{config: {{{keys}}}}}\n")
    assert "more than 4,000 values" in message(path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("extends: /etc/hostname\n", "extends"),
        ("extends: quickstart\n", "extends"),
        ("runs_dir: ${oc.env:DIG_X,here}\n", "runs_dir"),
    ],
)
def test_the_configuration_of_a_run_refers_to_nothing(tmp_path: Path, text: str, key: str) -> None:
    """Guard 9: it is complete when it is written, so a reference out of the folder is not of dig's making."""
    config = load_config("quickstart", ["seed=7"])
    write(tmp_path / "config.yaml", config_yaml(config))
    assert load_run_config(tmp_path) == config
    write(tmp_path / "config.yaml", config_yaml(config).replace("runs_dir:", "was:") + text)
    with pytest.raises(UserError, match=f"config.yaml: {key}: the configuration of a run is complete"):
        load_run_config(tmp_path)
