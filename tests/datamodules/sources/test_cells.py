"""Cells: lists that programs wrote as text, ids of any type, and what counts as nothing."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from typing import Any

import pytest

from datamodules.sources.cells import id_text, is_missing, list_of, quoted_list, spelled_list


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
