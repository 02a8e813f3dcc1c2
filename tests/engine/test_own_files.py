"""Files with guessable names in shared folders: no link is followed, nothing is emptied."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from callbacks.resume import AtomicCheckpointIO
from datamodules.download.retry import Partial
from dig.config import UserError
from dig.engine.artifacts import ArtifactStore, write_json
from dig.engine.console import console
from dig.engine.manifest import Stopwatch
from dig.engine.own_files import (
    atomic_path,
    lock,
    lock_at_once,
    make_folder,
    open_own,
    read_own,
    read_own_json,
    replace_text,
    temporary_beside,
)
from dig.engine.pruning import Stored, remove
from dig.interests.asking.store import AnswerStore

KEY = "0123456789abcdef"


def locked(path: Path) -> None:
    with lock(path, "held"):
        pass


def built(path: Path) -> None:
    """`path` is the lock of an absent artifact."""
    store = ArtifactStore(path.parent.parent.parent)
    store.get(path.parent.name, path.stem, lambda folder: (folder / "data").write_text("content") and None, {})


def pruned(path: Path) -> None:
    folder = path.with_suffix("")
    folder.mkdir()
    stored = Stored("kind", folder, 1, 0, 0.0, True, (), True)
    list(remove(ArtifactStore(path.parent.parent.parent), [stored]))


def asked(path: Path) -> None:
    with AnswerStore(path.with_suffix(".sqlite")) as store, store.asking():
        pass


def appended(path: Path) -> None:
    with open_own(path, append=True) as stream:
        stream.write(b"more")


def fetched(path: Path) -> None:
    notes = {"url": "http://shop.example/x", "version": None, "total": None}
    path.with_name(f"{path.name}.json").write_text(json.dumps(notes))
    with Partial(path.with_suffix(""), "http://shop.example/x").open() as stream:
        stream.write(b"more")


LOCKS = [("any.lock", locked), (f"{KEY}.lock", built), (f"{KEY}.lock", pruned), ("answers.lock", asked)]
WRITTEN = [("log", appended), ("file.part", fetched), ("answers.lock", asked)]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts" / "kind"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("name", "use"), [*LOCKS, *WRITTEN])
def test_a_lock_that_is_a_link_leaves_its_target_as_it_was(
    shared: Path, name: str, use: Callable[[Path], None]
) -> None:
    """Guard 1: a lock that is a link is refused in one line, and what it points to keeps its content."""
    target = shared.parent / "letter.txt"
    target.write_text("dear reader")
    (shared / name).symlink_to(target)
    with pytest.raises(UserError, match="is a link") as caught:
        use(shared / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert target.read_text() == "dear reader"


@pytest.mark.parametrize(("name", "use"), [*LOCKS, *WRITTEN])
def test_a_lock_that_points_nowhere_makes_nothing(shared: Path, name: str, use: Callable[[Path], None]) -> None:
    """Guard 1: nor does a dangling link make a file where it points."""
    target = shared.parent / "absent"
    (shared / name).symlink_to(target)
    with pytest.raises(UserError, match="is a link"):
        use(shared / name)
    assert not target.exists()


@pytest.mark.parametrize(("name", "use"), [*LOCKS, *WRITTEN])
@pytest.mark.parametrize("odd", ["pipe", "folder"])
def test_a_lock_that_is_not_a_file_is_a_line(shared: Path, name: str, use: Callable[[Path], None], odd: str) -> None:
    """Guard 1: a named pipe would wait for ever, a folder is not a lock."""
    if odd == "pipe":
        os.mkfifo(shared / name)
    else:
        (shared / name).mkdir()
    with pytest.raises(UserError, match="is not a file"):
        use(shared / name)


@pytest.mark.parametrize(("name", "use"), WRITTEN)
def test_a_second_name_of_a_file_is_not_written_through(shared: Path, name: str, use: Callable[[Path], None]) -> None:
    """Guard 1: a hard link reaches its target as a symbolic one does."""
    target = shared.parent / "letter.txt"
    target.write_text("dear reader")
    os.link(target, shared / name)
    with pytest.raises(UserError, match="second name"):
        use(shared / name)
    assert target.read_text() == "dear reader"


@pytest.mark.parametrize(("name", "use"), LOCKS)
def test_a_lock_keeps_what_is_in_it(shared: Path, name: str, use: Callable[[Path], None]) -> None:
    """Guard 1: nothing is emptied by being locked; the store's lock says who holds it."""
    (shared / name).write_text("a note of yesterday")
    use(shared / name)
    left = (shared / name).read_text()
    assert left == (f"process {os.getpid()}" if use is asked else "a note of yesterday")


