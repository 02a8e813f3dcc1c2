"""Files that dig keeps under names that others can guess, in folders that others may write to: locks, notes, logs.

Such a name may have become a link meanwhile, or a pipe. So it is opened without following links and without emptying
anything, and new content appears under it by a rename. What another process holds is waited for: logged, for a bounded
time, and ended by a signal at once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dig.config.errors import UserError
from dig.engine.console import say

__all__ = [
    "wait_for_lock",
    "atomic_path",
    "flush_to_disk",
    "lock",
    "lock_at_once",
    "make_folder",
    "open_own",
    "read_own",
    "read_own_json",
    "replace_text",
    "temporary_beside",
    "text_path",
    "widen_modes",
]


_LOOK = 0.2
"""Seconds between two looks at a lock; the system's own wait would have no end."""
_TELL = 600.0
"""Seconds between two lines of one that waits."""
_HOURS = 24.0


def wait_for_lock(stream: IO[Any], held: str, seconds: float | None = None) -> None:
    """Takes the lock of an open file, which holds it until it is closed.

    Args:
        stream: the file.
        held: what is said before waiting: what is held, and by whom.
        seconds: to wait at most; None takes the environment's ``DIG_LOCK_HOURS``, or a day.

    Raises:
        UserError: it was held for as long as that.
    """
    if _taken(stream):
        return
    limit = _limit() if seconds is None else seconds
    begun = last_message = time.monotonic()
    say(f"{held}; waiting for it, {_words(limit)} at most")
    while not _taken(stream):
        now = time.monotonic()
        if now - begun >= limit:
            raise UserError(
                f"{held}, for {_words(limit)}; the same command resumes once it has ended, and "
                "DIG_LOCK_HOURS sets how long to wait"
            )
        if now - last_message >= _TELL:
            last_message = now
            say(f"{held}; waiting for {_words(now - begun)}")
        time.sleep(min(_LOOK, max(limit - (now - begun), 0.01)))


def _taken(stream: IO[Any]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _limit() -> float:
    text = os.environ.get("DIG_LOCK_HOURS", "").strip()
    try:
        hours = float(text) if text else _HOURS
    except ValueError:
        hours = -1.0
    if not 0 < hours < 1e5:
        raise UserError(f"DIG_LOCK_HOURS={text} is not a number of hours above 0", exit_code=2)
    return hours * 3600


def _words(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


_READ = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FLAGS = _READ | os.O_CREAT
_NOTE_BYTES = 16 << 20
"""Bytes of a note of ours at most: the longest lists the runs that use an artifact, a hundred bytes each."""


def open_own(path: Path, append: bool = False) -> IO[bytes]:
    """Opens a file of ours as it is, made if it is not there: no link is followed, nothing is emptied.

    Args:
        path: the file.
        append: open it for writing at its end; else what others have made and we may only read is opened, too, which
            is enough to lock it.

    Raises:
        UserError: it is a link or not a regular file, or is to be written and also has another name.
        OSError: the file system refuses it.
    """
    access = os.O_RDWR | (os.O_APPEND if append else 0)
    try:
        try:
            number = os.open(path, _FLAGS | access, 0o666)
        except OSError as error:
            if append or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            number = os.open(path, _FLAGS | os.O_RDONLY, 0o666)
    except OSError as error:
        raise _odd(path, error) from None
    status = os.fstat(number)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is not a file"
    elif append and status.st_nlink > 1:
        problem = "has a second name, so that writing to it would change another file"
    if problem:
        os.close(number)
        raise _refused(path, problem)
    os.set_blocking(number, True)
    return os.fdopen(number, "a+b" if append else "rb", buffering=0)


def widen_modes(folder: Path, files: Iterable[Path]) -> None:
    """Gives files the mode that any new file gets, where a library has written them for their owner alone.

    Args:
        folder: where a file can be made, by which the process's mask is seen without changing it.
        files: the files; one that grants more keeps that.
    """
    probe = temporary_beside(folder / "mode")
    probe.touch()
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode | usual != mode:
            path.chmod(mode | usual)


def read_own(path: Path, most: int = _NOTE_BYTES) -> bytes:
    """The content of a small file of ours: no link is followed, and a pipe or a device is not waited for.

    Args:
        path: the file.
        most: bytes that it can have.

    Raises:
        UserError: it is a link, not a regular file, or larger.
        OSError: it is not there, or the file system refuses it.
    """
    try:
        number = os.open(path, _READ | os.O_RDONLY)
    except OSError as error:
        raise _odd(path, error) from None
    with os.fdopen(number, "rb") as stream:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _refused(path, "is not a file")
        content = stream.read(most + 1)
    if len(content) > most:
        raise _refused(path, f"has more than {most:,} bytes, too much for a note of dig's")
    return content


def read_own_json(path: Path) -> Any:
    """JSON in a small file of ours.

    Raises:
        UserError: as :func:`read_own`.
        OSError: as :func:`read_own`.
        ValueError: it is not JSON.
    """
    try:
        return json.loads(read_own(path))
    except RecursionError:
        raise ValueError("it is deeper than Python reads") from None


def _odd(path: Path, error: OSError) -> UserError | OSError:
    """What cannot be opened because of what it is; else the error itself."""
    if error.errno == errno.ELOOP or path.is_symlink():
        return _refused(path, "is a link, which dig neither follows nor writes through")
    return _refused(path, "is not a file") if error.errno in (errno.EISDIR, errno.ENXIO) else error


def _refused(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}; remove it, and the same command makes it anew")


@contextmanager
def lock(path: Path, held: str) -> Iterator[None]:
    """Holds a file lock, so that of two processes with the same work one works and one waits.

    Args:
        path: the lock's file, which stays.
        held: what is said before waiting.

    Raises:
        UserError: there is something else than a lock's file under that name, or the other process took longer than
            :func:`dig.engine.own_files.wait_for_lock` waits.
    """
    with open_own(path) as stream:
        wait_for_lock(stream, held)
        yield  # the lock file stays: to remove it would let a third process lock another file of the same name


@contextmanager
def lock_at_once(path: Path) -> Iterator[bool]:
    """Holds a file lock, or says that somebody else does; the file stays.

    Raises:
        UserError: as of :func:`lock`.
    """
    with open_own(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that nobody can guess, for what is renamed to ``path`` when it is complete."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; flushed to disk and renamed to it when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # what ended the block is told, not that its rest cannot be removed
            temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Puts a text under a name, whatever was there; a link is replaced, not followed."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def make_folder(path: Path) -> bool:
    """Makes a folder of ours; what stands under its name and is not one, or is a link, gives way.

    Returns:
        Whether something had to give way.
    """
    odd = path.is_symlink() or (path.exists() and not path.is_dir())
    if odd:
        path.unlink()
    path.mkdir(parents=True, exist_ok=True)
    return odd


def text_path(path: Path, advice: str) -> Path:
    """The path, whose name is text: polars takes no other, and says so in words that nobody can act on.

    Raises:
        UserError: it is not UTF-8; exit code 2.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise UserError(f"{shown}: the name of this folder is not UTF-8; {advice}", exit_code=2) from None
    return path
