"""Artifacts: atomic, verified, resumable, built once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dig.config import UserError
from dig.engine.artifacts import SCRATCH, ArtifactStore, atomic_path, disk_full, fingerprint, read_json, write_json
from dig.engine.console import console
from dig.engine.entry import exit_code


def build(folder: Path) -> None:
    (folder / "data.txt").write_text("content")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "more.txt").write_text("more")


def never(folder: Path) -> None:
    raise AssertionError("built again")


def rewrite(folder: Path, key: str, value: Any) -> None:
    """Another value in a manifest."""
    (folder / "manifest.json").write_text(json.dumps(read_json(folder / "manifest.json") | {key: value}))


def replaced(path: Path, make: Callable[[Path], Any]) -> None:
    """Something else under the same name."""
    path.rename(path.with_name(f"{path.name}.before"))
    make(path)


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
        (lambda path: rewrite(path, "files", ["data.txt"]), "lists no files"),
        (lambda path: rewrite(path, "files", {}), "lists no files"),
        (lambda path: rewrite(path, "files", {"data.txt": {"sha256": "0" * 64}}), "no size of 'data.txt'"),
        (lambda path: rewrite(path, "files", {"data.txt": {"size": 7}}), "no SHA-256 of 'data.txt'"),
        (lambda path: rewrite(path, "files", {"data.txt": 7}), "no size of 'data.txt'"),
        (lambda path: rewrite(path, "files", {"data.txt": {"size": True, "sha256": "0" * 64}}), "no size"),
        (lambda path: rewrite(path, "files", {"../data.txt": {"size": 7, "sha256": "0" * 64}}), "not a file of"),
        (lambda path: rewrite(path, "files", {"/etc/hostname": {"size": 7, "sha256": "0" * 64}}), "not a file of"),
        (lambda path: rewrite(path, "seconds", "long"), "seconds is not a number"),
        (lambda path: rewrite(path, "seconds", None), "seconds is not a number"),
        (lambda path: rewrite(path, "fingerprint", "other"), "of another artifact"),
        (lambda path: (path / "manifest.json").write_text("[1]"), "holds a list"),
        (lambda path: (path / "manifest.json").write_text("[" * 200_000), "RecursionError"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
        (lambda path: replaced(path / "manifest.json", os.mkfifo), "not a file"),
        (lambda path: replaced(path / "data.txt", os.mkfifo), "data.txt is not a file"),
        (lambda path: replaced(path / "data.txt", Path.mkdir), "data.txt is not a file"),
        (lambda path: rewrite(path, "seconds", 10**400), "seconds is not a number"),
        (lambda path: rewrite(path, "files", {"n" * 300: {"size": 7, "sha256": "0" * 64}}), "cannot be looked at"),
        (lambda path: rewrite(path, "files", {"\ud800": {"size": 7, "sha256": "0" * 64}}), "cannot be looked at"),
        (lambda path: rewrite(path, "files", {"data.txt": {"size": 10**40, "sha256": "0" * 64}}), "no size"),
        (lambda path: replaced(path / "data.txt", lambda place: place.symlink_to(place)), "cannot be looked at"),
        (lambda path: replaced(path, Path.touch), "not a folder"),
        (lambda path: replaced(path, lambda place: place.symlink_to(place.parent / "absent")), "not a folder"),
        (lambda path: replaced(path, lambda place: place.symlink_to(place.parent)), "manifest.json is missing"),
    ],
)
def test_damage_is_said_and_rebuilt(store: ArtifactStore, damage: Callable[[Path], None], word: str) -> None:
    """Guard 8: whatever stands in an artifact's place is sound, or a line says what is wrong and it is rebuilt."""
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
from dig.engine.artifacts import ArtifactStore
from dig.engine.console import lines_to_console
def build(folder):
    (folder / "started").write_text("")
    while not (Path(sys.argv[1]) / "go").exists():
        time.sleep(0.01)
    with (Path(sys.argv[1]) / "count").open("a") as stream:
        stream.write("x")
with lines_to_console():
    found = ArtifactStore(Path(sys.argv[1])).get("kind", "key", build, {})
print("cached" if found.cached else "built")
"""


def slow(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that builds once there is a file ``go``."""
    return subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_in_the_middle_of_a_build(tmp_path: Path, store: ArtifactStore) -> None:
    process = slow(tmp_path)
    wait_for(store.work_folder("kind", "key") / "started")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.find("kind", "key") is None
    found = store.get("kind", "key", build, {})
    assert not found.cached  # the dead process's lock is gone with it
    assert not list(found.path.parent.glob("*.seconds"))


def test_two_processes_with_the_same_work(tmp_path: Path, store: ArtifactStore) -> None:
    first = slow(tmp_path)
    wait_for(store.work_folder("kind", "key") / "started")
    second = slow(tmp_path)
    assert second.stdout is not None
    assert next(line for line in second.stdout if "waiting" in line)
    (tmp_path / "go").touch()
    assert "built" in first.communicate(timeout=60)[0]
    assert "cached" in second.communicate(timeout=60)[0]
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
    assert not store.get("kind", "key", build, {}).cached  # the next run continues in the same folder


def test_other_errors_are_not_called_a_full_disk(store: ArtifactStore) -> None:
    def fail(folder: Path) -> None:
        raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError):
        store.get("kind", "key", fail, {})


def test_two_artifacts_that_were_swapped_are_both_rebuilt(store: ArtifactStore) -> None:
    """Guard 8: each folder is whole in itself, and of something else than its name says."""
    one, other = store.get("kind", "one", build, {}).path, store.get("kind", "other", build, {}).path
    other.rename(other.with_name("between"))
    one.rename(other)
    other.with_name("between").rename(one)
    assert not store.get("kind", "one", build, {}).cached
    assert not store.get("kind", "other", build, {}).cached
    assert store.get("kind", "one", never, {}).cached


