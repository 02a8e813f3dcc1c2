"""A table on the screen has whole numbers at any width; Markdown, LaTeX and CSV say the numbers that were measured."""

from __future__ import annotations

import csv
import io
import re
from io import StringIO
from pathlib import Path

import pytest
from comparison.conftest import TARGETS, USERS
from rich.cells import cell_len
from rich.console import Console
from support.run_folders import rankings, write_run

from dig.comparison.contest import find_contests
from dig.comparison.measure import Comparison, measure
from dig.comparison.render import caption, csv_text, latex, markdown, print_text, text, title, values
from dig.comparison.request import ComparisonRequest


@pytest.fixture
def table(runs: Path) -> Comparison:
    (contest,) = find_contests(ComparisonRequest(("beauty", "plain_codes")))
    return measure(contest, draws=300, seed=1)


def screen(table: Comparison, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard", soft_wrap=True)
    print_text([table], console)
    return console.file.getvalue()


def plain(printed: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", printed)


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(table: Comparison, width: int):
    printed = plain(screen(table, width))
    assert max(map(cell_len, printed.splitlines())) <= width
    for cells in table.cells:
        for cell in cells:
            assert f"{cell.value.mean:.4f}" in printed and f"±{(cell.value.high - cell.value.low) / 2:.4f}" in printed
    for gain in (cells[table.main].gain for cells in table.cells):
        assert gain is None or f"[{gain.low:+.4f}, {gain.high:+.4f}]" in printed
    assert printed.count("plain_codes/sft") >= (1 if width >= 120 else 2)  # again on each table that continues
    assert " ".join(caption(table)) in " ".join(printed.split())


def test_numbers_stay_whole_where_not_even_one_column_fits(table: Comparison):
    printed = plain(screen(table, 24))
    gain = table.cells[0][table.main].gain
    assert f"[{gain.low:+.4f}, {gain.high:+.4f}]" in printed


def test_the_best_is_bold_and_the_rest_is_not(table: Comparison):
    printed = screen(table, 200)
    means = [cells[table.main].value.mean for cells in table.cells]
    for row, mean in enumerate(means):
        assert (f"\x1b[1m{mean:.4f}\x1b[0m" in printed) == (row == table.reference)


def test_the_best_is_starred_where_nothing_can_be_bold(table: Comparison):
    written = text([table])
    for row, cells in enumerate(table.cells):
        assert (f"{cells[table.main].value.mean:.4f}* " in written) == (row == table.reference)
    assert "*: the best of its column." in written.splitlines()


def test_what_is_no_terminal_gets_one_table_of_any_width(table: Comparison):
    console = Console(file=io.StringIO(), width=40, soft_wrap=True)
    print_text([table], console)
    written = text([table])
    assert "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n" == written
    assert written.count("popularity  ") == 1 and "\x1b" not in written
    assert [line for line in written.splitlines() if line.startswith("Δ NDCG@10: against beauty/sft")]


def test_two_tables_are_apart(runs: Path):
    tables = [measure(contest, 300, 1) for contest in find_contests(ComparisonRequest(("beauty",)))]
    lines = text(tables).splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("test · ")]
    assert len(titles) == 2 and lines[titles[1] - 1] == ""
    assert lines[titles[0]].endswith("history not masked") and lines[titles[1]].endswith("left out of the rankings")


def compared(*runs: str, **asked) -> list[Comparison]:
    return [measure(contest, draws=300, seed=1) for contest in find_contests(ComparisonRequest(runs, **asked))]


def expected_cells(table: Comparison, row: int) -> list[str]:
    """Value, half interval, best; difference with interval; p: all that people read of a row."""
    cells = table.cells[row]
    texts = [f"{cell.value.mean:.4f} {(cell.value.high - cell.value.low) / 2:.4f}" for cell in cells]
    main = cells[table.main]
    if main.gain is None:
        return [*texts, "reference", ""]
    p = "<0.001" if main.p_holm < 0.001 else f"{main.p_holm:.3f}"
    return [*texts, f"{main.gain.difference:+.4f} {main.gain.low:+.4f} {main.gain.high:+.4f}", p]


def test_markdown_parses_back_to_the_numbers(runs: Path):
    (table,) = compared("beauty", "plain_codes")
    lines = markdown([table]).splitlines()
    assert lines[0] == "**test · leave-one-out · 200 users · history not masked**"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0] == [
        "",
        "HR@5",
        "HR@10",
        "NDCG@5",
        "NDCG@10",
        "NDCG@10 beneficiary 150 users",
        "NDCG@10 non-beneficiary 50 users",
        "Δ NDCG@10",
        "p",
    ]
    assert [row[0] for row in rows[2:]] == ["popularity", "beauty/sft", "plain\\_codes/sft"]
    for number, row in enumerate(rows[2:]):
        plain = [re.sub(r"\*\*| ±|[()\\]| to(?= )", "", cell) for cell in row[1:]]
        assert plain == expected_cells(table, number)
        assert [cell.startswith("**") for cell in row[1:-2]] == [cell.best for cell in values(table)[number]]
    assert "popularity ranks the same in beauty, plain\\_codes." in lines[-1]


