"""Blocks of whole lines, whatever the compression and wherever pieces end."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.sources import streams
from dig.config import UserError


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.binary(max_size=12).filter(lambda line: not {0, 10} & set(line)), max_size=30).map(b"\n".join),
    piece=st.integers(1, 40),
    block=st.integers(1, 60),
    form=st.sampled_from(["", ".gz", ".zst"]),
)
def test_blocks_join_to_the_content_and_end_with_lines(
    content: bytes, piece: int, block: int, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = b"x\n" + content  # what begins otherwise may be taken for a file in another form, and refused
    monkeypatch.setattr(streams, "_PIECE", piece)
    monkeypatch.setattr(streams, "_BLOCK", block)
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[form]
    path = tmp_path / f"x{form}"
    path.write_bytes(pack(content))
    found = list(streams.blocks(path))
    assert b"".join(block.data for block in found) == content
    assert all(block.data.endswith(b"\n") for block in found[:-1])
    lines = 1
    for block in found:
        assert block.first_line == lines
        assert block.lines == len(block.data.split(b"\n")) - block.data.endswith(b"\n")
        lines += block.lines


@given(st.text(alphabet='a \n\r\t"', max_size=30), st.integers(1, 5))
def test_records_are_lines_that_hold_something(text: str, part: int):
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_PART", part)
        assert streams.count_bytes(data, ord("\n")) == data.count(b"\n")
        assert streams.count_records(data) == sum(1 for line in data.split(b"\n") if line.strip())


def test_a_mark_at_the_start_is_no_content(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb")
    assert streams.read_whole(tmp_path / "x") == b"a\n\xef\xbb\xbfb"


def test_a_reader_that_stops_early_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "_PIECE", 10)
    monkeypatch.setattr(streams, "_BLOCK", 10)
    (tmp_path / "x").write_bytes(b"line\n" * 1000)
    before = threading.active_count()
    reader = streams.blocks(tmp_path / "x")
    next(reader)
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("name", "content"), [("x.gz", b"no gzip at all"), ("x.zst", b"no zstd at all")])
def test_what_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged or cut off"):
        list(streams.blocks(tmp_path / name))


def test_a_folder_or_nothing(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        list(streams.blocks(tmp_path))
    with pytest.raises(UserError, match="cannot be read: No such file"):
        streams.read_whole(tmp_path / "none.gz")


@pytest.mark.parametrize("form", ["", ".gz"])
@pytest.mark.parametrize(
    ("stored", "named", "told"),
    [
        ("utf-8", "latin-1", "this is UTF-8; data.encoding=latin-1 makes 'ThÃ©' of 'Thé', leave it out"),
        ("utf-8", "cp1252", "this is UTF-8"),
        ("cp1252", "cp1252", ""),
        ("utf-16", "utf-16", ""),
    ],
)
def test_an_encoding_that_is_named_for_a_file_in_utf_8_is_told(
    form: str,
    stored: str,
    named: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Entry 10: its letters become pairs of others, and no row is odd."""
    monkeypatch.setattr(streams, "_PIECE", 7)  # letters are cut between pieces
    content = "item_id,title\n" + "".join(f"{row},Green Thé {row}\n" for row in range(20))
    path = tmp_path / f"items.csv{form}"
    path.write_bytes({"": bytes, ".gz": gzip.compress}[form](content.encode(stored)))
    read = streams.read_whole(path, named)
    assert (read == content.encode()) == (stored == named)
    said = " ".join(capsys.readouterr().out.split())
    assert told in said and bool(said) == bool(told)


@pytest.mark.parametrize("form", [".gz", ".zst"])
def test_line_ends_that_unpack_to_a_thousand_times_as_much_are_read_in_pieces(form: str, tmp_path: Path):
    """Guard 6: a small packed file of nothing but line ends took the memory of all that it unpacks to, many times."""
    size = 60 << 20  # of each of five packed files in a row
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}[form]
    path = tmp_path / f"items.jsonl{form}"
    path.write_bytes(pack(b"\n" * size) * 5)
    assert path.stat().st_size < 5 * size / 500
    tracemalloc.start()
    try:
        rows, ends = 0, 0
        for block in streams.blocks(path):
            rows += streams.count_records(block.data)
            ends += block.lines
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 0 and ends == 5 * size
    assert peak < 4 * size  # the blocks that wait for their reader, of 8 MB or what a kilobyte unpacks to


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\n\n", b" ", b"\t", b"\r", b"\x0b", b"a", b"word"])).map(b"".join))
def test_records_are_lines_that_hold_more_than_blanks(data: bytes):
    """Guard 6: blank lines are counted without a text for each; the same as by splitting."""
    assert streams.count_records(data) == sum(bool(line.strip()) for line in data.split(b"\n"))


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guard 6: what never ends a line would be held whole."""
    monkeypatch.setattr(streams, "_BLOCK", 1000)
    monkeypatch.setattr(streams, "_LONGEST_LINE", 1 << 20)
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(gzip.compress(b"{" + b" " * (8 << 20)))
    with pytest.raises(UserError, match=r"items\.jsonl\.gz: a line has more than 1 MB"):
        list(streams.blocks(path))
