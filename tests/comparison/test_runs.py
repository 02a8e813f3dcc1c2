"""Runs by folder, by experiment and by stage, and what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.run_folders import rankings, targets_of, write_run

from dig.comparison.runs import ComparedRun, find_runs, row_labels
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
    old, new = (
        write_run(root / "beauty" / run_id, USERS, TARGETS, stages(), seed=seed)
        for run_id, seed in (("a1", 1), ("b2", 2))
    )
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
        False: "recommendations.parquet",
        True: "recommendations_masked.parquet",
    }
    assert {masked: path.name for masked, path in strict.rankings.items()} == {
        True: "recommendations.parquet",
        False: "recommendations_unmasked.parquet",
    }


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
        ("runs/started/latest", 1, "is not a finished run: it has no config.yaml"),
        ("started", 1, "is not a finished run: it has no config.yaml; the newest finished one is runs/started/a1"),
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


NESTED_ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.yaml", NESTED_ALIASES, "config.yaml:5: it has more than 10,000 values"),
        ("config.yaml", "data: [1]", "data: must hold keys and values"),
        ("config.yaml", "evaluation: [ks]", "evaluation: must hold keys and values"),
        ("config.yaml", "evaluation: {ks: words}", "evaluation.ks: must be a list of whole numbers above 0"),
        ("config.yaml", "evaluation: {ks: [0, 5]}", "evaluation.ks: must be a list of whole numbers above 0"),
        ("config.yaml", "evaluation: {mask_history: [1]}", "evaluation.mask_history: must be true or false"),
        ("config.yaml", "seed: [1, 2]", "seed: must be a whole number"),
        ("config.yaml", "seed: true", "seed: must be a whole number"),
        ("metrics.json", "null", "must hold keys and values, not null"),
        ("metrics.json", "[]", "must hold keys and values, not a list"),
        ("metrics.json", "[" * 200_000, "it is deeper than 64 levels"),
        ("metrics.json", '{"sft": null}', "sft: must hold what was measured"),
        ("metrics.json", '{"sft": {"test": [1]}}', "sft.test: must hold"),
        ("metrics.json", '{"sft": {"test": {"hr@0": 0.5}}}', "sft.test.hr@0: '0' is not a number of items"),
        ("metrics.json", '{"sft": {"test": {"hr@5": 1.5}}}', "sft.test.hr@5: must be between 0 and 1, it is 1.5"),
        ("metrics.json", '{"sft": {"test": {"ndcg@5": NaN}}}', "sft.test.ndcg@5: must be between 0 and 1, it is nan"),
        ("metrics.json", '{"sft": {"test": {"hr@5": "high"}}}', "sft.test.hr@5: must be between 0 and 1"),
        ("metrics.json", '{"sft": {"test": {}, "split": [1]}}', "sft.split: must be a text"),
        ("metrics.json", '{"sft": {"test": {}, "mask_history": "no"}}', "sft.mask_history: must be true or false"),
        ("metrics.json", '{"sft": {"test": {}, "intervals": {"test": {"hr@5": [1]}}}}', "must be two numbers"),
        ("metrics.json", '{"sft": {"test": {}, "slices": {"test": {"warm": 1}}}}', "must hold the metrics of each"),
        ("metrics.json", '{"sft": {"test": {}, "users": "many"}}', "sft.users: must be a number"),
    ],
)
def test_a_received_run_that_says_something_else_is_one_line(root: Path, name: str, text: str, said: str):
    """Guards 6 and 8: configuration and metrics of a run that somebody else wrote."""
    folder = write_run(root / "beauty" / "a1", USERS, TARGETS, stages())
    (folder / name).write_text(text)
    with pytest.raises(UserError) as caught:
        find_runs([str(folder)], root)
    assert name in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "told"), [("data: null\n", "data"), ("colour: red\n", "colour: unknown key")])
def test_a_configuration_that_answers_could_not_be_given_by_is_told_once(
    root: Path, change: str, told: str, capsys: pytest.CaptureFixture[str]
):
    """Guard 8: numbers need little of it; what `dig.recommend` refuses is a warning here."""
    folder = write_run(root / "beauty" / "a1", USERS, TARGETS, stages())
    find_runs(["beauty"], root)
    assert "dig.recommend refuses" not in capsys.readouterr().err
    (folder / "config.yaml").write_text(f"experiment: beauty\nseed: 1\n{change}")
    assert len(find_runs(["beauty", "runs/beauty/a1:sft"], root)) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert told in said and said.count("dig.recommend refuses this run") == 1


def run(experiment: str, run_id: str = "a1", seed: int | None = 42, root: str = "runs") -> ComparedRun:
    return ComparedRun(
        f"{root}/{experiment}/{run_id}", Path(root, experiment, run_id), (), experiment, seed, None, (5,), {}
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(run("beauty"), "popularity"), (run("beauty"), "sft")], ["popularity", "sft"]),
        (
            [(run("beauty"), "popularity"), (run("beauty"), "sft"), (run("codes"), "sft")],
            ["popularity", "beauty/sft", "codes/sft"],
        ),
        ([(run("beauty", "a1", 1), "sft"), (run("beauty", "b2", 2), "sft")], ["seed-1/sft", "seed-2/sft"]),
        (
            [(run("beauty", "a1", 1), "sft"), (run("beauty", "b2", 2), "sft"), (run("codes", "c3", 1), "sft")],
            ["beauty/seed-1/sft", "beauty/seed-2/sft", "codes/sft"],
        ),
        ([(run("beauty", "a1"), "sft"), (run("beauty", "b2"), "sft")], ["a1/sft", "b2/sft"]),
        (
            [(run("beauty"), "sft"), (run("beauty", root="other"), "sft")],
            ["runs/beauty/a1/sft", "other/beauty/a1/sft"],
        ),
        ([(run("beauty", "a1", None), "sft"), (run("beauty", "b2", 2), "sft")], ["sft", "seed-2/sft"]),
        ([(run("\x1b[2Jred"), "sft"), (run("codes"), "sft")], ["[2Jred/sft", "codes/sft"]),
    ],
)
def test_labels(rows: list[tuple[ComparedRun, str]], expected: list[str]):
    assert row_labels(rows) == expected