def test_latex_parses_back_to_the_numbers_and_escapes(runs: Path):
    write_run(runs / "50%_of & more" / "l1", USERS, TARGETS, {"sft": rankings(TARGETS, 0.4, 8)})
    (table,) = compared("beauty", "50%_of & more")
    text = latex([table])
    assert r"50\%\_of \& more/sft" in text and not re.search(r"(?<!\\)[_&%]more", text)
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    for number, line in enumerate(body):
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
        plain = [re.sub(r"\\textbf|\\scriptsize|\\pm|[${}\[\],]", "", cell) for cell in cells[1:]]
        assert [" ".join(cell.split()) for cell in plain] == expected_cells(table, number)
        assert [r"\textbf" in cell for cell in cells[1:-2]] == [cell.best for cell in values(table)[number]]
    for pair in (("\\begin{table}", "\\end{table}"), ("\\begin{tabular}{lrrrrrrrr}", "\\end{tabular}")):
        assert all(text.count(part) == 1 for part in pair)
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert text.count("{") == text.count("}")  # none of the escaped characters is a brace here
    unescaped = re.sub(r"\\[%&_$#]", "", text.split("\n", 1)[1])
    assert "%" not in unescaped and "_" not in unescaped and "±" not in text and "Δ" not in text


def test_csv_holds_every_number_in_full(runs: Path):
    tables = compared("beauty", metrics=("hr", "ndcg", "mrr"))
    assert len(tables) == 2
    records = iter(list(csv.DictReader(StringIO(csv_text(tables)))))
    for table in tables:
        for row, cells in zip(table.contest.rows, table.cells, strict=True):
            for column, cell in zip(table.columns, cells, strict=True):
                found = next(records)
                history = "masked" if table.contest.masked else "unmasked"
                texts = {
                    "row": row.label,
                    "metric": column.metric,
                    "slice": column.slice or "",
                    "history": history,
                    "split": "leave-one-out",
                    "experiment": "beauty",
                    "run": "a1",
                }
                assert texts.items() <= found.items() and found["training_seed"] == "42"
                assert (found["n"], found["examples"]) == (str(column.users), str(column.examples))
                numbers = [float(found[name]) for name in ("value", "low", "high")]
                assert numbers == [cell.value.mean, cell.value.low, cell.value.high]
                names = ("difference", "difference_low", "difference_high", "p", "p_holm")
                if cell.gain is None:
                    assert [found[name] for name in names] == [""] * 5
                else:
                    gain = cell.gain
                    expected = [gain.difference, gain.low, gain.high, gain.p_value, cell.p_holm]
                    assert [float(found[name]) for name in names] == expected
                assert (found["against"], found["draws"], found["seed"]) == ("sft", "300", "1")
    assert next(records, None) is None


def test_all_of_a_tie_are_the_best_as_it_is_shown(runs: Path):
    same = rankings(TARGETS, 0.4, seed=3)
    write_run(
        runs / "tuned" / "c3",
        USERS,
        TARGETS,
        {"sft": same, "grpo": [[*row[:10]] for row in same], "popularity": rankings(TARGETS, 0.0, 5, length=10)},
    )
    (table,) = compared("tuned")
    assert [[cell.best for cell in row] for row in values(table)] == [[True] * 4, [True] * 4, [False] * 4]


@pytest.mark.parametrize("masked", [False, True])
def test_the_title_says_what_was_tested(runs: Path, masked: bool):
    users = [f"user{number % 40:02}" for number in range(200)]
    stages = {"sft": rankings(TARGETS, 0.4, 1), "grpo": rankings(TARGETS, 0.5, 2)}
    write_run(runs / "timed" / "j1", users, TARGETS, stages, split="global-time", mask_history=masked)
    (table,) = compared("timed")
    history = "items of the history left out of the rankings" if masked else "history not masked"
    assert title(table) == f"test · global-time · 40 users with 200 examples · {history}"
