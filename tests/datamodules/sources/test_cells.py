"""Cells: lists that programs wrote as text, ids of any type, and what counts as nothing."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sources.cells import (
    decimal_mark,
    find_separators,
    id_text,
    is_missing,
    list_of,
    price_of,
    quoted_list,
    spelled_list,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["Home", "Soap"]', ["Home", "Soap"]),
        ('["caf\\u00e9", "a\\/b"]', ["café", "a/b"]),
        ("['Home', 'Soap']", ["Home", "Soap"]),
        ("[u'Home', u'caf\\xe9']", ["Home", "café"]),
        ("('Home', 'Soap')", ["Home", "Soap"]),
        ("{'Home'}", ["Home"]),
        ("['Home' 'Soap']", ["Home", "Soap"]),  # numpy; as Python it would be the one text HomeSoap
        ("['Home' \"Children's\"\n 'Soap']", ["Home", "Children's", "Soap"]),
        ("array(['Home', 'Soap'], dtype=object)", ["Home", "Soap"]),
        ("[array(['Home'], dtype='<U4')]", ["Home"]),
        ("[['Home','Soap'], ['Home', \"O'Reilly\"]]", ["Home", "Soap", "Home", "O'Reilly"]),
        ("[{'id': 16, 'name': 'Animation'}, {'id': 3, 'name': \"Children's\"}]", ["Animation", "Children's"]),
        ("[1, 2.5]", [1, 2.5]),
        ("[]", []),
        ("[None, nan]", []),
        ("[Home, Soap]", None),
        ("(500) Days of Summer", None),
        ("(5.00)", None),
        ("[REC]", None),
        ("['a', __import__('os').getcwd()]", None),
        ("['a'] + ['b']", None),
        ("[" * 5000 + "]" * 5000, None),
        ("['" + "a" * 200_000 + "']", None),
        ("['\\" + "q']", ["\\q"]),
    ],
)
def test_entry_4_lists_written_as_text(text: str, expected: list[Any] | None):
    """Entry 4: lists in a cell, as JSON, Python, numpy and pandas write them; nothing is evaluated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = spelled_list(text)
    if text.startswith("[[[[["):
        assert found in (None, [])  # no depth is a stack overflow
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[Home, Soap]", ["Home", "Soap"]), ('{Home,"Food, Drink"}', ["Home", "Food, Drink"]), ("Home, Soap", None)],
)
def test_entry_4_lists_without_quotes(text: str, expected: list[str] | None):
    """Entry 4, siblings: as Spark and Postgres write lists."""
    assert list_of(text, bare=True) == expected and list_of(text) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (" a ", " a "),
        ("nan", "nan"),
        (12, "12"),
        (12.0, "12"),
        (-3.0, "-3"),
        (Decimal("12.00"), "12"),
        (b"caf\xc3\xa9", "café"),
        (0, "0"),
        (2**70, str(2**70)),
    ],
)
def test_entry_5_ids_of_any_type(value: Any, expected: str):
    """Entry 5: a column of whole numbers with a gap is one of floats; its ids are those of the other table."""
    assert id_text(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is empty"),
        ("", "is empty"),
        (b"", "is empty"),
        (math.nan, "is empty"),
        (Decimal("NaN"), "is empty"),
        (math.inf, "whole number"),
        (12.5, "it is 12.5"),
        (Decimal("12.5"), "it is 12.5"),
        (True, "it is a bool"),
        (["a"], "it is a list"),
        (2.0**60, "too large"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_entry_5_what_names_nothing(value: Any, reason: str):
    """Entry 5: NaN is not a user with a tenth of all rows."""
    with pytest.raises(ValueError, match=reason):
        id_text(value)


def test_entry_5_missing_values():
    """Entry 5: what pandas and databases write where there is nothing; a word may be a title."""
    for value in (None, "", "  ", math.nan, math.inf, True, "nan", "NaN", "<NA>", "NaT", "None", "NULL", "N/A", "\\N"):
        assert is_missing(value), value
    for value in ("Nan", "nano", "Nullarbor", 0, 0.0, "0", []):
        assert not is_missing(value), value
    assert is_missing("nan", sure=True) and not is_missing("None", sure=True)


@pytest.mark.parametrize(
    "text",
    [
        "[np.str_('Home'), np.str_('Soap')]",  # a list of numpy 2's texts
        "[b'Home', b'Soap']",
        "np.array(['Home', 'Soap'])",
        "frozenset({'Home', 'Soap'})",
        'c("Home", "Soap")',  # R
        r'"[\"Home\",\"Soap\"]"',  # JSON, encoded twice
        '{"main": "Home", "further": "Soap"}',
    ],
)
def test_entry_4_lists_as_other_programs_write_them(text: str):
    assert spelled_list(text) == ["Home", "Soap"]


@pytest.mark.parametrize("text", ['"Home"', '"[2]', "c(om)", "[2] Case", "car (red, blue)"])
def test_entry_4_a_text_that_only_looks_like_a_list(text: str):
    assert spelled_list(text) is None and quoted_list(text) == text


def test_entry_4_an_object_keeps_its_order():
    assert list_of({"a": "Home", "b": "Soap"}) == ["Home", "Soap"]


THIN, NARROW, BREAKLESS = "\u2009", "\u202f", "\u00a0"


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("12,99", 12.99),
        ("1.299,00 €", 1299.0),
        ("1 299,00", 1299.0),
        (f"1{BREAKLESS}299,00{BREAKLESS}€", 1299.0),
        (f"1{NARROW}299,00", 1299.0),
        (f"12{THIN}500", 12500.0),
        ("$1,250.00", 1250.0),
        ("1'299.00", 1299.0),
        ("CHF 1’299.–", 1299.0),
        ("€ 12", 12.0),
        ("12,-", 12.0),
        ("1,299", 1299.0),
        ("EUR 12.50", 12.5),
        ("12,50 EUR", 12.5),
        ("Rs. 1,299", 1299.0),
        ("₹1,29,999.00", 129999.0),
        ("1,29,999", 129999.0),
        ("5.99 - 9.99", 5.99),
        ("5,99 – 9,99 €", 5.99),
        ("R$ 1.299,00", 1299.0),
        ("US$ 7", 7.0),
        ("from $5.99", 5.99),
        ("1.299.000", 1299000.0),
        ("0,999", 0.999),
        (".99", 0.99),
        ("1299.50", 1299.5),
        ("1.2345", 1.2345),
        ("1e+03", 1000.0),
        ("kr 129", 129.0),
        (7, 7.0),
        (7.25, 7.25),
        (1e16, 1e16),
        (Decimal("7.50"), 7.5),
        ("1.299", 1.299),  # as programs write; docs/data.md says so, and a note says it of the column
        ("-5.00", None),
        (-5.0, None),
        ("(5.00)", None),
        ("see price in cart", None),
        ("", None),
        (None, None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        ("nan", None),
        ("inf", None),
        ("12.05.2020", None),
        ("20 % off", None),
        ("2 for 5", None),
        ("9" * 60, None),
        ("Currently 5 left", None),
    ],
)
def test_entry_6_prices(written: Any, price: float | None):
    """Entry 6: 12,99 is not 1299, 1.299,00 € is not 1.299, and 1 299,00 is not 1."""
    assert price_of(written) == price


def test_entry_6_a_mark_before_three_digits_is_decided_by_the_column():
    """Entry 6: beside 12,99 the price 1.299 is a thousand, and 1,299 is not."""
    assert decimal_mark(["12,99", "1.299", "5"]) == "," and price_of("1.299", ",") == 1299.0
    assert price_of("1,299", ",") == 1.299
    assert decimal_mark(["12.99", "1,299"]) == "." and price_of("1,299", ".") == 1299.0
    assert decimal_mark(["1.299,50", None, 3.5]) == "," and decimal_mark(["1.299", "1,299", "7", "x"]) is None


@given(st.integers(0, 10**9), st.sampled_from(["1,234.56", "1.234,56", "1 234,56", "1'234.56", "1234,56", "1234.56"]))
def test_every_amount_in_every_style(cents: int, style: str):
    text = f"{cents / 100:,.2f}" if style[1] in ",. '" else f"{cents / 100:.2f}"
    thousands, mark = (style[1] if style[1] in ",. '" else ""), style[-3]
    text = text.replace(",", "T").replace(".", mark).replace("T", thousands)
    assert price_of(f"{text} €") == cents / 100 == price_of(f"€{text}")


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
