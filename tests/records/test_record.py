"""What is kept of a run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.finished_run import RECOMMENDERS, measured, write_run

from dig.config import UserError
from dig.records import read_run


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
