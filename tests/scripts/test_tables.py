"""Tables in Markdown, over the records of runs."""

from __future__ import annotations

import numpy as np
import pytest
from support.finished_run import RECOMMENDERS, write_run

from dig.config import UserError
from scripts.results.records import RunStore, read_run
from scripts.results.tables import RunTables, heading, markdown_table, number, seconds


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (None, False, "–"),
        (0.05456, False, ".0546"),
        (0.0, False, "0"),
        (1.0, False, "1"),
        (0.99999, False, "1.0000"),
        (1.0449, False, "1.04"),
        (12101, False, "12,101"),
        (-0.0123, False, "−.0123"),
        (-0.00001, False, ".0000"),
        (0.001, True, "+.0010"),
        (-0.001, True, "−.0010"),
        (0.0, True, "+.0000"),
        (-0.00001, True, "+.0000"),
    ],
)
def test_numbers(value: float | None, signed: bool, text: str):
    assert number(value, signed) == text


def test_headings_and_seconds():
    assert [heading(name) for name in ("hr@5", "mrr@10", "popularity_lift@10")] == [
        "HR@5",
        "MRR@10",
        "popularity lift@10",
    ]
    assert [seconds(value) for value in (None, 4.26, 43.1, 1987.6)] == ["–", "4.3", "43", "1,988"]


def test_cells_cannot_break_a_table():
    assert markdown_table(["a", "b", "c"], [["x | y", "two\nlines", "1"]], (0, 1)) == (
        "| a | b | c |\n|---|---|---:|\n| x \\| y | two lines | 1 |"
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    """A run, three seeds of another, and two seeds that found the same."""
    folder = tmp_path_factory.mktemp("tables")
    store = RunStore(folder / "records")
    for name, overrides, base in (
        ("one", [], 0.05),
        ("many-1", ["seed=1"], 0.05),
        ("many-2", ["seed=2"], 0.06),
        ("many-3", ["seed=3"], 0.10),
        ("same-1", ["seed=1"], 0.05),
        ("same-2", ["seed=2"], 0.05),
    ):
        store.save(read_run(write_run(folder / name, overrides, base), name), replace=False)
    return RunTables(store)


def cells(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    widths = {len(row) for row in rows}
    assert len(widths) == 1
    return {row[0]: row[1:] for row in rows if not row[0].startswith("---")}


def test_one_run_has_intervals(tables: RunTables):
    found = cells(tables.table("one", metrics=["hr@5", "hr@10"]))
    assert found["recommender"] == ["HR@5", "HR@10"]
    assert list(found)[1:] == list(RECOMMENDERS)
    assert found["popularity"] == [".0500 (.0450 to .0550)", ".0750"]
    assert found["grpo"] == ["**.2000 (.1800 to .2200)**", "**.3000**"]


def test_several_seeds_have_mean_and_standard_deviation(tables: RunTables):
    found = cells(tables.table("many", metrics=["hr@5"], stages=["sft", "popularity"]))
    assert list(found) == ["recommender", "sft", "popularity"]
    values = np.array([0.05, 0.06, 0.10])
    assert found["popularity"] == ["3", f"{values.mean():.4f} ± {values.std(ddof=1):.4f}".replace("0.", ".")]
    assert found["sft"][1] == f"**{3 * values.mean():.4f} ± {3 * values.std(ddof=1):.4f}**".replace("0.", ".")


def test_seeds_that_do_not_differ_keep_their_interval(tables: RunTables):
    assert cells(tables.table("same", metrics=["hr@5"]))["popularity"] == ["2", ".0500 (.0450 to .0550)"]


def test_protocols_and_beneficiaries(tables: RunTables):
    found = cells(tables.table("one", protocol="masked", metrics=["hr@5"], one_hop=["hr@5", "ndcg@5"]))
    assert found["recommender"] == [
        "HR@5",
        "HR@5, beneficiary",
        "HR@5, non-beneficiary",
        "NDCG@5, beneficiary",
        "NDCG@5, non-beneficiary",
    ]
    assert found["popularity"] == [".1000 (.0900 to .1100)", ".2000", ".0500", ".1200", ".0300"]


def test_only_what_is_better_when_higher_has_a_best(tables: RunTables):
    found = cells(tables.table("one", metrics=["coverage@10", "novelty@10", "invalid@10", "diversity@10"]))
    assert found["recommender"][0] == "coverage@10"
    assert found["sft"] == [".2500", "12.35", "0", "–"]


def test_recommenders_of_several_records_stand_in_one_table(tables: RunTables):
    found = cells(tables.systems({"ours": "many/sft", "theirs": "one/popularity"}, metrics=["hr@5"]))
    assert found["recommender"] == ["seeds", "HR@5"]
    assert found["ours"] == ["3", "**.2100 ± .0794**"]
    assert found["theirs"] == ["1", ".0500 (.0450 to .0550)"]
    with pytest.raises(UserError, match="many: a row is RECORD/RECOMMENDER"):
        tables.systems({"ours": "many"})
    with pytest.raises(UserError, match="one has no recommender sfd; did you mean sft"):
        tables.systems({"ours": "one/sfd"})


def test_nothing_measured_is_said(tables: RunTables):
    assert tables.table("one", metrics=["diversity@10"]) == (
        "*With the history in the ranking, this was not measured on one.*"
    )


def test_one_number_for_a_sentence(tables: RunTables):
    assert tables.value("many", "popularity", "hr@5") == ".0700"
    assert tables.value("one", "popularity", "hr@5", protocol="masked") == ".1000"
    assert tables.users("one") == "100"
    with pytest.raises(UserError, match="no hr@7 of sft"):
        tables.value("one", "sft", "hr@7")


def test_gains_effort_and_commands(tables: RunTables):
    assert cells(tables.gains("many"))["2"] == ["–", "–", "+.0375 (−.0010 to +.0500)"]
    effort = cells(tables.effort("many"))
    assert effort["sft"] == ["12", "4.5", "1,200", "best"] and effort["popularity"][2:] == ["–", "–"]
    lines = tables.runs("one", "many").splitlines()
    assert len(lines) == 4 and lines[2].endswith("`python -m dig.train experiment=quickstart seed=2`")


def test_a_curve_has_epochs_as_columns(tables: RunTables):
    assert cells(tables.curve("many", "sft")) == {
        "epoch": ["1", "2"],
        "HR@10": [".0500", ".0600"],
        "NDCG@10": [".0250", ".0300"],
    }
    assert tables.curve("one", "popularity") == "*No validation of popularity over its epochs is on record in one.*"
    assert tables.curve("one", "tiger") == "*No validation of tiger over its epochs is on record in one.*"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda tables: tables.table("oen"), "no record oen"),
        (lambda tables: tables.table("one", stages=["sfd"]), r"one has no recommender sfd; did you mean sft\?"),
        (lambda tables: tables.table("one", stages=["tiger9"]), "one has no recommender tiger9"),
        (lambda tables: tables.table("one", protocol="maskd"), r"protocol=maskd: did you mean masked\?"),
        (lambda tables: tables.value("one", "nothing", "hr@5"), "no recommender nothing"),
    ],
)
def test_what_is_not_there_is_an_error(tables: RunTables, call, says: str):
    with pytest.raises(UserError, match=says):
        call(tables)
