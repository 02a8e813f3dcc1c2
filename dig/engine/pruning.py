"""What lies under ``DIG_HOME``, which runs use it, and the removal of what none uses.

Only folders that are artifacts by their name and their manifest are ever touched. Answers of models
and vectors lie elsewhere under ``DIG_HOME``; they outlive runs and are left alone. Links are not followed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dig.config import UserError
from dig.engine.artifacts import MANIFEST, ArtifactStore, read_json
from dig.engine.own_files import lock_at_once

__all__ = ["Stored", "list_stored", "prunable", "remove"]

_NAME = re.compile(r"[0-9a-f]{16}")
_WORK = ".work"


@dataclass(frozen=True)
class Stored:
    """An artifact, or what an interrupted build has left of one.

    Attributes:
        kind: usually the stage.
        path: its folder.
        size: bytes of its files.
        shared: of these bytes in files that a run's folder holds, too; removal does not free them.
        built: when, in seconds since 1970.
        finished: whether it is an artifact.
        runs: folders of the runs that used it and are still there.
        recorded: whether its uses are known; those of artifacts of earlier versions of dig are not.
    """

    kind: str
    path: Path
    size: int
    shared: int
    built: float
    finished: bool
    runs: tuple[Path, ...]
    recorded: bool

    @property
    def fingerprint(self) -> str:
        """Its name."""
        return self.path.name.removesuffix(_WORK)

    def days(self, now: float) -> float:
        """Its age."""
        return (now - self.built) / 86_400


def list_stored(store: ArtifactStore) -> list[Stored]:
    """All artifacts and interrupted builds, by kind and age.

    Raises:
        UserError: the folder is not one of artifacts.
    """
    if not store.root.is_dir() or store.root.is_symlink():
        raise UserError(
            f"{store.root} is not there, so {store.root.parent} is not a folder of artifacts; set DIG_HOME "
            "to the one that your runs had"
        )
    stored = (_look(store, kind.name, path) for kind in _folders(store.root) for path in _folders(kind))
    return sorted((each for each in stored if each is not None), key=lambda each: (each.kind, each.built))


def prunable(
    stored: Sequence[Stored], days: float = 0.0, keep: int = 0, interrupted: bool = False, unrecorded: bool = False
) -> list[Stored]:
    """What may go: no run that is still there has used it.

    Args:
        stored: everything.
        days: only what is older.
        keep: the newest of each kind that stay in any case.
        interrupted: what interrupted builds have left, too; they could not resume then.
        unrecorded: artifacts whose uses are not known, too.
    """
    now = time.time()
    newest: dict[str, list[Stored]] = defaultdict(list)
    for each in sorted(stored, key=lambda each: -each.built):
        if each.finished:
            newest[each.kind].append(each)
    kept_paths = {each.path for of_kind in newest.values() for each in of_kind[:keep]}
    return [
        each
        for each in stored
        if each.path not in kept_paths
        and each.days(now) >= days
        and (interrupted if not each.finished else not each.runs and (each.recorded or unrecorded))
    ]


def remove(store: ArtifactStore, chosen: Iterable[Stored]) -> Iterator[tuple[Stored, bool]]:
    """Removes folders one after the other, and tells of each whether it is gone; one that is being built stays.

    A folder gets another name first, so that nobody opens half of it.
    """
    for each in chosen:
        with lock_at_once(each.path.with_name(f"{each.fingerprint}.lock")) as free:
            again = _look(store, each.kind, each.path) if free else None  # a run may have begun to use it meanwhile
            if again is None or set(again.runs) - set(each.runs):
                yield each, False
                continue
            leaving = each.path.with_name(f"{each.fingerprint}.removed")
            each.path.rename(leaving)
            shutil.rmtree(leaving)
            for ending in (".runs", ".seconds", ".ranks"):
                with suppress(OSError):
                    each.path.with_name(f"{each.fingerprint}{ending}").unlink()
        yield each, True


def _look(store: ArtifactStore, kind: str, path: Path) -> Stored | None:
    """What a folder is; None for whatever is not dig's."""
    name, finished = path.name.removesuffix(_WORK), not path.name.endswith(_WORK)
    if not _NAME.fullmatch(name) or path.is_symlink() or not path.is_dir():
        return None
    if finished and not _is_artifact(path, name):
        return None
    runs = store.runs_of(kind, name)
    try:
        files = [file.stat() for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
        built = (path / MANIFEST if finished else path).stat().st_mtime
    except OSError:  # somebody else removes or seals it just now
        return None
    return Stored(
        kind,
        path,
        sum(file.st_size for file in files),
        sum(file.st_size for file in files if file.st_nlink > 1),
        built,
        finished,
        tuple(run for run in runs or () if run.is_dir()),
        runs is not None,
    )


def _is_artifact(path: Path, name: str) -> bool:
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("fingerprint") == name and "files" in manifest


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink())
