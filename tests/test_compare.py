"""The command: exit codes, one line for what is wrong, files, and what is loaded before it is known to be needed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.proven import prove
from support.run_folders import rankings, targets_of, write_run

from dig.compare import main

USERS = [f"user{number:03}" for number in range(60)]
TARGETS = targets_of(USERS)


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, run_id in ((1, "a1"), (2, "b2")):
        stages = {"popularity": rankings(TARGETS, 0.1, 0), "sft": rankings(TARGETS, 0.5, seed)}
        write_run(tmp_path / "runs" / "beauty" / run_id, USERS, TARGETS, stages, seed=seed)
    write_run(
        tmp_path / "runs" / "later" / "c3", USERS, TARGETS, {"sft": rankings(TARGETS, 0.5, 7)}, split="global-time"
    )
    for config in tmp_path.glob("runs/*/*/config.yaml"):
        prove(config.parent)
    return tmp_path


def test_a_table_of_two_runs(capsys: pytest.CaptureFixture[str]):
    assert main(["runs/beauty/a1", "runs/beauty/b2", "--against", "seed-1/sft", "--draws=500", "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "test · leave-one-out · 60 users · history not masked",
        "seed-1/sft",
        "seed-2/sft",
        "HR@5",
        "NDCG@10",
        "500 resamplings of users, seed 4.",
        "Δ NDCG@10: against seed-1/sft, with its 95 % interval",
        "Holm-corrected for 2 rows.",
        "popularity ranks the same in runs/beauty/a1, runs/beauty/b2.",
    ):
        assert expected in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "table.md"], "| popularity |"),
        (["--out=deep/table.tex"], r"\begin{tabular}"),
        (["--out", "table.CSV"], "history,split,row,"),
        (["--out", "table.txt"], "test · leave-one-out"),
        (["--out", "table.data", "--format", "csv"], "history,split,row,"),
        (["--out", "table.md", "--format=latex"], r"\begin{tabular}"),
    ],
)
def test_files_by_extension_or_format(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]):
    assert main(["beauty", *arguments]) == 0
    out = Path(arguments[0].partition("=")[2] or arguments[1])
    assert expected in out.read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == f"written to {out}"
    assert [path.name for path in out.parent.iterdir() if path.name.endswith(".tmp")] == []


def test_other_formats_on_the_screen_are_nothing_but_themselves(capsys: pytest.CaptureFixture[str]):
    assert main(["beauty", "--format", "csv", "--metrics", "MRR@10,hr@5", "--draws", "200"]) == 0
    records = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(found["row"], found["metric"]) for found in records] == [
        ("popularity", "mrr@10"),
        ("popularity", "hr@5"),
        ("sft", "mrr@10"),
        ("sft", "hr@5"),
    ]


def test_json_is_one_object_with_the_numbers_of_the_csv(workplace: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["beauty", "--metrics", "mrr@10,hr@5", "--draws", "200"]
    assert main([*asked, "--format=csv"]) == 0
    records = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert main([*asked, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["row"], row["metric"], str(row["value"])) for row in rows] == [
        (record["row"], record["metric"], record["value"]) for record in records
    ]
    assert main([*asked, "--out", "table.json"]) == 0
    assert json.loads((workplace / "table.json").read_text())["rows"] == rows


def test_rankings_of_another_program_are_a_row(workplace: Path, capsys: pytest.CaptureFixture[str]):
    lines = [
        f"{user}\t{item}\t{place}\n"
        for user, row in zip(USERS, rankings(TARGETS, 0.9, 5), strict=True)
        for place, item in enumerate(row)
    ]
    (workplace / "theirs.tsv").write_text("user_id\titem_id\trank\n" + "".join(lines))
    assert main(["beauty", "another one=theirs.tsv", "--against", "sft", "--draws", "200"]) == 0
    printed = capsys.readouterr().out
    assert "another one" in printed and "Δ NDCG@10: against sft" in printed and "Holm-corrected for 2 rows" in printed


def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = workplace / "table.md"
    out.write_text("before")

    def full(self: Path, *_: object, **__: object) -> None:
        with self.open("w") as stream:
            stream.write("half of")
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        assert main(["beauty", "--out", str(out)]) == 1
    assert "no space left on the disk" in capsys.readouterr().err
    assert out.read_text() == "before" and not list(workplace.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["beauty", "--agianst", "sft"], 2, "--agianst: no such flag; did you mean --against?"),
        (["beauty", "against=sft"], 2, "against=sft: did you mean --against=sft?"),
        (["--metrics", "hr"], 2, "name at least one run"),
        (["beauty", "--out"], 2, "--out needs a value"),
        (
            ["beauty", "--out", "table.docx"],
            2,
            "--out table.docx: what format? name a file of .txt, .md, .tex, .csv, .json",
        ),
        (["beauty", "--format", "latx"], 2, "--format latx: no such choice; did you mean latex?"),
        (["beauty", "--json", "--format", "csv"], 2, "--json and --format csv: name one of them"),
        (["beauty", "--slices", "onehop"], 2, "did you mean one-hop?"),
        (["beauty", "--seeds", "men"], 2, "--seeds men: no such choice; did you mean mean?"),
        (["beauty", "--part", "validation"], 2, "--part validation: no such choice; did you mean valid?"),
        (["beauty", "--part", "valid"], 1, "beauty: it has no recommendations_valid.parquet; evaluate again:"),
        (["beauty", "--protocol", "maskd"], 2, "--protocol maskd: no such choice; did you mean masked?"),
        (
            ["beauty", "--metrics", "ndgc@10"],
            2,
            "--metrics: ndgc@10 is not a metric to compare users by; did you mean ndcg@10?",
        ),
        (["beauty", "--metrics", "coverage@10"], 2, "there are hr, ndcg, mrr, also as hr@10"),
        (["beauty", "--metrics", "hr@0"], 2, "--metrics: hr@0 needs a whole number above 0 after the @"),
        (["beauty", "--metrics", ","], 2, "--metrics needs names such as"),
        (["beauty", "--draws", "10"], 2, "--draws 10 must be a whole number of at least 100"),
        (["beauty", "--seed", "-1"], 2, "--seed -1 must be a whole number of at least 0"),
        (["beuty"], 2, "beuty: no such run or experiment; did you mean beauty?"),
        (["beauty", "--runs", "elsewhere"], 2, "there are none in elsewhere, --runs names another folder"),
        (["beauty:sftt"], 2, "beauty holds no rankings of sftt; did you mean sft?"),
        (["beauty:sft"], 2, "there is nothing to compare beauty:sft with"),
        (["beauty", "--against", "grpo"], 2, "--against grpo: no row is called so"),
        (["beauty", "theirs.csv"], 2, "theirs.csv: no such file"),
        (["theirs.csv"], 2, "name a run, too: theirs.csv is measured on a run's test users"),
        (["beauty", "mine=theirs.csv", "--missing", "dorp"], 2, "--missing dorp: no such choice; did you mean drop?"),
        (["beauty", "runs/beauty/a1/metrics.json"], 2, "score holds objects where an id, a score or"),
        (["beauty", "model.pkl"], 2, "model.pkl: pickled files can run code and are not opened"),
        (["beauty", "later"], 1, "beauty was split by leave-one-out, later by global-time"),
        (["beauty", "--protocol", "masked"], 1, "beauty has no rankings without items of the history"),
        (["beauty", "--slices", "target"], 1, "no run tells slices by target (examples.parquet)"),
        (["beauty", "--out", "runs/beauty/a1/config.yaml/t.md"], 1, "cannot be written"),
        (["beauty", "--out", "runs", "--format", "csv"], 1, "runs cannot be written: Is a directory"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and expected in error and "\n" not in error


def test_help_and_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert main([]) == main(["--help"]) == main(["beauty", "-h"]) == 0
    assert "usage: dig compare [NAME=]RUN[:STAGE]" in capsys.readouterr().out

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dig.comparison.contest.find_contests", interrupted)
    assert main(["beauty"]) == 130


@pytest.mark.parametrize(
    ("arguments", "code", "unloaded"),
    [(["--help"], 0, "polars"), (["beauty", "--drws", "5"], 2, "polars"), (["beauty", "later"], 1, "torch")],
)
def test_who_is_refused_does_not_wait_for_libraries(arguments: list[str], code: int, unloaded: str):
    program = (
        f"import sys; from dig.compare import main; code = main({arguments}); print(code, {unloaded!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{code} False"
