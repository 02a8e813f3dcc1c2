"""The folder of records: one JSON file a run, found by its name or, over several seeds, by the name before the seed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from dig.config import UserError, nearest
from dig.engine.artifacts import read_json, write_json
from dig.records.record import RunRecord

__all__ = ["RunStore", "check_comparable"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RunStore:
    """Records of runs.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def save(self, record: RunRecord, replace: bool) -> Path:
        """Writes a record.

        Args:
            record: the run.
            replace: also over the record of a run with another command.

        Raises:
            UserError: the name cannot be a file's, or belongs to a run with another command.
        """
        if not _NAME.fullmatch(record.name):
            raise UserError(f"{record.name}: a record's name has letters, digits and -_. alone; name it by --as", 2)
        path = self.folder / f"{record.name}.json"
        if path.is_file() and not replace:
            before = self.load(record.name).content.get("command")
            if before != record.content["command"]:
                raise UserError(
                    f"{path}: holds another run ({before}); --as {record.name} replaces it, another name keeps both",
                    exit_code=2,
                )
        write_json(path, record.content)
        return path

    def load(self, name: str) -> RunRecord:
        """The record of exactly this name.

        Raises:
            UserError: it is not there, or is no record.
        """
        path = self.folder / f"{name}.json"
        if not path.is_file():
            raise self._missing(name)
        try:
            content = read_json(path)
        except ValueError:
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("recommenders"), dict):
            raise UserError(f"{path}: is no record of a run")
        return RunRecord(name, content)

    def family(self, name: str) -> list[RunRecord]:
        """The record of this name, or those of its seeds: ``beauty`` also means ``beauty-42`` and ``beauty-2333``.

        Raises:
            UserError: there is none; or its seeds have other splits, other test users, or other commands but for seed,
                stages and baselines.
        """
        found = [each for each in self.names() if each == name or re.fullmatch(rf"{re.escape(name)}-\d+", each)]
        if not found:
            raise self._missing(name)
        records = sorted((self.load(each) for each in found), key=lambda record: record.content.get("seed") or 0)
        check_comparable(records)
        for record in records[1:]:
            one, other = _beside_seed(records[0]), _beside_seed(record)
            if one != other:
                raise UserError(
                    f"{records[0].name} and {record.name} differ in more than the seed "
                    f"({' '.join(sorted(one ^ other))}); give each a name of its own"
                )
        return records

    def _missing(self, name: str) -> UserError:
        names = self.names()
        hint = nearest(name, {*names, *(re.sub(r"-\d+$", "", each) for each in names)})
        return UserError(
            f"no record {name} in {self.folder}{f'; did you mean {hint}?' if hint else ''} "
            f"(python -m dig.results add RUN --as {name})"
        )


def check_comparable(records: list[RunRecord]) -> None:
    """Whether records may stand in one table.

    Raises:
        UserError: their splits or test users differ.
    """
    for record in records[1:]:
        if record.test != records[0].test:
            (split, users), (other, others) = records[0].test, record.test
            raise UserError(
                f"one table cannot hold {records[0].name} (split {split}, {users} test users) and "
                f"{record.name} (split {other}, {others} test users)"
            )


def _beside_seed(record: RunRecord) -> frozenset[str]:
    words = shlex.split(str(record.content.get("command", "")))
    return frozenset(word for word in words if not word.startswith(("seed=", "stages=", "baselines=")))
