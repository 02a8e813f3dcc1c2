"""Records of runs: what is read, the command that repeats a run, the store."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.finished_run import RECOMMENDERS, measured, write_run

from dig.config import UserError, config_to_dict, load_config
from scripts.results.records import RunRecord, RunStore, read_run, repeat_command, thinned_curve, validation_curve

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


FIRST = """epoch,step,train/loss,valid/hr@10,valid/ndcg@10
0,9,1.5,,
0,10,,0.01,0.005
1,20,,0.02,0.01
"""
SECOND = """epoch,lr,step,valid/ndcg@10,valid/hr@10
1,,20,0.0111111111,0.025
,0.1,25,,
2,,30,nan,0.03
3,,40,1e-"""


def test_later_attempts_count_and_training_rows_do_not(tmp_path: Path):
    for attempt, text in (("000", FIRST), ("001", SECOND)):
        (tmp_path / attempt).mkdir()
        (tmp_path / attempt / "metrics.csv").write_text(text)
    assert validation_curve(tmp_path) == [
        {"epoch": 1, "hr@10": 0.01, "ndcg@10": 0.005},
        {"epoch": 2, "hr@10": 0.025, "ndcg@10": 0.011111},
        {"epoch": 3, "hr@10": 0.03},
    ]
    assert validation_curve(tmp_path / "nothing") == []


@pytest.mark.parametrize(("points", "most"), [(1, 5), (5, 5), (26, 14), (100, 2)])
def test_thinning_keeps_both_ends(points: int, most: int):
    curve = [{"epoch": float(epoch)} for epoch in range(1, points + 1)]
    found = [each["epoch"] for each in thinned_curve(curve, most)]
    assert found[0] == 1 and found[-1] == points
    assert len(found) == min(points, most) and found == sorted(set(found))


def test_a_run_becomes_a_record(tmp_path: Path):
    record = read_run(write_run(tmp_path / "runs" / "quickstart" / "abc", ["seed=7"]))
    content = record.content
    assert record.name == "quickstart-7"
    assert list(record.recommenders) == list(RECOMMENDERS)
    assert (content["experiment"], content["seed"], content["split"]) == ("quickstart", 7, "leave-one-out")
    assert record.test == ("leave-one-out", 100)
    assert content["command"] == "python -m dig.train experiment=quickstart seed=7"
    assert set(content["versions"]) == {"dig", "torch"} and all(content["versions"].values())
    sft = record.recommenders["sft"]
    assert sft["training"] == {"steps": 1200, "chosen": "best", "samples_per_second": 88.5}
    assert (sft["seconds"], sft["evaluation_seconds"]) == (12.3, 4.5)
    assert record.recommenders["grpo"]["over_sft"]["ndcg@10"]["low"] == -0.001
    text = json.dumps(content)
    assert str(tmp_path) not in text and "cold" not in text


def test_versions_are_those_of_the_run(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    (folder / "versions.json").write_text('{"dig": "0.0.9", "torch": "2.6.0"}')
    assert read_run(folder).content["versions"] == {"dig": "0.0.9", "torch": "2.6.0"}
    (folder / "versions.json").write_text('{"dig"')
    with pytest.raises(UserError, match=r"versions\.json cannot be read: line 1 is not JSON"):
        read_run(folder)


@pytest.mark.parametrize("masks", [False, True])
def test_protocols_have_their_names_whichever_is_the_main_one(tmp_path: Path, masks: bool):
    overrides = [f"evaluation.mask_history={str(masks).lower()}"]
    record = read_run(write_run(tmp_path / "run", overrides, base=0.1, masks=masks), "it")
    assert record.name == "it"
    for protocol, size in (("unmasked", 0.1), ("masked", 0.2)):
        assert record.value("popularity", protocol, "hr@5") == pytest.approx(size)
        assert record.interval("popularity", protocol, "hr@5") == pytest.approx((0.9 * size, 1.1 * size))
        assert record.value("popularity", protocol, "hr@5", "beneficiary") == pytest.approx(2 * size)
        assert record.value("popularity", protocol, "hr@5", "non-beneficiary") == pytest.approx(size / 2)
    assert record.interval("popularity", "masked", "hr@10") is None


def test_a_run_of_before_says_nothing_of_what_it_has_not(tmp_path: Path):
    folder = write_run(tmp_path / "run", ["evaluation.mask_history=true"])
    old = {"split": "leave-one-out", "test": {"hr@5": 0.1, "ndcg@5": float("nan")}}
    (folder / "metrics.json").write_text(json.dumps({"popularity": old, "damaged": {"valid": {}}}))
    record = read_run(folder)
    assert record.recommenders == {"popularity": {"masked": {"metrics": {"hr@5": 0.1}}}}
    assert record.test == ("leave-one-out", None)
    assert record.value("popularity", "unmasked", "hr@5") is None
    assert record.value("popularity", "masked", "hr@5", "beneficiary") is None


def test_recommenders_of_different_tests_are_no_run(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    found = {"popularity": measured(0.1), "sft": measured(0.2, users=99)}
    (folder / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="differ in users: popularity has 100, sft has 99"):
        read_run(folder)


def test_what_is_no_run_is_told_in_a_line(tmp_path: Path):
    write_run(tmp_path / "abcdef")
    with pytest.raises(UserError, match=r"abcdee: no such run; did you mean .*abcdef\?"):
        read_run(tmp_path / "abcdee")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        read_run(tmp_path / "empty")
    for name, content, says in (
        ("metrics.json", "{", "not JSON"),
        ("metrics.json", '{"a": 1}', "what was measured"),
        ("metrics.json", '{"a": {}}', "has a test"),
        ("config.yaml", "- a", "not a list"),
        ("config.yaml", "a: [", "not YAML"),
    ):
        folder = tmp_path / "damaged"
        shutil.copytree(tmp_path / "abcdef", folder, dirs_exist_ok=True)
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=f"{name}.*{says}") as caught:
            read_run(folder)
        assert "\n" not in str(caught.value)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "records")


def kept(store: RunStore, tmp_path: Path, name: str, *overrides: str, **settings) -> RunRecord:
    record = read_run(write_run(tmp_path / "runs" / name, overrides, **settings), name)
    store.save(record, replace=False)
    return record


def test_a_record_comes_back_as_it_was(store: RunStore, tmp_path: Path):
    record = kept(store, tmp_path, "shop-42")
    assert store.load("shop-42") == record
    assert store.names() == ["shop-42"]


def test_a_name_stands_for_its_seeds(store: RunStore, tmp_path: Path):
    for seed in (2333, 42):
        kept(store, tmp_path, f"shop-{seed}", f"seed={seed}", "baselines=[popularity]" if seed == 42 else "seed=2333")
    kept(store, tmp_path, "shop-wide-42", "backbone.config.num_hidden_layers=1")
    assert [record.name for record in store.family("shop")] == ["shop-42", "shop-2333"]
    assert [record.name for record in store.family("shop-42")] == ["shop-42"]


def test_a_missing_record_is_told_with_the_nearest(store: RunStore, tmp_path: Path):
    kept(store, tmp_path, "shop-42")
    with pytest.raises(
        UserError, match=r"no record shp .*did you mean shop\? \(python -m scripts\.results add RUN --as shp"
    ):
        store.family("shp")
    with pytest.raises(UserError, match="no record shop-43"):
        store.load("shop-43")


@pytest.mark.parametrize("settings", [{"split": "global-time"}, {"users": 99}])
def test_other_tests_are_refused(store: RunStore, tmp_path: Path, settings: dict):
    kept(store, tmp_path, "shop-1", "seed=1")
    kept(store, tmp_path, "shop-2", "seed=2", **settings)
    with pytest.raises(UserError, match=r"shop-1 \(split leave-one-out, 100 test users\) and shop-2 \(split "):
        store.family("shop")


def test_seeds_of_another_command_are_refused(store: RunStore, tmp_path: Path):
    kept(store, tmp_path, "shop-1", "seed=1")
    kept(store, tmp_path, "shop-2", "seed=2", "sft.epochs=3")
    with pytest.raises(UserError, match=r"differ in more than the seed \(sft\.epochs=3\)"):
        store.family("shop")


def test_another_run_is_not_written_over(store: RunStore, tmp_path: Path):
    record = kept(store, tmp_path, "shop-42")
    store.save(record, replace=False)  # the same run again
    other = RunRecord("shop-42", record.content | {"command": "python -m dig.train"})
    with pytest.raises(UserError, match=r"holds another run .*experiment=quickstart.*--as shop-42 replaces it"):
        store.save(other, replace=False)
    assert store.load("shop-42") == record
    store.save(other, replace=True)
    assert store.load("shop-42") == other


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "two words"])
def test_names_stay_in_the_folder(store: RunStore, tmp_path: Path, name: str):
    record = read_run(write_run(tmp_path / "run"))
    with pytest.raises(UserError, match="letters, digits"):
        store.save(replace(record, name=name), replace=True)
    assert not store.names()


def test_damage_is_told(store: RunStore):
    store.folder.mkdir()
    for content in ("{", "[]", '{"recommenders": 3}'):
        (store.folder / "bad.json").write_text(content)
        with pytest.raises(UserError, match=r"bad\.json: is not a record"):
            store.load("bad")
