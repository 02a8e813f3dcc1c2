"""Every line is a row, part of one, or a bad row; counts and rows are those of Python's csv where quotes are sound."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sources import quoting
from datamodules.sources.quoting import layout_of, physical_lines, records

FIELD = st.text(st.sampled_from('ab "\n,\t\\'), max_size=6)


def written(rows: list[list[str]], separator: str, quoting_: int, end: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, quoting=quoting_, lineterminator=end).writerows(rows)
    return stream.getvalue()


def read(text: str, separator: str, fields: int, needed: range | None = None) -> list[quoting.Record]:
    lines = io.StringIO(text, newline="")
    return list(records(lines, separator, fields, needed or range(fields), None))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
def test_entry_1_rows_are_counted_and_read_as_python_does(rows: list[list[str]], how: int, end: str, chunk: int):
    text = written(rows, ",", how, end)
    content = text.encode()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(quoting, "_CHUNK", chunk)
        layout = layout_of(content, ",", 3)
    found = read(text, ",", 3)
    assert [record.fields for record in found] == rows
    assert sum(record.lines for record in found) == physical_lines(content)
    if layout is not None:  # None is always allowed: then the rows above are what is read
        assert layout.rows == len(rows)
        starts = list(range(1, len(rows) + 1)) if layout.lines is None else layout.lines.tolist()
        assert starts == [record.line for record in found]
        assert layout.separators() == 2 * len(rows)


def test_sound_quotes_need_no_closer_look():
    text = written([["a", 'say "hi"', "x\ny"]] * 50, ",", csv.QUOTE_ALL, "\n")
    layout = layout_of(text.encode(), ",", 3)
    assert layout is not None and layout.lines is not None and layout.rows == 50
    assert layout.lines.tolist() == list(range(1, 101, 2))


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('ab"\n,\\\r'), max_size=60), st.sampled_from([",", "\t"]))
def test_entry_1_no_line_is_lost_whatever_the_quotes(text: str, separator: str):
    text = text.replace(",", separator)
    found = read(text, separator, 3)
    assert sum(record.lines for record in found) == physical_lines(text.encode())
    assert [record.line for record in found] == [1 + sum(r.lines for r in found[:n]) for n in range(len(found))]
    assert all(record.fields is None or len(record.fields) in (0, 3) for record in found)


@pytest.mark.parametrize(
    "text",
    ['5" brush', 'a"b"', "x\ry", "nul\0"],
)
def test_what_only_a_closer_look_tells(text: str):
    assert layout_of(f"a,b,c\n1,2,{text}\n".encode(), ",", 3) is None


def test_entry_1_a_backslash_escapes_a_quote():
    text = '1,"a \\"b\\", c",x\n2,"d \\" e",y\n3,"plain, text",z\n4,"back\\\\",w\n'
    assert [record.fields for record in read(text, ",", 3)] == [
        ["1", 'a "b", c', "x"],
        ["2", 'd " e', "y"],
        ["3", "plain, text", "z"],
        ["4", "back\\\\", "w"],
    ]


def test_entry_1_a_quote_that_opens_nothing_keeps_its_row_to_itself():
    comma = read('1,"Beta,x\n2,Gamma,x\n3,Del"ta,x\n', ",", 3)
    assert [record.fields for record in comma] == [None, ["2", "Gamma", "x"], ["3", 'Del"ta', "x"]]
    assert "opens field 2 and does not close it" in comma[0].reason
    tabs = read('1\t"Beta\tx\n2\tGamma\tx\n3\tDelta"\tx\n', "\t", 3)
    assert [record.fields for record in tabs] == [["1", '"Beta', "x"], ["2", "Gamma", "x"], ["3", 'Delta"', "x"]]
    assert [record.literal for record in tabs] == [True, False, False]


def test_a_quote_in_a_field_that_nobody_reads_costs_nothing():
    (record,) = read('1,2,"Best" brush\n', ",", 3, range(2))
    assert record.fields == ["1", "2", '"Best" brush'] and record.literal
