"""The catalogue's pictures over HTTP: bounded, decoded to prove what they are, every miss recorded and tried again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx

from datamodules.download.hosts import checked_host
from datamodules.download.picture_check import check_picture
from datamodules.download.retry import RefusedError, RetryError, RetryPolicy, answer_of, wait_seconds
from dig.config import UserError
from dig.config.documents import read_json_lines
from dig.config.schema import PictureConfig
from dig.engine.artifacts import atomic_path
from dig.engine.console import say, track
from dig.engine.signals import Preempted, current_watch, signals_call

__all__ = ["RECORD", "PictureReport", "fetch_pictures", "picture_paths"]

RECORD = "pictures.jsonl"
"""A line an item: ``item_id``, ``url``, ``file`` or null, ``reason`` of a miss."""
_RECORD_BYTES = 2 << 30
_SAVE_EVERY = 200
_REDIRECTS = 5
_SUFFIXES = {"jpeg": ".jpg", "mpo": ".jpg", "png": ".png", "webp": ".webp", "gif": ".gif"}


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
    waiting = list(dict.fromkeys(url for url in images.values() if url not in cached))
    try:
        if waiting:
            asyncio.run(_Round(waiting, known, lambda: _record(folder, images, known)).run(folder, limits, backoff))
    finally:
        _record(folder, images, known)
    return _report(images, known, cached)


def picture_paths(folder: Path) -> dict[str, Path]:
    """Item id → picture, for the pictures that are there."""
    return {item: folder / file for item, _, file, _ in _lines(folder) if file and (folder / file).is_file()}


class _Round:
    """Asks for all pictures, as many at once as is allowed, and ends at once when it is told to.

    Args:
        waiting: addresses.
        known: takes what comes of each.
        keep: writes what is known.
    """

    def __init__(self, waiting: list[str], known: dict[str, _Found], keep: Callable[[], None]) -> None:
        self._waiting, self._known, self._keep = iter(waiting), known, keep
        self._bar = track(range(len(waiting)), "pictures", total=len(waiting))
        self._count = 0
        self._interrupted = False

    async def run(self, folder: Path, limits: PictureConfig, backoff: float) -> None:
        """Returns when every address was asked.

        Raises:
            Preempted: for a signal that somebody watches for; KeyboardInterrupt for another.
        """
        task = asyncio.current_task()

        def stop() -> None:
            self._interrupted = True
            if task is not None:
                task.cancel()

        async with _Fetcher(folder, limits, backoff) as fetcher:
            with signals_call(stop):
                workers = [asyncio.create_task(self._work(fetcher)) for _ in range(limits.concurrency)]
                try:
                    await asyncio.gather(*workers)
                except asyncio.CancelledError:
                    if not self._interrupted:
                        raise
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
                    self._bar.close()
        watch = current_watch()
        if watch is not None and watch.name is not None:
            raise Preempted(f"pictures that came are kept ({watch.name})")
        if self._interrupted:
            raise KeyboardInterrupt

    async def _work(self, fetcher: _Fetcher) -> None:
        for url in self._waiting:
            self._known[url] = await fetcher.fetch(url)
            next(self._bar, None)
            self._count += 1
            if self._count % _SAVE_EVERY == 0:
                self._keep()


class _Fetcher:
    """Asks for pictures, with a limit a host and a whole limit a picture."""

    def __init__(self, folder: Path, limits: PictureConfig, backoff: float) -> None:
        self.folder = folder
        self.limits = limits
        self.policy = RetryPolicy(limits.attempts, backoff, longest=10.0, timeout=limits.timeout)
        pool = httpx.Limits(max_connections=None, max_keepalive_connections=limits.concurrency)
        self.client = httpx.AsyncClient(timeout=limits.timeout, headers={"User-Agent": "dig"}, limits=pool)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.per_host))

    async def __aenter__(self) -> _Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def fetch(self, url: str) -> _Found:
        """One picture, with retries, in the time that a picture may take."""
        left = _Budget(self.limits.max_seconds)
        for attempt in range(1, self.limits.attempts + 1):
            try:
                body = await self._body(url, left)
                return _Found(await asyncio.to_thread(self._store, url, body), None)
            except TimeoutError:
                return _Found(None, f"not whole within {self.limits.max_seconds:g} s (data.pictures.max_seconds)")
            except (RefusedError, httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
                return _Found(None, str(error) or type(error).__name__)
            except (RetryError, httpx.HTTPError) as error:
                reason = str(error) if isinstance(error, RetryError) else type(error).__name__
                if attempt < self.limits.attempts:
                    await asyncio.sleep(wait_seconds(self.policy, attempt, getattr(error, "wait", None)))
        return _Found(None, reason)

    async def _body(self, url: str, left: _Budget) -> bytes:
        """Follows redirects itself, so that every host on the way is looked at.

        Raises:
            TimeoutError: the budget is spent; waiting for a turn costs nothing.
        """
        for _ in range(_REDIRECTS + 1):
            async with left.spending():
                host = await checked_host(url, self.limits.allow_private_hosts)
            async with self._hosts[host], left.spending(), self.client.stream("GET", url) as response:
                if response.is_redirect:
                    url = urljoin(url, response.headers.get("location", ""))
                    continue
                answer_of(response)
                return await self._capped(response)
        raise RefusedError("too many redirects")

    async def _capped(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.limits.max_bytes:
                raise RefusedError(f"larger than {self.limits.max_bytes:,} bytes")
        return bytes(body)

    def _store(self, url: str, body: bytes) -> str:
        kind = check_picture(body, self.limits.max_side)
        digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{digest[:2]}/{digest[:24]}{_SUFFIXES.get(kind, f'.{kind}')}"
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(body)
        return name


class _Budget:
    """Seconds that are left for one picture."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    @asynccontextmanager
    async def spending(self) -> AsyncIterator[None]:
        """A block that is cut off with TimeoutError when nothing is left."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(max(self._left, 0.0)):
                yield
        finally:
            self._left -= time.monotonic() - begun


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
    say(
        f"pictures: {report.fetched:,} fetched, {report.cached:,} there already, {report.missing:,} missing"
        f"{f' ({why})' if why else ''}"
    )
    return report
