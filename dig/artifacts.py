"""Fingerprinted, atomic, verified folders on disk: the one place that caches work and lets it resume.

An artifact is a folder ``<DIG_HOME>/artifacts/<stage>/<fingerprint>`` with a manifest of sizes and hashes. It is built
in ``<fingerprint>.work`` beside it, which survives a kill (training stages keep their checkpoints there), and appears
under its final name by one rename. What does not match its manifest is rebuilt.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig.config import UserError
from dig.console import say, warn
from dig.stopwatch import Stopwatch

__all__ = [
    "MANIFEST",
    "SCRATCH",
    "Artifact",
    "ArtifactStore",
    "atomic_path",
    "disk_full",
    "fingerprint",
    "hash_file",
    "link_or_copy",
    "lock",
    "read_json",
    "shown_path",
    "write_json",
]

MANIFEST = "manifest.json"
SCRATCH = "scratch"
"""Subfolder of a work folder for what only an interrupted build needs, such as checkpoints; dropped at the end."""


def fingerprint(content: Any) -> str:
    """A short stable hash of plain containers (dicts, lists, strings, numbers, None)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def disk_full(error: BaseException) -> bool:
    """Whether an exception says that there is no space left (or no quota); polars says so in words alone."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers):
        return True
    # A header of Parquet that could not be written whole; what cannot be read has other words.
    return type(error).__module__.startswith("polars") and "Invalid thrift: transport error" in str(error)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; flushed to disk and renamed to it when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Puts a file that never changes under another name: a hard link where the file system allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Artifact:
    """A finished folder.

    Attributes:
        path: the folder.
        fingerprint: what it was made from.
        seconds: time that building it took, interrupted attempts included.
        cached: whether it was there already.
    """

    path: Path
    fingerprint: str
    seconds: float
    cached: bool = True


class ArtifactStore:
    """Finds or builds artifacts under a root folder.

    Args:
        root: the folder; unset takes ``DIG_HOME``, or ``.dig`` in the current folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or Path(os.environ.get("DIG_HOME", ".dig"))).absolute() / "artifacts"

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact if it is there and undamaged, else None; a damaged one is moved out of the way, and said."""
        path = self.root / kind / key
        if not path.is_dir():
            return None
        problem = _damage(path)
        if problem is not None:
            warn(f"{kind}: artifact {shown_path(path)} is damaged ({problem}); it is rebuilt")
            shutil.rmtree(path)
            return None
        manifest = read_json(path / MANIFEST)
        return Artifact(path, key, float(manifest["seconds"]))

    def exists(self, kind: str, key: str) -> bool:
        """Whether the artifact's folder is there, without verifying it (cheap, changes nothing)."""
        return (self.root / kind / key / MANIFEST).is_file()

    def work_folder(self, kind: str, key: str) -> Path:
        """Where the artifact is built; it survives a kill."""
        return self.root / kind / f"{key}.work"

    def get(self, kind: str, key: str, build: Callable[[Path], None], origin: dict[str, Any]) -> Artifact:
        """The artifact, built when it is not there.

        Args:
            kind: usually the stage.
            key: its fingerprint.
            build: fills the work folder. What it finds there was left by an interrupted build of the same key.
            origin: what the fingerprint was computed from, kept in the manifest for people.

        Raises:
            UserError: when the disk is full; what was built so far stays.
        """
        found = self.find(kind, key)
        if found is not None:
            return found
        work = self.work_folder(kind, key)
        work.mkdir(parents=True, exist_ok=True)
        with lock(work.with_suffix(".lock"), f"{kind}: another process is building the same artifact"):
            found = self.find(kind, key)  # another process may have built it while this one waited
            if found is not None:
                with suppress(OSError):
                    work.rmdir()
                return found
            work.mkdir(parents=True, exist_ok=True)
            try:
                watch = Stopwatch(work.with_suffix(".seconds"), work)
                build(work)
                seconds = watch.seconds()
                _seal(work, key, seconds, origin)
            except Exception as error:
                if disk_full(error):
                    raise UserError(f"{kind}: no space left on the disk of {shown_path(work)}; free some, then the "
                                    "same command goes on from here") from error  # fmt: skip
                raise
            work.rename(self.root / kind / key)
            watch.forget()
            shutil.rmtree(self.root / kind / key / SCRATCH, ignore_errors=True)
        return Artifact(self.root / kind / key, key, seconds, cached=False)

    def built(self, kind: str, key: str) -> Artifact:
        """An artifact that another rank has just found or built."""
        return Artifact(self.root / kind / key, key, 0.0)

    def note_use(self, kind: str, key: str, run: Path) -> None:
        """Writes down that a run uses an artifact, so that :mod:`dig.pruning` knows whether any does."""
        known = self.runs_of(kind, key) or []
        if run not in known:
            with suppress(OSError):  # a folder that cannot be written to is told by who needs it
                (self.root / kind).mkdir(parents=True, exist_ok=True)
                with (self.root / kind / f"{key}.runs").open("a", encoding="utf-8") as stream:
                    stream.write(f"{run}\n")

    def runs_of(self, kind: str, key: str) -> list[Path] | None:
        """Folders of the runs that have used an artifact; None where nobody wrote them down."""
        try:
            lines = (self.root / kind / f"{key}.runs").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        return [Path(line) for line in lines if line]

    def word_file(self, kind: str, key: str) -> Path:
        """Where rank 0 tells the other ranks of its launch what it found, see :mod:`dig.ranks`."""
        return self.root / kind / f"{key}.ranks"


def _seal(work: Path, key: str, seconds: float, origin: dict[str, Any]) -> None:
    files = {}
    kept = (path for path in work.rglob("*") if path.is_file() and path.relative_to(work).parts[0] != SCRATCH)
    for path in sorted(path for path in kept if path != work / MANIFEST):
        _flush(path)
        files[path.relative_to(work).as_posix()] = {"size": path.stat().st_size, "sha256": hash_file(path)}
    manifest = {"fingerprint": key, "seconds": round(seconds, 3), "origin": origin, "files": files}
    write_json(work / MANIFEST, manifest)


def _damage(path: Path) -> str | None:
    """What is wrong with an artifact, or None."""
    try:
        files = read_json(path / MANIFEST)["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST}: {type(error).__name__}"
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
        if hash_file(file) != expected["sha256"]:
            return f"{name} has another content"
    return None


@contextmanager
def lock(path: Path, held: str) -> Iterator[None]:
    """Holds a file lock, so that of two processes with the same work one works and one waits.

    Args:
        path: the lock's file, which stays.
        held: what is said before waiting.
    """
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{held}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # the lock file stays: to remove it would let a third process lock another file of the same name


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def shown_path(path: Path) -> str:
    """A path as people read it: from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
