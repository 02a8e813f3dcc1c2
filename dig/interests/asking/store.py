"""Every answer, from the moment it arrives, and a record of every request that was ever sent (SQLite in WAL mode).

Answers are keyed by who was asked, by the prompt's words and by the item's content: an unchanged item is never asked
again, a changed one is. A request is entered before it is sent, at the most that it may cost, and corrected when its
end is known; what a kill leaves open stays entered at the most."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dig.config.errors import UserError
from dig.config.schema import ModelConfig
from dig.engine.console import printable
from dig.engine.own_files import open_own, wait_for_lock
from dig.interests.asking.progress import JobResult
from dig.interests.asking.question import PromptedModel, Question

__all__ = [
    "SECOND_CHANCE",
    "AnswerStore",
    "Failure",
    "Spending",
    "asked_anew",
    "context_state",
    "key_numbers",
    "length_state",
    "store_path",
    "unanswered",
]


_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS askers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS answers (key BLOB NOT NULL UNIQUE, asker INTEGER NOT NULL, item TEXT NOT NULL, text BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS failures (key BLOB NOT NULL UNIQUE, asker INTEGER NOT NULL, item TEXT NOT NULL,
                                     reason TEXT NOT NULL, problem TEXT NOT NULL, text BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, campaign TEXT NOT NULL, asker INTEGER NOT NULL, key BLOB NOT NULL,
                                     state INTEGER NOT NULL, sent REAL NOT NULL, tokens_in INTEGER, tokens_out INTEGER,
                                     cost REAL NOT NULL);
CREATE TABLE IF NOT EXISTS reopened (key BLOB NOT NULL UNIQUE, asker INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS retries (campaign TEXT PRIMARY KEY, answered INTEGER NOT NULL);
"""  # noqa: E501
_UNDER_WAY, _PAID, _UNPAID, _UNKNOWN, _ESTIMATED = range(5)
SECOND_CHANCE = "second chance"
"""State of a failure whose second chance is still to come: the first answer is paid, and the second is asked for."""
_ABOVE, _OTHER = "max_output above ", "other than "
_UNPROVEN = " from a model that was stopped"
_PARAMETERS = 2000
_HOLDER = 200  # bytes of a lock's file
_SNAPSHOT = 20_000_000
_LONGEST = 64 << 20
"""Bytes of an answer at most."""
_ANEW = "move it away, and models are asked again"


class Failure(NamedTuple):
    """An item that a model was asked about in vain."""

    key: bytes
    item_id: str
    reason: str
    problem: str
    text: str
    """The last answer as the model wrote it."""


class Spending(NamedTuple):
    """What a campaign has cost.

    Attributes:
        requests: sent, whatever became of them.
        paid: requests whose answer came.
        cost: US dollars of those.
        unknown: requests whose end nobody knows: a kill, a cut line, a time-out.
        unknown_cost: the most that they can have cost.
        tokens_in: tokens read, of the paid ones.
        tokens_out: tokens written, of the paid ones.
        estimated: paid requests whose tokens the endpoint did not count, so that an estimate did.
    """

    requests: int = 0
    paid: int = 0
    cost: float = 0.0
    unknown: int = 0
    unknown_cost: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0


def store_path(home: Path) -> Path:
    """The store that all experiments under one ``DIG_HOME`` share."""
    return home / "interests" / "answers.sqlite"


