"""The catalogue's pictures over HTTP: bounded, decoded to prove what they are, every miss recorded and tried again."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ipaddress
import json
import socket
import struct
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
from PIL import Image, UnidentifiedImageError

from datamodules.download.retry import DownloadRefusedError, RetryError, RetryPolicy, answer_of, wait_seconds
from dig.config import UserError
from dig.config.documents import read_json_lines
from dig.config.schema import PictureConfig
from dig.engine.artifacts import atomic_path
from dig.engine.console import say, track
from dig.engine.signals import Preempted, current_watch, signals_call
from dig.pictures import FORMATS

__all__ = ["checked_host", "is_public", "check_picture", "RECORD", "PictureReport", "fetch_pictures", "picture_paths"]


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_6TO4 = ipaddress.ip_network("2002::/16")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given to hosts on the internet; the rest is local, a group, or kept for later."""
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)
"""Protocols, relays, benchmarks and examples (IANA's registries of special-purpose addresses)."""


def is_public(address: str) -> bool:
    """Whether an IP address is that of a host on the public internet.

    Groups (multicast), private and local networks, reserved and unspecified addresses are not; an address that carries
    one of IPv4 (NAT64, 6to4, mapped) is what that one is.
    """
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(host, ipaddress.IPv6Address):
        inner = host.ipv4_mapped or (host.sixtofour if host in _6TO4 else None)
        if host in _NAT64:
            inner = ipaddress.IPv4Address(int(host) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if host not in _UNICAST or host.scope_id:
            return False
    if host.is_multicast or host.is_reserved or host.is_unspecified or host.is_loopback or host.is_link_local:
        return False
    return host.is_global and not any(host in network for network in _SPECIAL if network.version == host.version)


async def checked_host(url: str, allow_private: bool) -> str:
    """The host of an address from item data, which is untrusted.

    Args:
        url: the address.
        allow_private: also hosts outside the public internet.

    Raises:
        DownloadRefusedError: unless it is http(s) without credentials, to a host on the public internet.
    """
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise DownloadRefusedError("address is neither http nor https")
    if parts.userinfo:
        raise DownloadRefusedError("address with a password")
    if not allow_private and not await _resolves_to_public(parts.host):
        raise DownloadRefusedError("host in a private network (data.pictures.allow_private_hosts)")
    return parts.host


async def _resolves_to_public(host: str) -> bool:
    """Whether all addresses of a host are public; an unknown host fails when it is asked."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def look() -> None:
        try:
            addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except (OSError, UnicodeError):
            addresses = set()
        public = all(map(is_public, addresses))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(public))

    # Not the loop's own threads: it would wait for a name server that does not answer before it ends.
    threading.Thread(target=look, daemon=True, name="look-up").start()
    return await answer


# Whether some bytes are a picture that is safe to decode.


def check_picture(data: bytes, max_side: int) -> str:
    """Decodes a picture to prove that it is one.

    Args:
        data: the file.
        max_side: longest side allowed, in pixels; looked at before anything is decoded.

    Returns:
        Its format in lower case, such as ``jpeg``.

    Raises:
        ValueError: with a short reason, if it is none, is damaged or is too large.
    """
    if not data:
        raise ValueError("empty")
    if data.lstrip()[:1] == b"<":
        raise ValueError("a web page or SVG, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's hints about large or odd files; the limits here decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if max(picture.size) > max_side:
                    raise ValueError(f"{picture.width} × {picture.height} pixels, more than {max_side}")
                picture.load()
                return str(picture.format).lower()
    except UnidentifiedImageError:
        raise ValueError(f"not a picture in one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError("too many pixels") from None
    except (OSError, SyntaxError, struct.error, EOFError, IndexError, KeyError, TypeError, MemoryError, OverflowError):
        raise ValueError("damaged") from None


# The catalogue's pictures over HTTP: bounded, decoded to prove what they are, every miss recorded and tried again.


RECORD = "pictures.jsonl"
"""A line per item: ``item_id``, ``url``, ``file`` or null, ``reason`` of a miss."""
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
    records = _recall(folder)
    cached = {url for url in images.values() if url in records and records[url].file}
    waiting = list(dict.fromkeys(url for url in images.values() if url not in cached))
    try:
        if waiting:
            asyncio.run(_Round(waiting, records, lambda: _record(folder, images, records)).run(folder, limits, backoff))
    finally:
        _record(folder, images, records)
    return _report(images, records, cached)


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
            except (DownloadRefusedError, httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
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
        raise DownloadRefusedError("too many redirects")

    async def _capped(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.limits.max_bytes:
                raise DownloadRefusedError(f"larger than {self.limits.max_bytes:,} bytes")
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
    fetched = [url for url in images.values() if known[url].file]
    misses = Counter(str(known[url].reason) for url in images.values() if not known[url].file)
    old = sum(url in cached for url in fetched)
    report = PictureReport(len(fetched) - old, old, sum(misses.values()), dict(misses.most_common()))
    why = "; ".join(f"{count:,} × {reason}" for reason, count in misses.most_common(3))
    say(
        f"pictures: {report.fetched:,} fetched, {report.cached:,} there already, {report.missing:,} missing"
        f"{f' ({why})' if why else ''}"
    )
    return report
