"""What of a file has arrived, and from which version of it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO, cast

import httpx

from datamodules.download.retry import RetryError
from dig.config.errors import UserError
from dig.engine.artifacts import write_json
from dig.engine.own_files import open_own, read_own_json

__all__ = ["Partial"]

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
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            total = int(found[2]) if found and found[2] != "*" else None
            changed = (self.version and version and version != self.version) or (
                self.total is not None and total is not None and total != self.total
            )
            if not found or int(found[1]) != self.size or changed:
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
            known = notes["url"] in (self._address, self.url)  # the latter as older versions wrote it
            self.version, self.total = (notes["version"], notes["total"]) if known else (None, None)
        except (OSError, ValueError, KeyError, TypeError, UserError):
            known = False
        if not known:
            self.restart()


def _version(response: httpx.Response) -> str | None:
    """What ``If-Range`` compares: a strong ETag, else the date of the last change."""
    etag: str | None = response.headers.get("etag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("last-modified")
