"""What stands between categories is read off the column."""

from __future__ import annotations

from itertools import combinations

import pytest

from datamodules.sources.separators import find_separators


def split(*cells: str, chosen: str | None = None) -> list[list[str]]:
    found = find_separators(cells, chosen)
    return [found.split(cell) for cell in cells]


@pytest.mark.parametrize(
    "cell",
    [
        "Home|Soap",
        "Home | Soap",
        "Home > Soap",
        "Home>Soap",
        "Home;Soap",
        "Home; Soap",
        "Home » Soap",
        "Home -> Soap",
        "Home &gt; Soap",
        "Home::Soap",
        "Home · Soap",
        "Home\nSoap",
        "|Home||Soap|",
    ],
)
def test_entry_4_marks_that_no_name_holds(cell: str):
    """Entry 4: paths and lists in one cell are several categories, even in a single row."""
    assert split(cell, "Bath") == [["Home", "Soap"], ["Bath"]]


def test_entry_4_paths_of_paths_and_commas_in_their_names():
    """Entry 4, siblings: two marks at once; beside a sure mark a comma belongs to a name."""
    assert split("A > B; A > C") == [["A", "B", "A", "C"]]
    assert split("Food, Drink & Co|Tea", "Toys") == [["Food, Drink & Co", "Tea"], ["Toys"]]


@pytest.mark.parametrize("mark", [", ", ",", "/", " / "])
def test_entry_4_commas_split_where_the_same_names_come_again(mark: str):
    """Entry 4 and the newcomers' third: 19 genres stay 19, whatever their combinations."""
    genres = [f"Genre {number}" for number in range(18)] + ["Children's"]
    cells = [mark.join(some) for size in (1, 2, 3) for some in combinations(genres, size)][:400]
    assert {name for cell in split(*cells) for name in cell} == set(genres)
    assert split("Animation, Children's, Comedy", "Comedy, Drama", "Drama")[0] == ["Animation", "Children's", "Comedy"]


@pytest.mark.parametrize(
    "cells",
    [
        ["Food, Drink & Co", "Toys"],
        ["Food, Drink & Co", "Food", "Toys"],
        ["Home, Garden & Pets", "Home, Kitchen & Bath", "Toys, Games"],
        ["Home, Garden und Tiere", "Home, Bad und Küche"],
        ["1,000 pieces", "1,000 pieces, boxed"],
        ["Film/TV", "Radio"],
        ["R&amp;B", "Rock &amp; Roll"],
        ["<b>Home</b>"],
    ],
)
def test_entry_4_one_name_stays_one(cells: list[str]):
    """Entry 4: a comma within a name is not a separator, and it is told that it was not taken for one."""
    found = find_separators(cells)
    assert all(len(found.split(cell)) == 1 for cell in cells)
    assert not found.patterns and (found.doubtful or not any("," in cell for cell in cells))


def test_entry_4_a_key_has_the_last_word():
    """Entry 4: data.category_separator splits as it says, and '' not at all."""
    assert split("Food, Drink & Co", "a|b", chosen=",") == [["Food", "Drink & Co"], ["a|b"]]
    assert split("a|b", chosen="") == [["a|b"]]
    assert split("a.b", chosen=".") == [["a", "b"]]
