"""The table on the screen: whole numbers at any width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from dig.comparison.contest import find_contests
from dig.comparison.measure import Comparison, measure
from dig.comparison.request import Request
from dig.comparison.text import print_text, text
from dig.comparison.wording import caption


@pytest.fixture
def table(runs: Path) -> Comparison:
    (contest,) = find_contests(Request(("beauty", "plain_codes")))
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
    assert printed.count("plain_codes/sft") >= (1 if width >= 120 else 2)  # again on each table that goes on
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
    tables = [measure(contest, 300, 1) for contest in find_contests(Request(("beauty",)))]
    lines = text(tables).splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("test · ")]
    assert len(titles) == 2 and lines[titles[1] - 1] == ""
    assert lines[titles[0]].endswith("history not masked") and lines[titles[1]].endswith("left out of the rankings")
