"""Who is compared with whom, and who may not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparison.conftest import ONE_HOP, TARGETS, USERS
from support.run_folders import rankings, write_rankings, write_run

from dig.comparison.contest import Contest, find_contests
from dig.comparison.request import Request
from dig.config import UserError


def labels(contest: Contest) -> list[str]:
    return [row.label for row in contest.rows]


def refusal(request: Request) -> str:
    with pytest.raises(UserError) as caught:
        find_contests(request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recommender_that_is_the_same_in_two_runs_is_one_row(runs: Path):
    (contest,) = find_contests(Request(("beauty", "plain_codes")))
    assert labels(contest) == ["popularity", "beauty/sft", "plain_codes/sft"]
    assert "popularity ranks the same in beauty, plain_codes" in contest.notes
    assert contest.metrics == ("hr@5", "hr@10", "ndcg@5", "ndcg@10")
    assert (contest.masked, contest.split, contest.against) == (False, "leave-one-out", None)


def test_two_stages_of_one_run_that_rank_the_same_are_two_rows(runs: Path):
    same = rankings(TARGETS, 0.4, seed=3)
    write_run(runs / "tuned" / "c3", USERS, TARGETS, {"sft": same, "grpo": same})
    (contest,) = find_contests(Request(("tuned",)))
    assert labels(contest) == ["sft", "grpo"]


def test_a_run_named_twice_is_one_run(runs: Path):
    (contest, _) = find_contests(Request(("beauty", "runs/beauty/a1", "runs/beauty/latest:sft")))
    assert labels(contest) == ["popularity", "sft"] and contest.notes == ()


def test_both_protocols_where_all_runs_have_both(runs: Path):
    assert [contest.masked for contest in find_contests(Request(("beauty",)))] == [False, True]
    assert [contest.masked for contest in find_contests(Request(("beauty",), protocol="masked"))] == [True]
    (contest,) = find_contests(Request(("beauty", "plain_codes")))
    assert "no table without items of the history: plain_codes has no such rankings" in contest.notes
    (contest,) = find_contests(Request(("beauty", "plain_codes"), protocol="unmasked"))
    assert not any("no table" in note for note in contest.notes)
    said = refusal(Request(("beauty", "plain_codes"), protocol="masked"))
    assert said.startswith("plain_codes has no rankings without items of the history, beauty has them; evaluate it")
    write_run(runs / "strict" / "d4", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, mask_history=True)
    assert "strict has no rankings with the history in them" in refusal(Request(("plain_codes", "strict")))


def test_slices_are_masks_in_the_order_of_the_users(runs: Path):
    (contest,) = find_contests(Request(("plain_codes", "beauty")))
    assert {name: mask.tolist() for name, mask in contest.slices.items()} == {
        name: [label == name for label in ONE_HOP] for name in ("beneficiary", "non-beneficiary")
    }
    assert list(find_contests(Request(("beauty",), slices="history"))[0].slices) == ["1-4", "5-9", "10-19"]
    assert find_contests(Request(("beauty",), slices="none"))[0].slices == {}
    (contest,) = find_contests(Request(("plain_codes",)))
    assert contest.slices == {}
    assert "no run tells slices by one-hop" in refusal(Request(("plain_codes",), slices="one-hop"))


def test_runs_that_slice_differently_are_not_sliced(runs: Path):
    other = ["beneficiary"] * 200
    write_run(runs / "dense" / "e5", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, one_hop=other)
    (contest,) = find_contests(Request(("beauty", "dense")))
    assert contest.slices == {}
    assert "beauty and dense slice 50 examples differently by one-hop, so slices are left out" in contest.notes
    assert "slice 50 examples differently" in refusal(Request(("beauty", "dense"), slices="one-hop"))


def test_metrics_are_those_at_the_cutoffs_of_all(runs: Path):
    write_run(runs / "longer" / "f6", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, ks=(10, 20))
    write_run(runs / "top" / "f7", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, ks=(1,))
    assert find_contests(Request(("beauty", "longer")))[0].metrics == ("hr@10", "ndcg@10")
    asked = Request(("beauty", "longer"), metrics=("mrr", "hr@3", "mrr@10"))
    assert find_contests(asked)[0].metrics == ("mrr@10", "hr@3")
    assert "at no K in common; choose with --metrics" in refusal(Request(("beauty", "top")))
    assert find_contests(Request(("beauty", "top"), metrics=("hr@2",)))[0].metrics == ("hr@2",)


def test_short_rankings_are_told_with_their_number(runs: Path):
    short = [row[: 4 if number < 3 else 20] for number, row in enumerate(rankings(TARGETS, 0.2, 9))]
    write_run(runs / "short" / "g7", USERS, TARGETS, {"sft": short})
    (contest,) = find_contests(Request(("beauty", "short")))
    assert "short/sft ranks fewer than 10 items for 3 users, whose missing places are misses" in contest.notes
    (contest,) = find_contests(Request(("beauty", "short"), metrics=("hr@4",)))
    assert not any("fewer" in note for note in contest.notes)


@pytest.mark.parametrize(
    ("against", "expected"),
    [("beauty/sft", 1), ("plain_codes/sft", 2), ("popularity", 0), ("plain_codes:popularity", 0), ("beauty:sft", 1)],
)
def test_the_reference_has_several_names(runs: Path, against: str, expected: int):
    (contest,) = find_contests(Request(("beauty", "plain_codes"), against=against))
    assert contest.against == expected


def test_who_may_not_be_compared(runs: Path):
    both = ("beauty", "plain_codes")
    assert "no row is called so; did you mean beauty/sft?" in refusal(Request(both, against="beuty/sft"))
    said = refusal(Request(both, against="sft"))
    assert "several rows are called so; the rows are popularity, beauty/sft, plain_codes/sft" in said
    write_run(runs / "later" / "h8", USERS, TARGETS, {"sft": rankings(TARGETS, 0.2, 9)}, split="global-time")
    said = refusal(Request(("beauty", "later")))
    assert said.startswith(
        "beauty was split by leave-one-out, later by global-time: their tests are different questions"
    )
    write_run(runs / "half" / "i9", USERS[:100], TARGETS[:100], {"sft": rankings(TARGETS[:100], 0.2, 9)})
    assert "100 of 200 are in the first alone, 0 of 100 in the second alone" in refusal(Request(("beauty", "half")))
    assert "nothing to compare beauty:sft with; name a second run or stage" in refusal(Request(("beauty:sft",)))
    assert "beauty holds no rankings of sfd; did you mean sft?" in refusal(Request(("beauty:sfd", "plain_codes")))


def test_users_with_several_examples_are_numbered(runs: Path):
    users = [user for user in USERS[:20] for _ in range(3)]
    write_run(runs / "timed" / "j1", users, TARGETS[:60], {"sft": rankings(TARGETS[:60], 0.4, 1)})
    write_rankings(
        runs / "timed" / "j1" / "recommendations.parquet",
        users,
        TARGETS[:60],
        {"sft": rankings(TARGETS[:60], 0.4, 1), "grpo": rankings(TARGETS[:60], 0.4, 2)},
    )
    (contest,) = find_contests(Request(("timed",)))
    assert np.bincount(contest.users)[1:].tolist() == [3] * 20
