"""Manifests: what the files of a folder are, by size and SHA-256, and whether they still are that.

A manifest tells damage and mix-ups, not who wrote it: whoever may write the folder may also write a manifest that fits.
It is read as everything that others may have written: bounded in size, every value of its type.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dig.config.errors import UserError
from dig.engine.console import warn
from dig.engine.own_files import read_own_json, replace_text

__all__ = [
    "MANIFEST",
    "DamagedError",
    "FileEntry",
    "Manifest",
    "hash_file",
    "read_manifest",
    "Stopwatch",
]


MANIFEST = "manifest.json"
_LARGEST = 2**26
"""Bytes of a manifest; one of a hundred thousand files has a fifth of it."""
_LONGEST_SHOWN = 120
_LONGEST_TIME = 1e12
"""Seconds that nobody has waited for; a whole number of 400 digits is not a float any more."""
_HEX = frozenset("0123456789abcdef")


class DamagedError(Exception):
    """A folder or its manifest is not what was written; the message says how."""


class FileEntry(dict[str, Any]):
    """``size`` in bytes and ``sha256`` of a file, as JSON holds them."""

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """Of a file on disk."""
        return cls(size=path.stat().st_size, sha256=hash_file(path))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a folder's manifest says.

    Attributes:
        folder: the folder.
        files: size and hash by name, with slashes, relative to the folder.
        content: everything that it says.
    """

    folder: Path
    files: Mapping[str, FileEntry]
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time that building the folder took."""
        return float(self.content.get("seconds", 0.0))

    def damage(self, names: Iterable[str] | None = None) -> str | None:
        """What is wrong with files, all of them or those named, in the order of the manifest; None if nothing is."""
        file_names = self.files if names is None else names
        return next((problem for name in file_names if (problem := self.file_damage(name)) is not None), None)

    def file_damage(self, name: str) -> str | None:
        """What is wrong with one file that the manifest lists; None if nothing is."""
        problem = self.size_damage(name)
        try:
            if problem is None and hash_file(self.folder / name) != self.files[name]["sha256"]:
                return f"{_shown(name)} has another content"
        except OSError as error:
            return f"{_shown(name)} cannot be read ({error.strerror or type(error).__name__})"
        return problem

    def size_damage(self, name: str) -> str | None:
        """The same by looking at its size alone."""
        try:
            status = (self.folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"{_shown(name)} is missing"
        except (OSError, ValueError) as error:  # too long, a loop of links, a name that no file system has
            return f"{_shown(name)} cannot be looked at ({getattr(error, 'strerror', None) or type(error).__name__})"
        if not stat.S_ISREG(status.st_mode):
            return f"{_shown(name)} is not a file"
        if status.st_size != self.files[name]["size"]:
            return f"{_shown(name)} has {status.st_size} bytes instead of {self.files[name]['size']}"
        return None


def read_manifest(folder: Path, fingerprint: str | None = None) -> Manifest:
    """The manifest of a folder.

    Args:
        folder: the folder.
        fingerprint: what it must say that it was made from; None asks for nothing.

    Raises:
        DamagedError: the folder is not one, or the manifest is missing, damaged, or of something else.
    """
    if not folder.is_dir():
        raise DamagedError("it is not a folder")
    content = _content(folder / MANIFEST)
    files = content.get("files")
    if not isinstance(files, dict) or not files:
        raise DamagedError(f"{MANIFEST} lists no files")
    entries = {name: _entry(name, entry) for name, entry in files.items()}
    seconds = content.get("seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < _LONGEST_TIME:
        raise DamagedError(f"{MANIFEST}: seconds is not a number of seconds")
    if fingerprint is not None and content.get("fingerprint") != fingerprint:
        raise DamagedError(f"{MANIFEST} is of another artifact")
    return Manifest(folder, entries, content)


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) <= _LONGEST_SHOWN else ascii(name[:_LONGEST_SHOWN])


def _content(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise DamagedError(f"{MANIFEST} is {'not a file' if path.exists() else 'missing'}")
        if path.stat().st_size > _LARGEST:
            raise DamagedError(f"{MANIFEST} is larger than {_LARGEST:,} bytes")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{MANIFEST}: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{MANIFEST} holds a {type(content).__name__} instead of names and values")
    return content


def _entry(name: str, entry: Any) -> FileEntry:
    parts = PurePosixPath(name).parts
    if not name or "\0" in name or name.startswith("/") or ".." in parts or "/".join(parts) != name:
        raise DamagedError(f"{MANIFEST} names {name[:80]!r}, which is not a file of the folder")
    size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise DamagedError(f"{MANIFEST} has no size of {name[:80]!r}")
    if not isinstance(digest, str) or len(digest) != 64 or not _HEX.issuperset(digest):
        raise DamagedError(f"{MANIFEST} has no SHA-256 of {name[:80]!r}")
    return FileEntry(size=size, sha256=digest)


class Stopwatch:
    """Runs from its making on, and counts what earlier attempts took, each until the last file that it wrote.

    Args:
        file: where it notes when an attempt began, until :meth:`forget`.
        work: the folder that all attempts write.
    """

    def __init__(self, file: Path, work: Path) -> None:
        self._file = file
        self._before = _earlier(file, work)
        if file.is_dir() and not file.is_symlink():  # nothing could be renamed to it
            shutil.rmtree(file)
            warn(f"{file} was not what a build leaves; it was removed")
        self._started = time.perf_counter()
        replace_text(file, json.dumps({"seconds": self._before, "since": time.time()}))

    def seconds(self) -> float:
        """Of all attempts together."""
        return self._before + time.perf_counter() - self._started

    def forget(self) -> None:
        """The next watch starts at 0."""
        self._file.unlink(missing_ok=True)


def _earlier(file: Path, work: Path) -> float:
    """What attempts took whose files are still there; nothing where none is, or the note cannot be read."""
    try:
        noted = read_own_json(file)
        written = max(path.lstat().st_mtime for path in work.rglob("*"))
        return float(noted["seconds"]) + max(written - float(noted["since"]), 0.0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, UserError):
        return 0.0
