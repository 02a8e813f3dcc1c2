"""Prices in the spellings of many countries."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sources.prices import decimal_mark, price_of

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