class AnswerStore:
    """Answers and requests on disk.

    Args:
        path: the database; it is made when it is missing.

    Raises:
        UserError: the file is none of ours, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = sqlite3.connect(path, isolation_level=None, timeout=60.0, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute("PRAGMA wal_autocheckpoint=16384")  # 64 MB: a checkpoint makes all requests wait
            self._base.execute("PRAGMA cache_size=-65536")  # 64 MB: the index of some million keys
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise UserError(f"{path} is of format {version}, this version of dig knows {_FORMAT}")
            self._base.executescript(_SCHEMA)
            self._base.execute(f"PRAGMA user_version={_FORMAT}")
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} cannot be read as a store of answers ({error}); move it away") from error
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database."""
        self._base.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Holds the store for a run that asks; a second one waits, so that nothing is paid twice.

        What an earlier run left under way is entered as unknown.

        Raises:
            UserError: the database or its lock has a second name, or is a link.
        """
        if self.path.stat().st_nlink > 1:
            raise UserError(
                f"{self.path} has a second name, as copies by hard links have, and both would change; "
                f"cp {self.path} {self.path}.own && mv {self.path}.own {self.path}"
            )
        with open_own(self.path.with_suffix(".lock"), append=True) as stream:
            stream.seek(0)
            holder = printable(stream.read(_HOLDER).decode(errors="replace").strip(), 40) or "unnamed"
            wait_for_lock(stream, f"another run ({holder}) is asking into {self.path}")
            stream.truncate(0)
            stream.write(f"process {os.getpid()}".encode())
            self._base.execute("UPDATE requests SET state=? WHERE state=?", (_UNKNOWN, _UNDER_WAY))
            yield

    # --- answers

    def snapshot(self) -> np.ndarray:
        """The keys of all answers of this moment, sorted, as ``(answers, 2)`` uint64; none of a vast store."""
        (most,) = self._base.execute("SELECT MAX(rowid) FROM answers").fetchone()
        if not most or most > _SNAPSHOT:
            return np.empty((0, 2), dtype=np.uint64)
        keys = self._base.execute("SELECT key FROM answers ORDER BY key")  # read from its index alone
        return key_numbers([key for (key,) in keys])

    def known(self, keys: Sequence[bytes], failures: bool = True) -> set[bytes]:
        """Those of the keys that have an answer, or (``failures``) failed for good."""
        answered = {key for (key,) in self._select("SELECT key FROM answers", keys)}
        if failures and self._base.execute("SELECT 1 FROM failures LIMIT 1").fetchone():
            answered |= {key for (key,) in self._select("SELECT key FROM failures", keys)}
        return answered

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The usable answers among the keys."""
        return {key: _unpacked(text) for key, text in self._select("SELECT key, text FROM answers", keys)}

    def failures(self, keys: Sequence[bytes]) -> list[Failure]:
        """The failures among the keys."""
        rows = self._select("SELECT key, item, reason, problem, text FROM failures", keys)
        return [Failure(key, item, reason, problem, _unpacked(text)) for key, item, reason, problem, text in rows]

    def add(self, model: str, entries: Iterable[tuple[bytes, str, str]]) -> int:
        """Keeps answers that came another way: (key, item id, text); returns how many are new."""
        number = self._number_of(model)
        rows = ((key, number, item, _packed(text)) for key, item, text in entries)
        before = self._base.total_changes
        with self.transaction():
            self._base.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?)", rows)
        return self._base.total_changes - before

    def _select(self, statement: str, keys: Sequence[bytes]) -> Iterator[tuple]:
        for start in range(0, len(keys), _PARAMETERS):
            some = keys[start : start + _PARAMETERS]
            marks = ",".join("?" * len(some))
            yield from self._base.execute(f"{statement} WHERE key IN ({marks})", some)

    # --- requests

    def begin(self, campaign: str, model: str, key: bytes, bound: float) -> int:
        """Enters a request that is about to be sent, at the most that it may cost; returns its number."""
        row = (campaign, self._number_of(model), key, _UNDER_WAY, time.time(), bound)
        cursor = self._base.execute(
            "INSERT INTO requests (campaign, asker, key, state, sent, cost) VALUES (?,?,?,?,?,?)", row
        )
        return int(cursor.lastrowid or 0)

    def paid(self, request: int, tokens_in: int, tokens_out: int, cost: float, estimated: bool = False) -> None:
        """The request was answered, at a known cost, or at an estimated one, which is marked as such."""
        self._base.execute(
            "UPDATE requests SET state=?, tokens_in=?, tokens_out=?, cost=? WHERE id=?",
            (_ESTIMATED if estimated else _PAID, tokens_in, tokens_out, cost, request),
        )

    def unpaid(self, request: int) -> None:
        """The request was refused, or never reached the endpoint."""
        self._base.execute("UPDATE requests SET state=?, cost=0 WHERE id=?", (_UNPAID, request))

    def unknown(self, request: int) -> None:
        """Whether the request was paid for cannot be known; it stays at the most."""
        self._base.execute("UPDATE requests SET state=? WHERE id=?", (_UNKNOWN, request))

    def answered(self, model: str, key: bytes, item_id: str, text: str) -> None:
        """Keeps a usable answer; an earlier failure of the same key is gone."""
        self._base.execute(
            "INSERT OR REPLACE INTO answers VALUES (?,?,?,?)", (key, self._number_of(model), item_id, _packed(text))
        )
        self._base.execute("DELETE FROM failures WHERE key=?", (key,))
        self._base.execute("DELETE FROM reopened WHERE key=?", (key,))

    def failed(self, model: str, failure: Failure, state: str = "") -> None:
        """Keeps a failure with the raw answer.

        Args:
            model: who failed.
            failure: what came.
            state: when it is asked again: :data:`SECOND_CHANCE`, or under which settings; "" for on demand only.
        """
        number = self._number_of(model)
        self._base.execute(
            "INSERT OR REPLACE INTO failures VALUES (?,?,?,?,?,?)",
            (failure.key, number, failure.item_id, failure.reason, failure.problem, _packed(failure.text)),
        )
        self._base.execute("DELETE FROM reopened WHERE key=?", (failure.key,))
        if state:
            self._base.execute("INSERT INTO reopened VALUES (?,?,?)", (failure.key, number, state))

    def states(self, model: str) -> dict[bytes, str]:
        """The failures of a model with a prompt that are asked again by themselves, and when."""
        rows = self._base.execute("SELECT key, state FROM reopened WHERE asker=?", (self._number_of(model),))
        return dict(rows.fetchall())

    def mark_unproven(self, keys: Sequence[bytes]) -> None:
        """Marks failures of a model that was stopped before one of its answers could be used."""
        rows = [(_UNPROVEN, key) for key in keys]
        self._base.executemany("UPDATE failures SET reason=reason||? WHERE key=?", rows)

    def unproven(self, model: str) -> set[bytes]:
        """The keys of the failures that are marked so."""
        statement = "SELECT key FROM failures WHERE asker=? AND reason LIKE ?"
        return {key for (key,) in self._base.execute(statement, (self._number_of(model), f"%{_UNPROVEN}"))}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is entered within is kept as a whole or not at all."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:  # SQLite may have done it, as on a full disk
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def spending(self, campaign: str, model: str | None = None) -> Spending:
        """What a campaign has cost so far, of one model or of all."""
        totals = """SELECT COUNT(*), SUM(state IN (?1,?5)), SUM(cost*(state IN (?1,?5))), SUM(state IN (?2,?3)),
                    SUM(cost*(state IN (?2,?3))), SUM(tokens_in), SUM(tokens_out), SUM(state=?5)
                    FROM requests WHERE campaign=?4"""
        given: list[object] = [_PAID, _UNDER_WAY, _UNKNOWN, campaign, _ESTIMATED]
        if model is not None:
            totals += " AND asker=?6"
            given.append(self._number_of(model))
        totals_row = self._base.execute(totals, given).fetchone()
        return Spending(*(value or 0 for value in totals_row))

    def count_failures(self, model: str) -> int:
        """Questions that a model with a prompt has failed for good, of all experiments."""
        statement = "SELECT COUNT(*) FROM failures WHERE asker=?"
        return int(self._base.execute(statement, (self._number_of(model),)).fetchone()[0])

    def forget_failures(self, model: str) -> int:
        """Forgets what a model with a prompt has failed for good, of all experiments; returns how many."""
        number = self._number_of(model)
        self._base.execute("DELETE FROM reopened WHERE asker=?", (number,))
        return self._base.execute("DELETE FROM failures WHERE asker=?", (number,)).rowcount

    def mean_tokens_out(self, model: str) -> float | None:
        """Tokens of a paid answer, over all experiments; None before the first."""
        statement = """SELECT AVG(tokens_out) FROM (SELECT tokens_out FROM requests
                       WHERE asker=? AND state IN (?,?) LIMIT 5000)"""
        given = (self._number_of(model), _PAID, _ESTIMATED)
        mean: float | None = self._base.execute(statement, given).fetchone()[0]
        return mean

    def retried(self, campaign: str) -> int:
        """Answers that a campaign got by asking again after it had been finished."""
        row = self._base.execute("SELECT answered FROM retries WHERE campaign=?", (campaign,)).fetchone()
        return int(row[0]) if row else 0

    def count_retried(self, campaign: str, answered: int) -> None:
        """Adds to :meth:`retried`."""
        self._base.execute(
            "INSERT INTO retries VALUES (?,?) ON CONFLICT (campaign) DO UPDATE SET answered=answered+excluded.answered",
            (campaign, answered),
        )

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            self._base.execute("INSERT OR IGNORE INTO askers (name) VALUES (?)", (name,))
            self._numbers[name] = self._base.execute("SELECT id FROM askers WHERE name=?", (name,)).fetchone()[0]
        return self._numbers[name]


