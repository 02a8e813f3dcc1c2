"""Texts from outside where people see them: pages, terminals, tables that are opened in a spreadsheet, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jinja2 import Environment

from datamodules.sources import read_source
from dig.config import UserError, load_config
from dig.config.schema import DataConfig
from dig.engine.console import console, printable, say, spreadsheet_cell, visible, warn
from dig.report.html import finalize, json_block

CODES = (
    *range(0x00, 0x09),
    *range(0x0B, 0x0D),
    *range(0x0E, 0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
    0xE0041,
)
UNSEEN = "".join(map(chr, CODES))


def test_what_is_seen_obeys_nothing() -> None:
    """Guard 10: no control character and no mark of direction is left of a text; everything else is."""
    text = "Käse 茶 😀‍👩 שלום a\tb\nc"
    assert visible(UNSEEN) == "" and visible(f"\x1b[31m{text}\u202e") == f"[31m{text}"
    assert visible(text) == text and visible("a\r\nb\u2028c") == "a \nb\u2028c"
    assert not set(printable(f"a{UNSEEN}b\u2028c", 100)) & set(UNSEEN + "\u2028")


def test_the_terminal_shows_and_does_not_obey() -> None:
    """Guard 10: lines, warnings and errors, whoever wrote the text in them."""
    with console.capture() as shown:
        say(f"item {UNSEEN}x")
        warn(f"item {UNSEEN}y")
    assert shown.get() == "item x\nwarning: item y\n"


def test_pages_show_and_do_not_obey() -> None:
    """Guard 10: every value of a template and of a plot's data, in text, attributes and keys."""
    page = Environment(autoescape=True, finalize=finalize).from_string('<a title="{{ t }}">{{ t }}{{ s }}</a>')
    shown = page.render(t=f"<b>{UNSEEN}x", s=json_block({f"k{UNSEEN}": [f"<v{UNSEEN}>", 1.5, None]}))
    assert not set(shown) & set(UNSEEN) and shown.count("&lt;b&gt;x") == 2
    assert json.loads(str(json_block({f"k{UNSEEN}": [f"<v{UNSEEN}>", 1.5, None]}))) == {"k": ["<v>", 1.5, None]}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\u202e=1", "\x1b=1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    """Guard 10: what would be a formula is text; numbers and other text stay as they are."""
    assert spreadsheet_cell(text) == f"'{visible(text)}"
    assert [spreadsheet_cell(each) for each in (-1.5, 3, None, True, "a=b", "")] == [-1.5, 3, None, True, "a=b", ""]


def test_errors_do_not_quote_what_a_link_points_to(tmp_path: Path) -> None:
    """Guard 10: a received folder may hold links to whatever is here; what they hold is not told."""
    outside, folder = tmp_path / "outside.txt", tmp_path / "received"
    folder.mkdir()
    outside.write_text("canary:first line of a file\nsecond canary line\n")
    (tmp_path / "mine.yaml").symlink_to(outside)
    with pytest.raises(UserError) as raised:
        load_config(tmp_path / "mine.yaml")
    assert "canary" not in str(raised.value) and raised.value.exit_code == 2
    (folder / "items.jsonl").write_text('{"item_id": "a", "title": "x"}\n')
    for content in ("canary:first line\nsecond\n", "17,canary,3\n18,canary,4\n"):
        outside.write_text(content)
        (folder / "interactions.csv").unlink(missing_ok=True)
        (folder / "interactions.csv").symlink_to(outside)
        with pytest.raises(UserError) as raised:
            read_source(DataConfig(path=str(folder)))
        assert "canary" not in str(raised.value) and "interactions.csv" in str(raised.value)
        (folder / "interactions.csv").unlink()
        (folder / "interactions.csv").write_text(content)  # a file of its own is told, since that helps
        with pytest.raises(UserError, match="canary"):
            read_source(DataConfig(path=str(folder)))