def test_a_build_writes_into_its_own_folder_alone(store: ArtifactStore, tmp_path: Path) -> None:
    """Guard 1: a work folder that is a link, and links in one that an interrupted build left, lead out of the store."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.txt").write_text("dear reader")
    work = store.work_folder("kind", "key")
    work.parent.mkdir(parents=True)
    work.symlink_to(elsewhere)
    store.get("kind", "key", build, {})
    left = store.work_folder("kind", "other")
    left.mkdir()
    (left / "sub").symlink_to(elsewhere)
    (left / "data.txt").symlink_to(elsewhere / "data.txt")
    (left / "kept.txt").write_text("kept")
    with console.capture() as captured:
        path = store.get("kind", "other", build, {}).path
    assert [entry.name for entry in elsewhere.iterdir()] == ["data.txt"]
    assert (elsewhere / "data.txt").read_text() == "dear reader"
    assert (path / "kept.txt").read_text() == "kept" and (path / "sub" / "more.txt").read_text() == "more"
    assert "was not what a build leaves" in captured.get()


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "home").write_text("x")
    return tmp_path / "home"


def below_a_file(tmp_path: Path) -> Path:
    return a_file(tmp_path) / "deeper"


def refused_by_the_system(tmp_path: Path) -> Path:
    return Path("/proc/dig-home")  # nobody can make folders there, root included


def too_long(tmp_path: Path) -> Path:
    return tmp_path / ("n" * 300)


def too_deep(tmp_path: Path) -> Path:
    return tmp_path.joinpath(*["n" * 200] * 30)


def a_circle(tmp_path: Path) -> Path:
    (tmp_path / "home").symlink_to(tmp_path / "home")
    return tmp_path / "home"


def test_a_home_whose_name_is_no_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Guard 8: tables cannot be written below it, which came out after the first stage."""
    with pytest.raises(UserError, match=r"h\ufffd: the name of this folder is not UTF-8; DIG_HOME names another"):
        ArtifactStore(tmp_path / os.fsdecode(b"h\xff"))
    assert not list(tmp_path.iterdir())


def a_file_for_a_kind(tmp_path: Path) -> Path:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "kind").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    "home", [a_file, below_a_file, refused_by_the_system, too_long, too_deep, a_circle, a_file_for_a_kind]
)
def test_a_home_that_cannot_be_one_is_a_line(
    home: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: whatever is wrong with DIG_HOME ends a command with one line that names the place."""
    path = home(tmp_path)

    def run(arguments: list[str]) -> int:
        store = ArtifactStore(path)
        store.note_use("kind", "key", tmp_path)
        store.get("kind", "key", build, {})
        return 0

    assert exit_code(run, [], "free some", "interrupted") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and str(path)[:60] in said


@pytest.mark.parametrize("again", [False, True])
def test_a_home_that_vanishes_during_a_build_is_a_line(
    again: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: somebody cleans up while a stage works; what is written after that is half an artifact."""

    def lost(folder: Path) -> None:
        build(folder)
        shutil.rmtree(tmp_path / "home")
        if again:
            write_json(folder / "last.json", {})

    def run(arguments: list[str]) -> int:
        ArtifactStore(tmp_path / "home").get("kind", "key", lost, {})
        return 0

    assert exit_code(run, [], "free some", "interrupted") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "home/artifacts/kind/key.work" in said
    assert ArtifactStore(tmp_path / "home").get("kind", "key", build, {}).path.is_dir()


def test_a_build_that_leaves_nothing_is_not_an_artifact(store: ArtifactStore) -> None:
    """Guard 8: a manifest without files would vouch for whatever stands there."""
    with pytest.raises(AssertionError, match="left no file"):
        store.get("kind", "key", lambda folder: None, {})
    assert store.find("kind", "key") is None


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


def test_folders_in_place_of_notes_give_way(store: ArtifactStore) -> None:
    """Guard 8: a folder under the name of a note or of a manifest in the making would end every build."""
    place = store.work_folder("kind", "key")
    (place.with_suffix(".seconds") / "inside").mkdir(parents=True)
    (place / "manifest.json" / "inside").mkdir(parents=True)
    with console.capture() as captured:
        found = store.get("kind", "key", build, {})
    assert captured.get().count("was not what a build leaves") == 2
    assert not found.cached and store.get("kind", "key", never, {}).cached


def test_a_home_that_was_copied_by_hard_links_changes_nothing_of_the_copy(tmp_path: Path) -> None:
    """Guard 1: a snapshot by `cp -al` shares every file; uses, notes and interrupted builds get files of their own."""
    store = ArtifactStore(tmp_path / "home")
    store.get("kind", "key", build, {})
    store.note_use("kind", "key", tmp_path / "first")
    work = store.work_folder("kind", "other")
    work.mkdir()
    (work / "data.txt").write_text("half")
    work.with_suffix(".seconds").write_text('{"seconds": 1.0, "since": 0.0}')
    shutil.copytree(tmp_path / "home", tmp_path / "snapshot", copy_function=os.link)
    before = {path: path.read_bytes() for path in (tmp_path / "snapshot").rglob("*") if path.is_file()}
    store.note_use("kind", "key", tmp_path / "second")
    store.get("kind", "other", build, {})
    assert store.runs_of("kind", "key") == [tmp_path / "first", tmp_path / "second"]
    assert {path: path.read_bytes() for path in before} == before
