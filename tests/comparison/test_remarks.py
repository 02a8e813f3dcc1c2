"""Runs that share an artifact, runs that differ in keys, and what the table says of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from comparison.conftest import TARGETS, USERS
from support.run_folders import rankings, write_run

from dig.comparison.contest import Contest, find_contests
from dig.comparison.measure import measure
from dig.comparison.request import Request
from dig.config import UserError

SAME = rankings(TARGETS, 0.5, seed=3)


def write(run_id: str, items: list[list[str]] = SAME, seed: int = 42, experiment: str = "quickstart", **keys) -> Path:
    folder = write_run(Path("runs") / experiment / run_id, USERS, TARGETS, {"sft": items}, seed=seed)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))
    return folder


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contest(*runs: str, **asked: str) -> Contest:
    return find_contests(Request(runs, **asked))[0]  # type: ignore[arg-type]


def labels(*runs: str, **asked: str) -> list[str]:
    return [row.label for row in contest(*runs, **asked).rows]


def test_runs_that_share_an_artifact_are_shown_with_a_difference_of_0():
    """Newcomers 9: `A:sft latest:sft` says that both are one and the same, and shows it."""
    for run_id in ("a1", "b2"):
        model = write(run_id) / "checkpoints" / "sft"
        model.mkdir(parents=True)
        if run_id == "a1":
            (model / "model.safetensors").write_bytes(b"weights")
        else:
            os.link("runs/quickstart/a1/checkpoints/sft/model.safetensors", model / "model.safetensors")
    found = contest("runs/quickstart/a1:sft", "runs/quickstart/latest:sft")
    assert [row.label for row in found.rows] == ["a1/sft", "b2/sft"]
    told = "runs/quickstart/a1:sft and runs/quickstart/latest:sft share one and the same artifact"
    assert found.notes[0].startswith(told) and found.notes[0].endswith("so every difference is 0")
    gain = measure(found, draws=200, seed=0).cells[1][-1].gain
    assert gain is not None and (gain.difference, gain.low, gain.high, gain.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_folder_and_the_link_to_it_are_the_same_run():
    write("a1")
    found = contest("quickstart:sft", "runs/quickstart/a1:sft")
    assert [row.label for row in found.rows] == ["quickstart/sft", "runs/quickstart/a1/sft"]
    assert found.notes[0] == (
        "quickstart:sft and runs/quickstart/a1:sft are the same run, quickstart/a1, so every difference is 0"
    )
    with pytest.raises(UserError, match="nothing to compare quickstart:sft with; name a second run or stage") as caught:
        contest("quickstart:sft", "quickstart:sft")
    assert caught.value.exit_code == 2


def test_models_that_only_rank_the_same_are_not_called_one_artifact():
    write("a1")
    write("b2", rqvae={"levels": 4})
    found = contest("runs/quickstart/a1", "runs/quickstart/b2")
    assert [row.label for row in found.rows] == [
        "quickstart rqvae.levels=not there/sft",
        "quickstart rqvae.levels=4/sft",
    ]
    assert found.notes[0] == (
        "runs/quickstart/a1:sft and runs/quickstart/b2:sft rank the same for every user, so every difference is 0"
    )


def test_rows_are_called_by_the_keys_in_which_runs_differ():
    """Newcomers 9: which of two runs had the labels off is in its name."""
    write("9f3a", labels={"enabled": True, "model": "m"})
    write("c41b", rankings(TARGETS, 0.4, 5), labels={"enabled": False, "model": "m"})
    runs = ("runs/quickstart/9f3a", "runs/quickstart/c41b")
    found = contest(*runs)
    assert [row.label for row in found.rows] == [
        "quickstart labels.enabled=true/sft",
        "quickstart labels.enabled=false/sft",
    ]
    assert (
        "configurations of quickstart differ (quickstart labels.enabled=true/sft, quickstart labels.enabled=false/sft) "
        "in labels.enabled: true, false" in found.notes
    )
    assert labels("labels_on=" + runs[0], "labels_off=" + runs[1] + ":sft") == ["labels_on", "labels_off"]
    assert labels(runs[0], "off=" + runs[1], against="off") == ["sft", "off"]


def test_seed_and_keys_that_both_differ_are_both_in_the_name():
    write("a1", seed=1, labels={"enabled": True})
    write("b2", rankings(TARGETS, 0.4, 5), seed=2, labels={"enabled": False})
    assert labels("runs/quickstart/a1", "runs/quickstart/b2") == [
        "quickstart labels.enabled=true/seed-1/sft",
        "quickstart labels.enabled=false/seed-2/sft",
    ]
    write("c3", rankings(TARGETS, 0.4, 6), seed=3, labels={"enabled": True})
    assert labels("runs/quickstart/a1", "runs/quickstart/c3") == ["seed-1/sft", "seed-3/sft"]


def test_many_differences_are_counted_in_the_name_and_listed_below():
    for number, run_id in enumerate(("a1", "b2", "c3")):
        keys = {f"key{at:02}": at if at == 7 else number // 2 for at in range(20)} | {
            "telling": f"/x/{'y' * 40}/{number}"
        }
        write(run_id, rankings(TARGETS, 0.4, number), **keys)
    found = contest(*(f"runs/quickstart/{run_id}" for run_id in ("a1", "b2", "c3")))
    assert [row.label for row in found.rows] == [
        f"quickstart telling=…{'y' * 21}/{number} key00={number // 2} +18/sft" for number in range(3)
    ]
    (note,) = (note for note in found.notes if note.startswith("configurations"))
    assert "key00: 0, 0, 1; key01: 0, 0, 1" in note and note.endswith(" and 12 more keys")


def test_names_that_come_out_the_same_are_numbered():
    for number, run_id in enumerate(("a1", "b2")):
        write(run_id, rankings(TARGETS, 0.4, number), path=f"{number}{'y' * 60}")
    assert labels("runs/quickstart/a1", "runs/quickstart/b2") == ["a1/sft", "b2/sft"]
    long = "n" * 100
    found = labels(f"{long}1=runs/quickstart/a1", f"{long}2=runs/quickstart/b2")
    assert found == [f"{'n' * 79}… (1)", f"{'n' * 79}… (2)"]


def test_a_run_may_have_two_names_and_a_name_several_stages():
    write_run(Path("runs/pair/a1"), USERS, TARGETS, {"sft": SAME, "grpo": rankings(TARGETS, 0.4, 5)})
    assert labels("mine=pair") == ["mine/sft", "mine/grpo"]
    assert labels("one=pair:sft", "two=pair:grpo") == ["one", "two"]
    assert labels("one=pair:sft", "one=pair:grpo") == ["one/sft", "one/grpo"]
    found = contest("one=pair:sft", "two=pair:sft")
    assert [row.label for row in found.rows] == ["one", "two"]
    assert measure(found, draws=200, seed=0).cells[1][0].gain.difference == 0.0


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (("=quickstart", "quickstart"), "=quickstart: it needs a name before the =, such as labels_off=runs/"),
        (("x=", "quickstart"), "x=: it needs a run or a file after the ="),
        (("x=quickstrat", "quickstart"), "quickstrat: no such run or experiment; did you mean quickstart?"),
        (
            ("x=runs/quickstart/a1", "x=runs/quickstart/b2"),
            "x is the name of two rows; runs/quickstart/b2 needs another",
        ),
    ],
)
def test_names_that_cannot_be(runs: tuple[str, ...], expected: str):
    write("a1")
    write("b2", rankings(TARGETS, 0.4, 5), labels={"enabled": False})
    with pytest.raises(UserError) as caught:
        contest(*runs)
    assert caught.value.exit_code == 2 and expected in str(caught.value)


@pytest.mark.parametrize("name", ["n" * 300, "é" * 200, "~nobody", "a\0b", "=" * 3])
def test_names_that_no_file_could_have(name: str):
    write("a1")
    with pytest.raises(UserError, match=r"no such run|needs a name"):
        contest(name, "quickstart")
    if "=" not in name:
        write("b2", rankings(TARGETS, 0.4, 5), labels={"enabled": False})
        assert len(labels(f"{name}=runs/quickstart/a1", "runs/quickstart/b2")) == 2


def test_a_folder_with_an_equals_sign_is_itself():
    write("lr=0.1")
    write("b2", rankings(TARGETS, 0.4, 5), labels={"enabled": False})
    assert len(labels("runs/quickstart/lr=0.1:sft", "runs/quickstart/b2:sft")) == 2
