"""Artifacts: atomic, verified, resumable, built once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dig.artifacts import SCRATCH, ArtifactStore, atomic_path, disk_full, fingerprint, read_json, write_json
from dig.config import UserError
from dig.console import console


def build(folder: Path) -> None:
    (folder / "data.txt").write_text("content")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "more.txt").write_text("more")


def never(folder: Path) -> None:
    raise AssertionError("built again")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def test_fingerprint_depends_on_content_alone() -> None:
    assert fingerprint({"a": 1, "b": [2, "ü"]}) == fingerprint({"b": [2, "ü"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert len(fingerprint(None)) == 16


def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_json(path, {"ü": [1]})
    assert read_json(path) == {"ü": [1]}


def test_built_once_then_found(store: ArtifactStore) -> None:
    first = store.get("kind", "key", build, {"why": 1})
    second = store.get("kind", "key", never, {"why": 1})
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path and second.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert set(read_json(first.path / "manifest.json")["files"]) == {"data.txt", "sub/more.txt"}


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: (path / "data.txt").unlink(), "missing"),
        (lambda path: (path / "data.txt").write_text("conten"), "6 bytes instead of 7"),
        (lambda path: (path / "sub" / "more.txt").write_text("mare"), "another content"),
        (lambda path: (path / "manifest.json").write_text("{"), "manifest.json"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json"),
    ],
)
def test_damage_is_said_and_rebuilt(store: ArtifactStore, damage: Callable[[Path], None], word: str) -> None:
    damage(store.get("kind", "key", build, {}).path)
    with console.capture() as captured:
        rebuilt = store.get("kind", "key", build, {})
    assert "is damaged" in captured.get() and word in captured.get()
    assert not rebuilt.cached
    assert (rebuilt.path / "data.txt").read_text() == "content"


def test_a_failed_build_leaves_no_artifact_and_its_work_to_the_next(store: ArtifactStore) -> None:
    def fails(folder: Path) -> None:
        (folder / SCRATCH).mkdir()
        (folder / SCRATCH / "resume.ckpt").write_text("half way")
        raise RuntimeError("power cut")

    def goes_on(folder: Path) -> None:
        assert (folder / SCRATCH / "resume.ckpt").read_text() == "half way"
        build(folder)

    with pytest.raises(RuntimeError):
        store.get("kind", "key", fails, {})
    assert store.find("kind", "key") is None and not store.exists("kind", "key")
    finished = store.get("kind", "key", goes_on, {})
    assert not (finished.path / SCRATCH).exists()
    assert not store.work_folder("kind", "key").exists()


SLOW = """
import sys, time
from pathlib import Path
from dig.artifacts import ArtifactStore
def build(folder):
    (folder / "started").write_text("")
    time.sleep(float(sys.argv[2]))
    with (Path(sys.argv[1]) / "count").open("a") as stream:
        stream.write("x")
found = ArtifactStore(Path(sys.argv[1])).get("kind", "key", build, {})
print("cached" if found.cached else "built")
"""


def slow(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_in_the_middle_of_a_build(tmp_path: Path, store: ArtifactStore) -> None:
    process = slow(tmp_path, 60)
    wait_for(store.work_folder("kind", "key") / "started")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.find("kind", "key") is None
    found = store.get("kind", "key", build, {})
    assert not found.cached  # the dead process's lock is gone with it
    assert not list(found.path.parent.glob("*.seconds"))


def test_two_processes_with_the_same_work(tmp_path: Path, store: ArtifactStore) -> None:
    first = slow(tmp_path, 1.5)
    wait_for(store.work_folder("kind", "key") / "started")
    second = slow(tmp_path, 0)
    assert "built" in first.communicate(timeout=60)[0]
    output = second.communicate(timeout=60)[0]
    assert "waiting" in output and "cached" in output
    assert (tmp_path / "count").read_text() == "x"
    assert not store.work_folder("kind", "key").exists()


@pytest.mark.parametrize("writer", ["polars", "numpy", "python"])
def test_a_full_disk_is_one_line_and_loses_nothing(writer: str, store: ArtifactStore) -> None:
    """/dev/full takes no byte: whatever is written through the link fails as on a full disk."""

    def fill(folder: Path) -> None:
        (folder / "first.txt").write_text("done")
        (folder / "big").symlink_to("/dev/full")
        if writer == "polars":
            pl.DataFrame({"a": range(100_000)}).write_parquet(folder / "big")
        elif writer == "numpy":
            with (folder / "big").open("wb") as stream:
                np.save(stream, np.zeros(100_000))
        else:
            (folder / "big").write_text("x" * 100_000)

    with pytest.raises(
        UserError, match=r"kind: no space left on the disk of .*key.work; free some, then the same comm"
    ):
        store.get("kind", "key", fill, {})
    work = store.work_folder("kind", "key")
    assert store.find("kind", "key") is None and (work / "first.txt").read_text() == "done"
    (work / "big").unlink()
    assert not store.get("kind", "key", build, {}).cached  # the next run goes on in the same folder


def test_other_errors_are_not_called_a_full_disk(store: ArtifactStore) -> None:
    def fail(folder: Path) -> None:
        raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError):
        store.get("kind", "key", fail, {})


def test_a_full_disk_is_told_by_whatever_polars_says_of_it(tmp_path: Path):
    """Guards, full disks: a table's header that finds no room names no error of the system, only its transport."""
    code = """
import resource, sys
import polars as pl
table = pl.DataFrame({f"c{column}": [str(row * column) for row in range(50)] for column in range(40)})
for size in range(2000, 30000, 400):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        table.write_parquet(sys.argv[1])
    except pl.exceptions.PolarsError as error:
        print(error)
"""
    path = tmp_path / "table.parquet"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    words = set(done.stdout.splitlines())
    assert any("transport error" in each for each in words)  # else polars speaks otherwise by now
    full = [each.replace("(os error 27)", "(os error 28)") for each in words]  # a limit stands in for a disk
    assert all(disk_full(pl.exceptions.ComputeError(each)) for each in full)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(pl.exceptions.ComputeError) as cut:
        pl.read_parquet(path)
    assert not disk_full(cut.value)