def key_numbers(keys: Sequence[bytes]) -> np.ndarray:
    """Keys as ``(keys, 2)`` uint64 that sort as their bytes do."""
    return np.frombuffer(b"".join(keys), dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "replace"), 1)


def _unpacked(packed: bytes) -> str:
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, _LONGEST).decode("utf-8")
    except (zlib.error, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"the store of answers is damaged ({error}); {_ANEW}") from None
    if not unpacking.eof:
        raise UserError(f"the store of answers is damaged (an answer does not end); {_ANEW}")
    return text


# The questions that still have to be asked, found by comparing keys with the store, a handful at a time.


_CHUNK = 200  # few enough that the garbage collector is never called on the way


def unanswered(
    questions: Iterator[Question],
    store: AnswerStore,
    under_way: Collection[bytes],
    result: JobResult,
    failures_too: bool = False,
) -> Iterator[Question]:
    """Questions without an answer; items of equal content are asked about once.

    Args:
        questions: all of them.
        store: what is known.
        under_way: keys that are being asked about at this moment.
        result: known ones are counted in it; with ``failures_too`` their ``total`` is of the others alone.
        failures_too: ask again what failed for good.
    """
    before = store.snapshot()
    while chunk := list(islice(questions, _CHUNK)):
        fresh = [chunk[row] for row in np.flatnonzero(~_among([question.key for question in chunk], before))]
        result.known += len(chunk) - len(fresh)
        if not fresh:
            continue
        seen = store.known([question.key for question in fresh], failures=not failures_too) | set(under_way)
        for question in fresh:
            if question.key in seen:
                result.known += 1
            else:
                seen.add(question.key)
                yield question


