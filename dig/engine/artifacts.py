"""Fingerprinted, atomic, verified folders on disk: the one place that caches work and lets it resume.

An artifact is a folder ``<DIG_HOME>/artifacts/<stage>/<fingerprint>`` with a manifest of sizes and hashes. It is built
in ``<fingerprint>.work`` beside it, which survives a kill (training stages keep their checkpoints there), and appears
under its final name by one rename. What does not match its manifest is rebuilt.
"""

from __future__ import annotations

import errno
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
from dig.engine.console import warn
from dig.engine.manifest import MANIFEST, DamagedError, Stopwatch, hash_file, read_manifest
from dig.engine.own_files import (
    atomic_path,
    flush_to_disk,
    lock,
    make_folder,
    open_own,
    read_own,
    replace_text,
    text_path,
    widen_modes,
)

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

SCRATCH = "scratch"
"""Subfolder of a work folder for what only an interrupted build needs, such as checkpoints; dropped at the end."""


def fingerprint(content: Any) -> str:
    """A short stable hash of plain containers (dicts, lists, strings, numbers, None)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def disk_full(error: BaseException) -> bool:
    """Whether an exception says that there is no space left (or no quota); polars says so in words alone."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers):
        return True
    # A header of Parquet that could not be written whole; what cannot be read has other words.
    return type(error).__module__.startswith("polars") and "Invalid thrift: transport error" in str(error)


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
    """Reads JSON of our own; :mod:`dig.received` reads what may come from others.

    Raises:
        ValueError: it is not JSON, or deeper than Python reads.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is deeper than Python reads") from None


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

    Raises:
        UserError: its name is not text, which tables could not be written below.
    """

    def __init__(self, root: Path | None = None) -> None:
        home = (root or Path(os.environ.get("DIG_HOME", ".dig"))).absolute()
        self.root = text_path(home, "DIG_HOME names another") / "artifacts"

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact if it is there and undamaged, else None; a damaged one is moved out of the way, and said."""
        path = self.root / kind / key
        if not os.path.lexists(path):
            return None
        try:
            manifest = read_manifest(path, key)
            problem = manifest.damage()
        except DamagedError as error:
            problem = str(error)
        if problem is None:
            return Artifact(path, key, manifest.seconds)
        warn(f"{kind}: artifact {shown_path(path)} is damaged ({problem}); it is rebuilt")
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)
        return None

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
        artifact = self.find(kind, key)
        if artifact is not None:
            return artifact
        work = self.work_folder(kind, key)
        work.parent.mkdir(parents=True, exist_ok=True)
        with lock(work.with_suffix(".lock"), f"{kind}: another process is building the same artifact"):
            artifact = self.find(kind, key)  # another process may have built it while this one waited
            if artifact is not None:
                with suppress(OSError):
                    work.rmdir()
                return artifact
            _prepare_work(work, kind)
            try:
                watch = Stopwatch(work.with_suffix(".seconds"), work)
                with _in_place(work, kind):
                    build(work)
                seconds = watch.seconds()
                _seal(work, key, seconds, origin)
            except Exception as error:
                if disk_full(error):
                    raise UserError(
                        f"{kind}: no space left on the disk of {shown_path(work)}; free some, then the "
                        "same command resumes from here"
                    ) from error
                raise
            work.rename(self.root / kind / key)
            watch.forget()
            shutil.rmtree(self.root / kind / key / SCRATCH, ignore_errors=True)
        return Artifact(self.root / kind / key, key, seconds, cached=False)

    def built(self, kind: str, key: str) -> Artifact:
        """An artifact that another rank has just found or built."""
        return Artifact(self.root / kind / key, key, 0.0)

    def note_use(self, kind: str, key: str, run: Path) -> None:
        """Writes down that a run uses an artifact, so that :mod:`dig.engine.pruning` knows whether any does."""
        note = self.root / kind / f"{key}.runs"
        with suppress(OSError):  # a folder that cannot be written to is told by who needs it
            note.parent.mkdir(parents=True, exist_ok=True)
            if note.is_file() and not note.is_symlink() and note.stat().st_nlink > 1:  # of a copy of hard links
                replace_text(note, read_own(note).decode(errors="replace"))
            if run not in (self.runs_of(kind, key) or []):
                with open_own(note, append=True) as stream:
                    stream.write(f"{run}\n".encode())

    def runs_of(self, kind: str, key: str) -> list[Path] | None:
        """Folders of the runs that have used an artifact; None where nobody wrote them down."""
        try:
            lines = read_own(self.root / kind / f"{key}.runs").decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        except UserError as error:
            warn(f"{error}; until then nobody knows which runs use the artifact")
            return None
        return [Path(line) for line in lines if line]

    def word_file(self, kind: str, key: str) -> Path:
        """Where rank 0 tells the other ranks of its launch what it found, see :mod:`dig.engine.ranks`."""
        return self.root / kind / f"{key}.ranks"


def _prepare_work(work: Path, kind: str) -> None:
    """A folder to build in: what an interrupted build left there stays, links that lead out of it do not.

    A file with a second name, as copies of hard links have, becomes a file of its own before anything writes to it.
    """
    odd = make_folder(work)
    strange = [path for path in work.rglob("*") if not (path.is_symlink() or path.is_dir() or path.is_file())]
    strange += [path for path in work.rglob("*") if path.is_symlink()]
    for path in strange:
        path.unlink()
    if (work / MANIFEST).is_dir():  # the manifest comes last, under this name
        shutil.rmtree(work / MANIFEST)
        strange.append(work / MANIFEST)
    if odd or strange:
        warn(f"{kind}: {shown_path(strange[0] if strange else work)} was not what a build leaves; it was removed")
    for path in work.rglob("*"):
        if path.is_file() and path.stat().st_nlink > 1:
            with atomic_path(path) as own:
                shutil.copy2(path, own)


@contextmanager
def _in_place(work: Path, kind: str) -> Iterator[None]:
    """A folder that is removed meanwhile, and made again by the next file, lacks what was written before."""
    number = os.open(work, os.O_RDONLY | os.O_DIRECTORY)  # no other folder gets its inode while it is open
    try:
        yield
        if not work.is_dir() or not os.path.samestat(os.fstat(number), work.stat()):
            raise UserError(
                f"{kind}: {shown_path(work)} was removed while it was built; the same command builds it again"
            )
    finally:
        os.close(number)


def _seal(work: Path, key: str, seconds: float, origin: dict[str, Any]) -> None:
    files = {}
    sealed = (path for path in work.rglob("*") if path.is_file() and path.relative_to(work).parts[0] != SCRATCH)
    paths = sorted(path for path in sealed if path != work / MANIFEST)
    widen_modes(work, paths)  # safetensors writes for the owner alone, and artifacts are shared
    for path in paths:
        flush_to_disk(path)
        files[path.relative_to(work).as_posix()] = {"size": path.stat().st_size, "sha256": hash_file(path)}
    if not files:
        raise AssertionError(f"the build of {work} left no file")
    manifest = {"fingerprint": key, "seconds": round(seconds, 3), "origin": origin, "files": files}
    write_json(work / MANIFEST, manifest)


def shown_path(path: Path) -> str:
    """A path as people read it: from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