def test_a_lock_that_others_made_can_be_held(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a home that several share, the lock belongs to whoever came first; reading it is enough to hold it."""
    path = shared / "any.lock"
    path.touch()
    opened: list[int] = []
    plain = os.open

    def refused(name: Path, flags: int, mode: int = 0o777) -> int:
        opened.append(flags & os.O_ACCMODE)
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(name))
        return plain(name, flags, mode)

    monkeypatch.setattr(os, "open", refused)
    with lock(path, "held"):
        assert opened == [os.O_RDWR, os.O_RDONLY]
    with pytest.raises(PermissionError):
        open_own(path, append=True)


def _hold(path: Path, ready: object, done: object) -> None:
    with lock_at_once(path):
        ready.set()  # type: ignore[attr-defined]
        done.wait(10)  # type: ignore[attr-defined]


def test_one_of_two_processes_holds_a_lock(shared: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()
    process = fork.Process(target=_hold, args=(shared / "any.lock", ready, done))
    process.start()
    try:
        assert ready.wait(10)
        with lock_at_once(shared / "any.lock") as free:
            assert not free
    finally:
        done.set()
        process.join(10)
    with lock_at_once(shared / "any.lock") as free:
        assert free


def test_a_temporary_name_cannot_be_guessed(shared: Path) -> None:
    """Guard 1: a link under the name of a process's next temporary file would be written through."""
    names = {temporary_beside(shared / "metrics.json").name for _ in range(100)}
    assert len(names) == 100
    assert not any(str(os.getpid()) == part for name in names for part in name.split("."))
    target = shared / "letter.txt"
    target.write_text("dear reader")
    for name in ("metrics.json", "resume.ckpt"):
        (shared / f".{name}.{os.getpid()}.tmp").symlink_to(target)
    write_json(shared / "metrics.json", {"a": 1})
    AtomicCheckpointIO().save_checkpoint({"weight": 1}, shared / "resume.ckpt")
    assert target.read_text() == "dear reader"


def test_a_longest_name_has_room_for_its_temporary_file(shared: Path) -> None:
    path = shared / ("n" * 255)
    with atomic_path(path) as temporary:
        temporary.write_text("content")
    assert path.read_text() == "content"


@pytest.mark.parametrize("name", [f"{KEY}.seconds", "job.sbatch"])
def test_a_note_replaces_a_link_and_leaves_its_target(shared: Path, name: str) -> None:
    """Guard 1: notes that are written anew each time stand under the name afterwards, and not behind it."""
    target = shared / "letter.txt"
    target.write_text("dear reader")
    (shared / name).symlink_to(target)
    if name.endswith("seconds"):
        Stopwatch(shared / name, shared)
    else:
        replace_text(shared / name, "content")
    assert target.read_text() == "dear reader"
    assert not (shared / name).is_symlink() and (shared / name).is_file()


def test_uses_are_not_written_through_a_link(shared: Path) -> None:
    """Guard 1: the list of runs that use an artifact."""
    target = shared / "letter.txt"
    target.write_text("dear reader")
    (shared / f"{KEY}.runs").symlink_to(target)
    with suppress(UserError):
        ArtifactStore(shared.parent.parent).note_use("kind", KEY, shared)
    assert target.read_text() == "dear reader"


@pytest.mark.parametrize("odd", ["link", "file", "dangling"])
def test_what_is_not_a_folder_gives_way_to_one(shared: Path, odd: str) -> None:
    elsewhere = shared / "elsewhere"
    elsewhere.mkdir()
    path = shared / "work"
    if odd == "file":
        path.write_text("x")
    else:
        path.symlink_to(elsewhere if odd == "link" else shared / "absent")
    assert make_folder(path)
    (path / "data").write_text("content")
    assert not list(elsewhere.iterdir()) and not (shared / "absent").exists()
    assert not make_folder(path) and (path / "data").is_file()


def hung(seconds: int) -> None:
    """Ends a test that waits for a pipe."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for a pipe"))
    signal.alarm(seconds)


@pytest.mark.parametrize("odd", ["pipe", "link", "large"])
def test_a_note_that_is_not_one_is_neither_waited_for_nor_followed(shared: Path, odd: str) -> None:
    """Guard 1: the notes of a build and of its uses are small files, or nothing is read of them."""
    store = ArtifactStore(shared.parent.parent)
    for path in (shared / f"{KEY}.seconds", shared / f"{KEY}.runs"):
        if odd == "pipe":
            os.mkfifo(path)
        elif odd == "link":
            path.symlink_to("/dev/zero")
        else:
            path.write_bytes(b"0\n" * (9 << 20))
    hung(20)
    try:
        with console.capture() as captured:
            assert store.runs_of("kind", KEY) is None
        assert f"{KEY}.runs" in captured.get() and captured.get().count("remove it") == 1
        artifact = store.get("kind", KEY, lambda folder: (folder / "data").write_text("content") and None, {})
        assert artifact.seconds < 20 and not (shared / f"{KEY}.seconds").exists()
        if odd != "large":
            with pytest.raises(UserError, match=r"\.runs is (a link|not a file)"):
                store.note_use("kind", KEY, shared)
    finally:
        signal.alarm(0)


def test_a_small_file_of_ours_is_read_as_it_is(shared: Path) -> None:
    path = shared / "note"
    path.write_text('{"a": 1}')
    assert read_own(path) == b'{"a": 1}' and read_own_json(path) == {"a": 1}
    with pytest.raises(UserError, match="more than 4 bytes"):
        read_own(path, 4)
    with pytest.raises(FileNotFoundError):
        read_own(shared / "absent")
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match="deeper"):
        read_own_json(path)


def test_a_store_of_answers_with_a_second_name_is_not_written_to(shared: Path) -> None:
    """Guard 1: a copy of the home by hard links would get answers that were never asked for in it."""
    path = shared / "answers.sqlite"
    AnswerStore(path).close()
    os.link(path, shared / "copy.sqlite")
    with AnswerStore(path) as store, pytest.raises(UserError, match=r"has a second name.*mv "), store.asking():
        pass
    (shared / "copy.sqlite").unlink()
    with AnswerStore(path) as store, store.asking():
        pass