def asked_anew(store: AnswerStore, model: PromptedModel) -> dict[bytes, str]:
    """The failures of a model that its next run asks about again, with their state: those whose second chance is to
    come, and those that another setting than today's was the reason of."""
    config = model.config
    return {
        key: state
        for key, state in store.states(model.identity).items()
        if state == SECOND_CHANCE
        or (state.startswith(_ABOVE) and config.max_output > int(state.removeprefix(_ABOVE)))
        or (state.startswith(_OTHER) and state != context_state(config))
    }


def length_state(config: ModelConfig) -> str:
    """The state of an answer that was cut: it is asked for again where answers may be longer."""
    return f"{_ABOVE}{config.max_output}"


def context_state(config: ModelConfig) -> str:
    """The state of a question that was too long: it is asked again with another limit, or at another address."""
    return f"{_OTHER}max_output={config.max_output} base_url={config.base_url}"


def _among(keys: list[bytes], known: np.ndarray) -> np.ndarray:
    """(keys,) bool: which are surely among the sorted known ones ``(known, 2)``."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    numbers = key_numbers(keys)
    places = np.minimum(np.searchsorted(known[:, 0], numbers[:, 0]), len(known) - 1)
    return (known[places] == numbers).all(axis=1)  # of keys with one first half the first alone is found
