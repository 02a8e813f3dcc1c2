"""Large files over HTTP: resumed where they stopped, retried, verified, from the first address that gives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx

from datamodules.download.alarm import Alarm
from datamodules.download.partial import Partial
from datamodules.download.retry import RefusedError, RetryError, RetryPolicy, answer_of, shown, wait_seconds
from dig.config import UserError
from dig.engine.artifacts import disk_full, hash_file
from dig.engine.console import byte_progress, progress_enabled, say, warn
from dig.engine.own_files import lock

__all__ = ["RemoteFile", "download", "download_all"]

_RESTARTS = 3
_MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: where it goes, relative to a folder.
        urls: addresses, tried in order.
        size: its bytes, where known.
        sha256: its hash, where known.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


def download_all(files: Iterable[RemoteFile], folder: Path, policy: RetryPolicy | None = None) -> list[Path]:
    """Fetches what is missing of several files, one after the other.

    Raises:
        UserError: as :func:`download` does.
    """
    return [download(file, folder, policy) for file in files]


def download(file: RemoteFile, folder: Path, policy: RetryPolicy | None = None) -> Path:
    """Fetches a file unless it is there; an interrupted fetch goes on where it stopped.

    Bytes go to ``<name>.part``, which becomes ``<name>`` once length, hash (where known) and kind are right. Of two
    processes one fetches and one waits.

    Raises:
        UserError: if no address gives the file, or if the disk is full; what came so far stays.
    """
    path = _inside(folder, file.name)
    if _is_there(path, file):
        return path
    policy = policy or RetryPolicy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_name(f".{path.name}.lock"), f"{path.name}: another process is fetching it"):
        if _is_there(path, file):  # the other process was faster
            return path
        reasons = []
        for url in file.urls:
            try:
                _fetch(url, file, path, policy)
            except RefusedError as error:
                reasons.append(f"{shown(url)} {error}")
                if len(reasons) < len(file.urls):
                    warn(f"{file.name}: {reasons[-1]}; trying the next address")
                continue
            except OSError as error:
                if disk_full(error):
                    raise UserError(
                        f"{file.name}: no space left on the disk of {folder}; free some, then the same "
                        "command goes on from here"
                    ) from None
                raise
            return path
    tried = "; ".join(reasons) or "no address is known"
    raise UserError(
        f"{file.name} cannot be fetched: {tried}; put it at {path} by hand, or name another place with data.mirrors=[…]"
    )


def _inside(folder: Path, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{name!r} would leave the folder {folder}")
    return folder / name


def _is_there(path: Path, file: RemoteFile) -> bool:
    if not path.is_file():
        return False
    if file.size is not None and path.stat().st_size != file.size:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, the published file {file.size:,}; move it away")
    return True


def _fetch(url: str, file: RemoteFile, path: Path, policy: RetryPolicy) -> None:
    """Asks one address until the file is whole.

    Raises:
        RefusedError: if it never will be.
    """
    if not url.startswith(("http://", "https://")):
        raise RefusedError("is neither http nor https")
    part = Partial(path, url)
    fruitless, slowly, restarts, most = 0, 0, 0, part.size
    timeout = httpx.Timeout(policy.timeout)
    with httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=5) as client:
        while True:
            try:
                _receive(client, url, file, part, policy)
                _verify(file, part)
                break
            except RetryError as error:
                failure, asked, slow = error, error.wait, error.slow
            except httpx.TransportError as error:
                failure, asked = RetryError(f"{type(error).__name__}: {error}".rstrip(": ")), None
                slow = False
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise RefusedError(f"{type(error).__name__}: {error}") from None
            if part.size > most:
                most, fruitless = part.size, fruitless if slow else 0
            fruitless += 1
            slowly = slowly + 1 if slow else 0
            if part.size == 0:
                restarts += 1
            patient = fruitless < policy.attempts and slowly < policy.slow_attempts
            if not patient or restarts > max(_RESTARTS, policy.attempts):
                raise RefusedError(f"failed {fruitless} times in a row, the last time: {failure}")
            time.sleep(wait_seconds(policy, fruitless, asked))
    part.finish()
    say(f"{file.name}: {path.stat().st_size / 1e6:,.1f} MB from {httpx.URL(url).host}")


def _receive(client: httpx.Client, url: str, file: RemoteFile, part: Partial, policy: RetryPolicy) -> None:
    """One request: from where the part ends to the end of the file.

    Raises:
        RetryError: if the body ended early or comes too slowly, or the server's file changed.
        RefusedError: for an answer that no retry will change.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "dig", **part.range_headers()}
    with Alarm(policy.head) as alarm:
        request = client.build_request("GET", url, headers=headers, extensions={"trace": alarm.trace})
        try:
            response = client.send(request, stream=True)
        except (httpx.HTTPError, OSError):
            if alarm.rang:
                raise RetryError(f"sent no whole answer within {policy.head:g} s") from None
            raise
    with closing(response):
        if response.status_code == 416 and part.size:
            if part.total == part.size:
                return
            part.restart()
            raise RetryError("its file is shorter than what was received")
        answer_of(response)
        if response.headers.get("content-type", "").startswith("text/html"):
            raise RefusedError("answered with a web page")
        part.accept(response)
        if file.size is not None and part.total is not None and part.total != file.size:
            offered = part.total
            part.restart()
            raise RefusedError(f"offers {offered:,} bytes, the published file has {file.size:,}")
        _announce(file, url, part)
        with byte_progress(file.name, part.total, part.size) as advance:
            _store(response, part, advance, policy)
    if part.total is not None and part.size != part.total:
        early = part.size < part.total
        reason = f"promised {part.total:,} bytes and sent {part.size:,}"
        if not early:
            part.restart()
        raise RetryError(reason)


def _store(response: httpx.Response, part: Partial, advance: Callable[[int], None], policy: RetryPolicy) -> None:
    began, came = time.monotonic(), 0
    with part.open() as stream:
        for chunk in response.iter_raw():  # as it comes: a gathered chunk would be lost with the connection
            stream.write(chunk)
            advance(len(chunk))
            came += len(chunk)
            if time.monotonic() - began >= policy.window:
                if came < policy.slowest * policy.window:
                    raise RetryError(
                        f"sent less than {policy.slowest:,.0f} bytes a second for {policy.window:g} s", slow=True
                    )
                began, came = time.monotonic(), 0


def _announce(file: RemoteFile, url: str, part: Partial) -> None:
    if progress_enabled():
        return
    size = f"{part.total / 1e6:,.1f} MB" if part.total is not None else "of unknown size"
    resumed = f", resuming at {part.size / 1e6:,.1f} MB" if part.size else ""
    say(f"fetching {file.name} from {httpx.URL(url).host} ({size}{resumed})")


def _verify(file: RemoteFile, part: Partial) -> None:
    """Checks a whole file.

    Raises:
        RefusedError: if it is not what was published; the part is gone then.
    """
    problem = None
    magic = _MAGIC.get(PurePosixPath(file.name).suffix)
    with part.path.open("rb") as stream:
        start = stream.read(4)
    if not part.size:
        problem = "sent an empty file"
    elif magic and not start.startswith(magic):
        problem = f"sent something that is no {PurePosixPath(file.name).suffix} file"
    elif file.size is not None and part.size != file.size:
        problem = f"sent {part.size:,} bytes, the published file has {file.size:,}"
    elif file.sha256 and hash_file(part.path) != file.sha256:
        problem = "sent a file with another checksum than the published one"
    if problem:
        part.restart()
        raise RefusedError(problem)
