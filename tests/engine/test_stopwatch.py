"""Seconds of work in several attempts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dig.engine.manifest import Stopwatch


def test_earlier_attempts_count_until_the_last_file_that_they_wrote(tmp_path: Path) -> None:
    file, work = tmp_path / "key.seconds", tmp_path / "work"
    work.mkdir()
    for earlier in (0.0, 100.0, 200.0):
        watch = Stopwatch(file, work)
        assert earlier <= watch.seconds() < earlier + 5.0
        (work / "checkpoint").write_text("")
        later = time.time() + 100.0
        os.utime(work / "checkpoint", (later, later))  # ... and then it was killed
    (work / "gone").symlink_to(tmp_path / "nowhere")
    assert Stopwatch(file, work).seconds() >= 300.0
    watch.forget()
    assert not file.exists() and Stopwatch(file, work).seconds() < 5.0


def test_an_attempt_that_wrote_nothing_counts_nothing(tmp_path: Path) -> None:
    file, work = tmp_path / "key.seconds", tmp_path / "work"
    work.mkdir()
    (work / "old").write_text("")
    long_ago = time.time() - 1000.0
    os.utime(work / "old", (long_ago, long_ago))
    os.utime(work, (long_ago, long_ago))
    Stopwatch(file, work)
    assert Stopwatch(file, work).seconds() < 5.0


def test_attempts_whose_work_was_removed_count_nothing(tmp_path: Path) -> None:
    file, work = tmp_path / "key.seconds", tmp_path / "work"
    work.mkdir()
    file.write_text('{"seconds": 100.0, "since": 0.0}')
    assert Stopwatch(file, work).seconds() < 5.0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seconds": "many", "since": 0}'])
def test_a_note_that_cannot_be_read_counts_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "key.seconds").write_text(content)
    assert Stopwatch(tmp_path / "key.seconds", tmp_path).seconds() < 5.0
