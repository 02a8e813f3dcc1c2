"""When to ask a server again, how long a request may take, and what of a file has arrived."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import httpx

from dig.config.errors import UserError
from dig.engine.artifacts import write_json
from dig.engine.own_files import open_own, read_own_json

__all__ = [
    "DownloadRefusedError",
    "RetryError",
    "RetryPolicy",
    "answer_of",
    "shown",
    "wait_seconds",
    "Alarm",
    "Partial",
]


_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """How patient to be with a server.

    Attributes:
        attempts: requests in a row that bring nothing new before an address is given up.
        backoff: seconds before the second request; doubled with each, up to ``longest``.
        longest: seconds to wait at most, also when a server asks for more.
        timeout: seconds without a byte before a request is given up.
        head: seconds that the head of an answer may take, redirects included.
        slowest: bytes per second below which a request is given up and begun again where it stands.
        window: seconds over which that is measured.
        slow_attempts: requests in a row that are given up for it before the address is.
    """

    attempts: int = 6
    backoff: float = 1.0
    longest: float = 60.0
    timeout: float = 30.0
    head: float = 60.0
    slowest: float = 1000.0
    window: float = 60.0
    slow_attempts: int = 2


class DownloadRefusedError(Exception):
    """An address that will not give what is wanted, however often it is asked."""


class RetryError(Exception):
    """A request that may succeed later; ``wait`` is what the server asked for, in seconds, and ``slow`` says that what
    came is too little to count as progress."""

    def __init__(self, reason: str, wait: float | None = None, slow: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.slow = wait, slow


def answer_of(response: httpx.Response) -> None:
    """Raises RetryError or DownloadRefusedError for every answer but 200 and 206."""
    status = response.status_code
    if status in _BUSY:
        raise RetryError(f"answered {status} {response.reason_phrase}", _retry_after(response))
    if status not in (200, 206):
        raise DownloadRefusedError(f"answered {status} {response.reason_phrase}")


def wait_seconds(policy: RetryPolicy, attempt: int, asked: float | None) -> float:
    """Seconds before the next request: what the server asked for, else an exponential wait with jitter."""
    grown = policy.backoff * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
    return min(asked if asked is not None else grown, policy.longest)


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return "(an address that cannot be read)"
    return f"{parts.scheme}://{parts.host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


# A time limit for the part of a request in which the client's own limits start anew with every byte.


_CONNECTED = ("connect_tcp.complete", "start_tls.complete")


class Alarm:
    """Ends a request that has not sent its whole head in time, by shutting its connection down.

    httpx limits the time of each read, so a server that sends a byte now and then is never given up. The request is
    given :meth:`trace` as its extension of that name, which is told of its connections.

    Args:
        seconds: from the start of the block to :meth:`off`.
    """

    def __init__(self, seconds: float) -> None:
        self.rang = False
        """Whether the time was over before :meth:`off`."""
        self._lock = threading.Lock()
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True

    def __enter__(self) -> Alarm:
        self._timer.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.off()

    def off(self) -> None:
        """The head has come."""
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What the client calls with each of its steps."""
        if event.endswith(_CONNECTED):
            with self._lock:
                self._stream = info["return_value"]
                late = self.rang
            if late:  # a redirect after the end
                self._shut()

    def _ring(self) -> None:
        with self._lock:
            self.rang = True
        self._shut()

    def _shut(self) -> None:
        connection = None if self._stream is None else self._stream.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError, ValueError):
                connection.shutdown(socket.SHUT_RDWR)


# What of a file has arrived, and from which version of it.


_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Partial:
    """``<name>.part`` and, beside it, what identifies the version that it is a part of.

    Args:
        target: the final path.
        url: where the bytes come from; a part from another address is not gone on with.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self.url = url
        self._address = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()  # it may hold a credential
        self.version: str | None = None
        self.total: int | None = None
        self._recall()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def range_headers(self) -> dict[str, str]:
        """Asks for the rest, of the same version only."""
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        return headers | ({"If-Range": self.version} if self.version else {})

    def accept(self, response: httpx.Response) -> None:
        """Takes note of a good answer; starts anew where the server sends the whole file.
        Raises:
            RetryError: if the answer does not continue what is there.
        """
        version = _version(response)
        if response.status_code == 200:
            self.restart()
            self.total = int(response.headers["content-length"]) if "content-length" in response.headers else None
        else:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            total = int(match[2]) if match and match[2] != "*" else None
            changed = (self.version and version and version != self.version) or (
                self.total is not None and total is not None and total != self.total
            )
            if not match or int(match[1]) != self.size or changed:
                self.restart()
                raise RetryError("its file changed meanwhile" if changed else "sent another range than was asked for")
            self.total = total if total is not None else self.total
        self.version = version
        write_json(self._notes, {"url": self._address, "version": version, "total": self.total})

    def open(self) -> BinaryIO:
        """For appending; unbuffered, so that nothing that arrived is lost in a kill."""
        return cast(BinaryIO, open_own(self.path, append=True))

    def restart(self) -> None:
        """Forgets what has arrived."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.version, self.total = None, None

    def finish(self) -> None:
        """Makes the part the file."""
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)

    def _recall(self) -> None:
        try:
            notes = read_own_json(self._notes)
            same_file = notes["url"] in (self._address, self.url)  # the latter as older versions wrote it
            self.version, self.total = (notes["version"], notes["total"]) if same_file else (None, None)
        except (OSError, ValueError, KeyError, TypeError, UserError):
            same_file = False
        if not same_file:
            self.restart()


def _version(response: httpx.Response) -> str | None:
    """What ``If-Range`` compares: a strong ETag, else the date of the last change."""
    etag: str | None = response.headers.get("etag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("last-modified")
