"""Who is compared with whom, and who may not be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import rankings, write_rankings, write_run

from dig.comparison.contest import Contest, find_contests
from dig.comparison.measure import measure
from dig.comparison.request import ComparisonRequest
from dig.config import UserError


def labels(contest: Contest) -> list[str]:
    return [row.label for row in contest.rows]


def refusal(request: ComparisonRequest) -> str:
    with pytest.raises(UserError) as caught:
        find_contests(request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recommender_that_is_the_same_in_two_runs_is_one_row(runs: Path):
    (contest,) = find_contests(ComparisonRequest(("beauty", "plain_codes")))
    assert labels(contest) == ["popularity", "beauty/sft", "plain_codes/sft"]
    assert "popularity ranks the same in beauty, plain_codes" in contest.notes
    assert contest.metrics == ("hr@5", "hr@10", "ndcg@5", "ndcg@10")
    assert (contest.masked, contest.split, contest.against) == (False, "leave-one-out", None)


def test_two_stages_of_one_run_that_rank_the_same_are_two_rows(runs: Path):
    same = rankings(TARGETS, 0.4, seed=3)
    write_run(runs / "tuned" / "c3", USERS, TARGETS, {"sft": same, "grpo": same})
    (contest,) = find_contests(ComparisonRequest(("tuned",)))
    assert labels(contest) == ["sft", "grpo"]


def test_a_run_named_twice_is_one_run(runs: Path):
    (contest, _) = find_contests(ComparisonRequest(("beauty", "runs/beauty/a1", "runs/beauty/latest:sft")))
    assert labels(contest) == ["popularity", "sft"] and contest.notes == ()


def test_both_protocols_where_all_runs_have_both(runs: Path):
    assert [contest.masked for contest in find_contests(ComparisonRequest(("beauty",)))] == [False, True]
    assert [contest.masked for contest in find_contests(ComparisonRequest(("beauty",), protocol="masked"))] == [True]
    (contest,) = find_contests(ComparisonRequest(("beauty", "plain_codes")))
    assert "no table without items of the history: plain_codes has no such rankings" in contest.notes
    (contest,) = find_contests(ComparisonRequest(("beauty", "plain_codes"), protocol="unmasked"))
    assert not any("no table" in note for note in contest.notes)
    said = refusal(ComparisonRequest(("beauty", "plain_codes"), protocol="masked"))
    assert said.startswith("plain_codes has no rankings without items of the history, beauty has them; evaluate it")
    write_run(runs / "strict" / "d4", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, mask_history=True)
    assert "strict has no rankings with the history in them" in refusal(ComparisonRequest(("plain_codes", "strict")))


def test_slices_are_masks_in_the_order_of_the_users(runs: Path):
    (contest,) = find_contests(ComparisonRequest(("plain_codes", "beauty")))
    assert {name: mask.tolist() for name, mask in contest.slices.items()} == {
        name: [label == name for label in ONE_HOP] for name in ("beneficiary", "non-beneficiary")
    }
    assert list(find_contests(ComparisonRequest(("beauty",), slices="history"))[0].slices) == ["1-4", "5-9", "10-19"]
    assert find_contests(ComparisonRequest(("beauty",), slices="none"))[0].slices == {}
    (contest,) = find_contests(ComparisonRequest(("plain_codes",)))
    assert contest.slices == {}
    assert "no run tells slices by one-hop" in refusal(ComparisonRequest(("plain_codes",), slices="one-hop"))


def test_runs_that_slice_differently_are_not_sliced(runs: Path):
    other = ["beneficiary"] * 200
    write_run(runs / "dense" / "e5", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, one_hop=other)
    (contest,) = find_contests(ComparisonRequest(("beauty", "dense")))
    assert contest.slices == {}
    assert "beauty and dense slice 50 examples differently by one-hop, so slices are left out" in contest.notes
    assert "slice 50 examples differently" in refusal(ComparisonRequest(("beauty", "dense"), slices="one-hop"))


def test_metrics_are_those_at_the_cutoffs_of_all(runs: Path):
    write_run(runs / "longer" / "f6", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, ks=(10, 20))
    write_run(runs / "top" / "f7", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, ks=(1,))
    assert find_contests(ComparisonRequest(("beauty", "longer")))[0].metrics == ("hr@10", "ndcg@10")
    asked = ComparisonRequest(("beauty", "longer"), metrics=("mrr", "hr@3", "mrr@10"))
    assert find_contests(asked)[0].metrics == ("mrr@10", "hr@3")
    assert "at no K in common; choose with --metrics" in refusal(ComparisonRequest(("beauty", "top")))
    assert find_contests(ComparisonRequest(("beauty", "top"), metrics=("hr@2",)))[0].metrics == ("hr@2",)


def test_short_rankings_are_told_with_their_number(runs: Path):
    short = [row[: 4 if number < 3 else 20] for number, row in enumerate(rankings(TARGETS, 0.2, 9))]
    write_run(runs / "short" / "g7", USERS, TARGETS, {"sft": short})
    (contest,) = find_contests(ComparisonRequest(("beauty", "short")))
    assert "short/sft ranks fewer than 10 items for 3 users, whose missing places are misses" in contest.notes
    (contest,) = find_contests(ComparisonRequest(("beauty", "short"), metrics=("hr@4",)))
    assert not any("fewer" in note for note in contest.notes)


@pytest.mark.parametrize(
    ("against", "expected"),
    [("beauty/sft", 1), ("plain_codes/sft", 2), ("popularity", 0), ("plain_codes:popularity", 0), ("beauty:sft", 1)],
)
def test_the_reference_has_several_names(runs: Path, against: str, expected: int):
    (contest,) = find_contests(ComparisonRequest(("beauty", "plain_codes"), against=against))
    assert contest.against == expected


def test_who_may_not_be_compared(runs: Path):
    both = ("beauty", "plain_codes")
    assert "no row is called so; did you mean beauty/sft?" in refusal(ComparisonRequest(both, against="beuty/sft"))
    said = refusal(ComparisonRequest(both, against="sft"))
    assert "several rows are called so; the rows are popularity, beauty/sft, plain_codes/sft" in said
    write_run(runs / "later" / "h8", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, split="global-time")
    said = refusal(ComparisonRequest(("beauty", "later")))
    assert said.startswith(
        "beauty was split by leave-one-out, later by global-time: their tests are different questions"
    )
    write_run(runs / "half" / "i9", USERS[:100], TARGETS[:100], {"sft": rankings(TARGETS[:100], 0.2, 9)})
    assert "100 of 200 are in the first only, 0 of 100 in the second only" in refusal(
        ComparisonRequest(("beauty", "half"))
    )
    assert "nothing to compare beauty:sft with; name a second run or stage" in refusal(
        ComparisonRequest(("beauty:sft",))
    )
    assert "beauty holds no rankings of sfd; did you mean sft?" in refusal(
        ComparisonRequest(("beauty:sfd", "plain_codes"))
    )


def test_users_with_several_examples_are_numbered(runs: Path):
    users = [user for user in USERS[:20] for _ in range(3)]
    write_run(runs / "timed" / "j1", users, TARGETS[:60], {"sft": rankings(TARGETS[:60], 0.4, 1)})
    write_rankings(
        runs / "timed" / "j1" / "recommendations.parquet",
        users,
        TARGETS[:60],
        {"sft": rankings(TARGETS[:60], 0.4, 1), "grpo": rankings(TARGETS[:60], 0.4, 2)},
    )
    (contest,) = find_contests(ComparisonRequest(("timed",)))
    assert np.bincount(contest.users)[1:].tolist() == [3] * 20


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
    return find_contests(ComparisonRequest(runs, **asked))[0]  # type: ignore[arg-type]


def remarks_labels(*runs: str, **asked: str) -> list[str]:
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
    assert remarks_labels("labels_on=" + runs[0], "labels_off=" + runs[1] + ":sft") == ["labels_on", "labels_off"]
    assert remarks_labels(runs[0], "off=" + runs[1], against="off") == ["sft", "off"]


def test_seed_and_keys_that_both_differ_are_both_in_the_name():
    write("a1", seed=1, labels={"enabled": True})
    write("b2", rankings(TARGETS, 0.4, 5), seed=2, labels={"enabled": False})
    assert remarks_labels("runs/quickstart/a1", "runs/quickstart/b2") == [
        "quickstart labels.enabled=true/seed-1/sft",
        "quickstart labels.enabled=false/seed-2/sft",
    ]
    write("c3", rankings(TARGETS, 0.4, 6), seed=3, labels={"enabled": True})
    assert remarks_labels("runs/quickstart/a1", "runs/quickstart/c3") == ["seed-1/sft", "seed-3/sft"]


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
    assert remarks_labels("runs/quickstart/a1", "runs/quickstart/b2") == ["a1/sft", "b2/sft"]
    long = "n" * 100
    found = remarks_labels(f"{long}1=runs/quickstart/a1", f"{long}2=runs/quickstart/b2")
    assert found == [f"{'n' * 79}… (1)", f"{'n' * 79}… (2)"]


def test_a_run_may_have_two_names_and_a_name_several_stages():
    write_run(Path("runs/pair/a1"), USERS, TARGETS, {"sft": SAME, "grpo": rankings(TARGETS, 0.4, 5)})
    assert remarks_labels("mine=pair") == ["mine/sft", "mine/grpo"]
    assert remarks_labels("one=pair:sft", "two=pair:grpo") == ["one", "two"]
    assert remarks_labels("one=pair:sft", "one=pair:grpo") == ["one/sft", "one/grpo"]
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
        assert len(remarks_labels(f"{name}=runs/quickstart/a1", "runs/quickstart/b2")) == 2


def test_a_folder_with_an_equals_sign_is_itself():
    write("lr=0.1")
    write("b2", rankings(TARGETS, 0.4, 5), labels={"enabled": False})
    assert len(remarks_labels("runs/quickstart/lr=0.1:sft", "runs/quickstart/b2:sft")) == 2
