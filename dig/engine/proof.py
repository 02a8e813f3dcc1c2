"""A run folder proves itself: what it was when the report left it, and whether it still is.

``manifest.json`` is written last. It holds size and SHA-256 of each file that answers and numbers are computed from,
and the fingerprint of the catalogue. Whoever reads such a file asks here first; only what is read is hashed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dig.config.errors import UserError
from dig.engine.artifacts import fingerprint, write_json
from dig.engine.catalogue import Catalogue, table_stamp
from dig.engine.console import messages_to_stderr, warn
from dig.engine.manifest import MANIFEST, DamagedError, FileEntry, Manifest, read_manifest

__all__ = ["RunProof", "write_proof"]

_AGAIN = "the same dig.train command writes it again"
_VERSION = 1
_verified: dict[tuple[Path, str], tuple[int, ...]] = {}
"""What this process has hashed, with the file's state at that time."""
_told: set[Path] = set()


def write_proof(run: Path, files: Mapping[str, FileEntry], catalogue: Catalogue) -> None:
    """Writes a run's manifest, the last thing that a report does.

    Args:
        run: the folder.
        files: size and hash of each file by its name, relative to the folder.
        catalogue: by which its tables and models count.
    """
    content: dict[str, Any] = {
        "version": _VERSION,
        "catalogue": catalogue._asdict(),
        "files": dict(sorted(files.items())),
    }
    write_json(run / MANIFEST, content | {"fingerprint": fingerprint(content)})


class RunProof:
    """What a run's manifest says of its files.

    Args:
        run: the folder. One of an earlier version has no manifest: that is said once, and its files are taken as they
            stand.

    Attributes:
        catalogue: by which its tables and models count; None where nothing tells it.

    Raises:
        UserError: the manifest is damaged.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._manifest: Manifest | None = None
        self.catalogue: Catalogue | None = None
        if not os.path.lexists(run / MANIFEST):
            self._tell_missing()
            return
        try:
            self._manifest = read_manifest(run)
            content = dict(self._manifest.content)
            if content.pop("fingerprint", None) != fingerprint(content):
                raise DamagedError(f"{MANIFEST} has another content")
            if content.get("version") != _VERSION:
                raise DamagedError(_told_version(content.get("version")))
            self.catalogue = _catalogue(content.get("catalogue"))
        except DamagedError as error:
            raise UserError(f"{run}: {error}; {_AGAIN}") from None

    def require(self, *names: str) -> None:
        """Files and folders of the run are those that were written; a folder has these files and no others.

        What neither the manifest nor the folder has is not for this to judge.

        Raises:
            UserError: one is missing, cut, changed or from elsewhere.
        """
        self._hash(self._listed(names))

    def require_present(self, *names: str) -> None:
        """What was written is there, with its size: what may be absent in other runs does not go unnoticed in this one.

        Raises:
            UserError: as :meth:`require`.
        """
        self._listed(names)

    @contextmanager
    def checking(self, *names: str) -> Iterator[None]:
        """The same beside whatever the block does with these files: sizes before it, hashes in a thread.

        What is wrong with a file is told in place of what the block stumbled over because of that.

        Raises:
            UserError: as :meth:`require`.
        """
        files = self._listed(names)
        refused: list[Exception] = []

        def hash_all() -> None:
            try:
                self._hash(files)
            except Exception as error:
                refused.append(error)

        thread = threading.Thread(target=hash_all, daemon=True, name="proof")
        thread.start()
        try:
            yield
        except Exception:
            thread.join()
            if refused:
                raise refused[0] from None
            raise
        thread.join()
        if refused:
            raise refused[0]

    def require_catalogue(self, ours: Catalogue, name: str) -> None:
        """What a table's ids are is the catalogue of the run.

        Raises:
            UserError: they are not.
        """
        run, path = self.catalogue, self.run / name
        if run is not None and ours != run:
            raise UserError(
                f"{path} has {ours.items:,} items that are not, in this order, the {run.items:,} of the run; {_AGAIN}"
            )
        if ours.problem(table_stamp(path)):
            raise UserError(f"{path} has another order of items than it was written with; {_AGAIN}")

    def _listed(self, names: Sequence[str]) -> list[str]:
        """The files among and below some names, each there with the right size."""
        manifest = self._manifest
        if manifest is None:
            return []
        names_listed = []
        for name in names:
            below = [file for file in manifest.files if file == name or file.startswith(f"{name}/")]
            strangers = sorted(set(self._on_disk(name)) - set(below))
            if strangers:
                raise UserError(
                    f"{self.run / strangers[0]} is not one of the files that {self.run / MANIFEST} lists, "
                    f"so it is not of this run; remove it, or {_AGAIN}"
                )
            names_listed += below
        for file in names_listed:
            self._refuse(manifest.size_damage(file))
        return names_listed

    def _on_disk(self, name: str) -> list[str]:
        """Files of that name or below it; hidden ones are those of desktops and file systems."""
        path = self.run / name
        if not path.is_dir():
            return [name] if path.exists() or path.is_symlink() else []
        files = (file.relative_to(self.run) for file in path.rglob("*") if not file.is_dir())
        return [file.as_posix() for file in files if not file.name.startswith(".")]

    def _hash(self, names: Sequence[str]) -> None:
        if self._manifest is None:
            return
        for name in names:
            path, digest = self.run / name, self._manifest.files[name]["sha256"]
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
            if _verified.get((path, digest)) == state:
                continue
            self._refuse(self._manifest.file_damage(name))
            _verified[path, digest] = state

    def _refuse(self, problem: str | None) -> None:
        if problem is not None:
            raise UserError(f"{self.run}/{problem}: it is not the file that {MANIFEST} lists; {_AGAIN}")

    def _tell_missing(self) -> None:
        place = self.run.resolve()
        if place not in _told:
            _told.add(place)
            with messages_to_stderr():  # the standard output may be a table for a program
                warn(
                    f"{self.run} has no {MANIFEST}: an earlier version of dig wrote it, or it was not finished; its "
                    "files are taken as they stand, and the same dig.train command writes one"
                )


def _told_version(version: Any) -> str:
    later = isinstance(version, int) and version > _VERSION
    return f"{MANIFEST} was written by a later version of dig" if later else f"{MANIFEST} does not tell its version"


def _catalogue(content: Any) -> Catalogue:
    items, digest = (content.get("items"), content.get("fingerprint")) if isinstance(content, dict) else (None, None)
    if isinstance(items, bool) or not isinstance(items, int) or not isinstance(digest, str) or not 0 <= items < 2**63:
        raise DamagedError(f"{MANIFEST} does not tell the catalogue")
    return Catalogue(items, digest)
