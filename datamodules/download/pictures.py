"""The catalogue's pictures over HTTP: bounded, decoded to prove what they are, every miss recorded and tried again."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx

from datamodules.download.picture_check import check_picture
from datamodules.download.retry import RefusedError, RetryError, RetryPolicy, answer_of, wait_seconds
from dig.artifacts import atomic_path
from dig.config import UserError
from dig.config.documents import read_json_lines
from dig.config.schema import PictureConfig
from dig.console import say, track

__all__ = ["RECORD", "PictureReport", "fetch_pictures", "picture_paths"]

RECORD = "pictures.jsonl"
"""A line an item: ``item_id``, ``url``, ``file`` or null, ``reason`` of a miss."""
_RECORD_BYTES = 2 << 30
_SAVE_EVERY = 200
_REDIRECTS = 5
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "gif": ".gif"}


@dataclass(frozen=True)
class PictureReport:
    """What came of a fetch, in items.

    Attributes:
        fetched: pictures that came now.
        cached: pictures that were there.
        missing: items without a picture.
        reasons: misses by their reason.
    """

    fetched: int
    cached: int
    missing: int
    reasons: dict[str, int]


@dataclass
class _Found:
    """What is known of one address."""

    file: str | None
    reason: str | None


def fetch_pictures(
    images: Mapping[str, str], folder: Path, limits: PictureConfig | None = None, backoff: float = 1.0
) -> PictureReport:
    """Fetches the picture of every item, each address once; misses of earlier runs are tried again.

    Args:
        images: item id → address.
        folder: takes the pictures, named by a hash of their address, and :data:`RECORD`.
        limits: what a fetch may cost (``data.pictures``).
        backoff: seconds before the second request for a picture.

    Raises:
        UserError: if nothing can be written.
    """
    limits = limits or PictureConfig()
    folder.mkdir(parents=True, exist_ok=True)
    known = _recall(folder)
    cached = {url for url in images.values() if url in known and known[url].file}
    fetcher = _Fetcher(folder, limits, backoff)
    try:
        waiting = list(dict.fromkeys(url for url in images.values() if url not in cached))
        with ThreadPoolExecutor(limits.concurrency) as pool:
            tasks: dict[Future[_Found], str] = {pool.submit(fetcher.fetch, url): url for url in waiting}
            try:
                done = track(as_completed(tasks), "pictures", total=len(tasks))
                for count, task in enumerate(done, start=1):
                    known[tasks[task]] = task.result()
                    if count % _SAVE_EVERY == 0:
                        _record(folder, images, known)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        _record(folder, images, known)
        fetcher.close()
    return _report(images, known, cached)


def picture_paths(folder: Path) -> dict[str, Path]:
    """Item id → picture, for the pictures that are there."""
    return {item: folder / file for item, _, file, _ in _lines(folder) if file and (folder / file).is_file()}


class _Fetcher:
    """Asks for pictures from several threads, with a limit a host."""

    def __init__(self, folder: Path, limits: PictureConfig, backoff: float) -> None:
        self.folder = folder
        self.limits = limits
        self.policy = RetryPolicy(limits.attempts, backoff, longest=10.0, timeout=limits.timeout)
        self.client = httpx.Client(timeout=limits.timeout, headers={"User-Agent": "dig"})
        self._hosts: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(limits.per_host))
        self._lock = threading.Lock()

    def close(self) -> None:
        self.client.close()

    def fetch(self, url: str) -> _Found:
        """One picture, with retries."""
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return _Found(self._store(url, self._body(url)), None)
            except (RefusedError, httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
                return _Found(None, str(error) or type(error).__name__)
            except (RetryError, httpx.HTTPError) as error:
                reason = str(error) if isinstance(error, RetryError) else type(error).__name__
                if attempt < self.limits.attempts:
                    time.sleep(wait_seconds(self.policy, attempt, getattr(error, "wait", None)))
        return _Found(None, reason)

    def _body(self, url: str) -> bytes:
        """Follows redirects itself, so that every host on the way is looked at."""
        for _ in range(_REDIRECTS + 1):
            host = self._checked_host(url)
            with self._lock:
                turn = self._hosts[host]
            with turn, self.client.stream("GET", url) as response:
                if response.is_redirect:
                    url = urljoin(url, response.headers.get("location", ""))
                    continue
                answer_of(response)
                return self._capped(response)
        raise RefusedError("too many redirects")

    def _capped(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self.limits.max_bytes:
                raise RefusedError(f"larger than {self.limits.max_bytes:,} bytes")
        return bytes(body)

    def _checked_host(self, url: str) -> str:
        """The host of an address from item data, which is untrusted.

        Raises:
            RefusedError: unless it is http(s) without credentials, to a host outside private networks.
        """
        parts = httpx.URL(url)
        if parts.scheme not in ("http", "https") or not parts.host:
            raise RefusedError("address is neither http nor https")
        if parts.userinfo:
            raise RefusedError("address with a password")
        if not self.limits.allow_private_hosts and not _is_public(parts.host):
            raise RefusedError("host in a private network (data.pictures.allow_private_hosts)")
        return parts.host

    def _store(self, url: str, body: bytes) -> str:
        kind = check_picture(body, self.limits.max_side)
        digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{digest[:2]}/{digest[:24]}{_SUFFIXES.get(kind, f'.{kind}')}"
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(body)
        return name


def _is_public(host: str) -> bool:
    """Whether all addresses of a host are on the public internet; an unknown host fails when it is asked."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return True
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_global for address in found)


def _record(folder: Path, images: Mapping[str, str], known: Mapping[str, _Found]) -> None:
    lines = []
    for item, url in images.items():
        if url in known:
            content = {"item_id": item, "url": url, "file": known[url].file, "reason": known[url].reason}
            lines.append(json.dumps(content, ensure_ascii=True))
    try:
        with atomic_path(folder / RECORD) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / RECORD} cannot be written: {error.strerror}") from None


def _lines(folder: Path) -> list[tuple[str, str, str | None, str | None]]:
    path = folder / RECORD
    if not path.is_file():
        return []
    advice = "delete the file, and what was fetched is looked for anew"
    records = read_json_lines(path, ("item_id", "url", "file", "reason"), _RECORD_BYTES, advice)
    named = next((key for record in records for key in ("item_id", "url") if record[key] is None), None)
    if named:
        raise UserError(f"{path}: a line has no {named}; {advice}")
    return [(record["item_id"], record["url"], record["file"], record["reason"]) for record in records]


def _recall(folder: Path) -> dict[str, _Found]:
    """What earlier runs know, without files that are gone."""
    return {
        url: _Found(file if file and (folder / file).is_file() else None, reason)
        for _, url, file, reason in _lines(folder)
    }


def _report(images: Mapping[str, str], known: Mapping[str, _Found], cached: set[str]) -> PictureReport:
    there = [url for url in images.values() if known[url].file]
    misses = Counter(str(known[url].reason) for url in images.values() if not known[url].file)
    old = sum(url in cached for url in there)
    report = PictureReport(len(there) - old, old, sum(misses.values()), dict(misses.most_common()))
    why = "; ".join(f"{count:,} × {reason}" for reason, count in misses.most_common(3))
    say(f"pictures: {report.fetched:,} fetched, {report.cached:,} there already, {report.missing:,} missing"
        f"{f' ({why})' if why else ''}")  # fmt: skip
    return report
