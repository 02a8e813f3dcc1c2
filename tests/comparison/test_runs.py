"""Runs by folder, by experiment and by stage, and what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparison.run_folders import rankings, targets_of, write_run

from dig.comparison.runs import find_runs
from dig.config import UserError

USERS = [f"user{number}" for number in range(6)]
TARGETS = targets_of(USERS)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def stages(seed: int = 0) -> dict[str, list[list[str]]]:
    return {"popularity": rankings(TARGETS, 0.1, seed), "sft": rankings(TARGETS, 0.5, seed + 1)}


def test_a_run_is_a_folder_a_link_or_an_experiment(root: Path):
    old, new = (write_run(root / "beauty" / run_id, USERS, TARGETS, stages(), seed=seed)
                for run_id, seed in (("a1", 1), ("b2", 2)))  # fmt: skip
    for name in ("runs/beauty/latest", "runs/beauty/b2", "runs/beauty", "beauty", str(new.absolute())):
        (found,) = find_runs([name], root)
        assert found.folder == new.resolve() and found.given == name
        assert (found.experiment, found.seed, found.split, found.ks) == ("beauty", 2, "leave-one-out", (5, 10))
        assert found.rankings == {False: new.resolve() / "recommendations.parquet"} and found.stages == ()
    (one,) = find_runs(["runs/beauty/a1:sft"], root)
    assert one.folder == old.resolve() and one.stages == ("sft",) and one.given == "runs/beauty/a1"
    (two,) = find_runs(["beauty:sft", "runs/beauty/b2:popularity", "beauty:sft"], root)
    assert two.stages == ("sft", "popularity")
    (everything,) = find_runs(["beauty:sft", "beauty"], root)
    assert everything.stages == ()
    assert [found.folder.name for found in find_runs(["beauty", "runs/beauty/a1"], root)] == ["b2", "a1"]


def test_a_colon_in_a_folder_is_no_stage(root: Path):
    folder = write_run(root / "beauty" / "12:30", USERS, TARGETS, stages())
    (found,) = find_runs([str(folder)], root)
    assert found.stages == () and find_runs([f"{folder}:sft"], root)[0].stages == ("sft",)


def test_protocols_are_told_by_the_files_and_the_configuration(root: Path):
    write_run(root / "plain" / "a1", USERS, TARGETS, stages(), masked=stages(5))
    write_run(root / "strict" / "a1", USERS, TARGETS, stages(), masked=stages(5), mask_history=True)
    plain, strict = find_runs(["plain", "strict"], root)
    assert {masked: path.name for masked, path in plain.rankings.items()} == {
        False: "recommendations.parquet", True: "recommendations_masked.parquet"}  # fmt: skip
    assert {masked: path.name for masked, path in strict.rankings.items()} == {
        True: "recommendations.parquet", False: "recommendations_unmasked.parquet"}  # fmt: skip


def test_an_older_run_has_less_to_say(root: Path):
    folder = write_run(root / "old" / "a1", USERS, TARGETS, stages(), split="by-user", ks=(1, 20), mask_history=True)
    (folder / "metrics.json").unlink()
    (found,) = find_runs(["old"], root)
    assert (found.split, found.ks, list(found.rankings)) == ("by-user", (1, 20), [True])
    (folder / "config.yaml").write_text("{}")
    (found,) = find_runs(["old"], root)
    assert (found.experiment, found.seed, found.split, found.ks) == ("old", None, None, (5, 10))
    assert list(found.rankings) == [False]


def test_cutoffs_are_those_of_the_stages_asked_for(root: Path):
    folder = write_run(root / "beauty" / "a1", USERS, TARGETS, stages())
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["sft"]["test"] = {"hr@10": 0.1, "hr@20": 0.1, "ndcg@5": 0.1, "coverage@10": 0.2}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert find_runs(["beauty"], root)[0].ks == (10,)
    assert find_runs(["beauty:sft"], root)[0].ks == (10, 20)


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("beuty", 2, "beuty: no such run or experiment; did you mean beauty?"),
        ("runs/beauty/a2", 2, "did you mean runs/beauty/a1?"),
        ("beuty:sft", 2, "did you mean beauty?"),
        ("runs/started/latest", 1, "is no finished run: it has no config.yaml"),
        ("started", 1, "is no finished run: it has no config.yaml; the newest finished one is runs/started/a1"),
        ("without", 1, "it has no recommendations.parquet; evaluate again: python -m dig.train experiment="),
        ("broken", 1, "config.yaml:2: not YAML"),
        ("listed", 1, "config.yaml must hold keys and values, not a list"),
    ],
)
def test_what_is_no_run_is_told_with_the_nearest_that_is(root: Path, name: str, code: int, expected: str):
    write_run(root / "beauty" / "a1", USERS, TARGETS, stages())
    write_run(root / "started" / "a1", USERS, TARGETS, stages())
    (root / "started" / "b2").mkdir()
    (root / "started" / "latest").unlink()
    (root / "started" / "latest").symlink_to("b2")
    (write_run(root / "without" / "a1", USERS, TARGETS, stages()) / "recommendations.parquet").unlink()
    for experiment, text in (("broken", "a: [1"), ("listed", "- 1")):
        (write_run(root / experiment / "a1", USERS, TARGETS, stages()) / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        find_runs([name], root)
    assert caught.value.exit_code == code and expected in str(caught.value) and "\n" not in str(caught.value)


def test_no_run_at_all(root: Path):
    with pytest.raises(UserError, match="there are none in runs, --runs names another folder"):
        find_runs(["beauty"], root)
