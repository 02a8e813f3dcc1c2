"""Large files over HTTP: resumed where they stopped, retried, verified, from the first address that gives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx

from datamodules.download.retry import (
    Alarm,
    DownloadRefusedError,
    Partial,
    RetryError,
    RetryPolicy,
    answer_of,
    shown,
    wait_seconds,
)
from dig.config import UserError, nearest
from dig.config.sections.checks import secret_value
from dig.engine.artifacts import disk_full, hash_file
from dig.engine.console import byte_progress, progress_enabled, say, warn
from dig.engine.own_files import lock
from dig.engine.secrets import named_variable

__all__ = ["RemoteFile", "download", "download_all", "PUBLISHED", "Publication", "published_files"]


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
    """Fetches a file unless it is there; an interrupted fetch resumes where it stopped.

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
            except DownloadRefusedError as error:
                reasons.append(f"{shown(url)} {error}")
                if len(reasons) < len(file.urls):
                    warn(f"{file.name}: {reasons[-1]}; trying the next address")
                continue
            except OSError as error:
                if disk_full(error):
                    raise UserError(
                        f"{file.name}: no space left on the disk of {folder}; free some, then the same "
                        "command resumes from here"
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
        DownloadRefusedError: if it never will be.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadRefusedError("is neither http nor https")
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
                raise DownloadRefusedError(f"{type(error).__name__}: {error}") from None
            if part.size > most:
                most, fruitless = part.size, fruitless if slow else 0
            fruitless += 1
            slowly = slowly + 1 if slow else 0
            if part.size == 0:
                restarts += 1
            patient = fruitless < policy.attempts and slowly < policy.slow_attempts
            if not patient or restarts > max(_RESTARTS, policy.attempts):
                raise DownloadRefusedError(f"failed {fruitless} times in a row, the last time: {failure}")
            time.sleep(wait_seconds(policy, fruitless, asked))
    part.finish()
    say(f"{file.name}: {path.stat().st_size / 1e6:,.1f} MB from {httpx.URL(url).host}")


def _receive(client: httpx.Client, url: str, file: RemoteFile, part: Partial, policy: RetryPolicy) -> None:
    """One request: from where the part ends to the end of the file.

    Raises:
        RetryError: if the body ended early or comes too slowly, or the server's file changed.
        DownloadRefusedError: for an answer that no retry will change.
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
            raise DownloadRefusedError("answered with a web page")
        part.accept(response)
        if file.size is not None and part.total is not None and part.total != file.size:
            offered = part.total
            part.restart()
            raise DownloadRefusedError(f"offers {offered:,} bytes, the published file has {file.size:,}")
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
                        f"sent less than {policy.slowest:,.0f} bytes per second for {policy.window:g} s", slow=True
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
        DownloadRefusedError: if it is not what was published; the part is gone then.
    """
    problem = None
    magic = _MAGIC.get(PurePosixPath(file.name).suffix)
    with part.path.open("rb") as stream:
        start = stream.read(4)
    if not part.size:
        problem = "sent an empty file"
    elif magic and not start.startswith(magic):
        problem = f"sent something that is not a {PurePosixPath(file.name).suffix} file"
    elif file.size is not None and part.size != file.size:
        problem = f"sent {part.size:,} bytes, the published file has {file.size:,}"
    elif file.sha256 and hash_file(part.path) != file.sha256:
        problem = "sent a file with another checksum than the published one"
    if problem:
        part.restart()
        raise DownloadRefusedError(problem)


# The publishers' addresses of data sets, as their pages document them.


# 2014: "Amazon product data", jmcauley.ucsd.edu/data/amazon/links.html, which points to SNAP.
_SNAP = ("https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",)
# 2018 and 2023: nijianmo.github.io/amazon and amazon-reviews-2023.github.io; the lab's host has moved several times.
_LAB = (
    "https://mcauleylab.ucsd.edu/public_datasets/data",
    "https://datarepo.eng.ucsd.edu/mcauley_group/data",
    "https://jmcauley.ucsd.edu/data",
)
_2018, _2023 = "amazon_v2", "amazon_2023"


@dataclass(frozen=True)
class Publication:
    """A published data set.

    Attributes:
        bases: hosts that carry it, the publisher's first.
        paths: its files' paths under a base.
    """

    bases: tuple[str, ...]
    paths: tuple[str, ...]


def _amazon2014(category: str) -> Publication:
    return Publication(_SNAP, (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"))


def _amazon2018(category: str) -> Publication:
    reviews, items = f"{_2018}/categoryFilesSmall/{category}_5.json.gz", f"{_2018}/metaFiles2/meta_{category}.json.gz"
    return Publication(_LAB, (reviews, items))


def _amazon2023(category: str, ratings: Sequence[str]) -> Publication:
    items = f"{_2023}/raw/meta_categories/meta_{category}.jsonl.gz"
    return Publication(_LAB[:2], (*(f"{_2023}/benchmark/5core/{name}.csv.gz" for name in ratings), items))


def _amazon2023_whole(category: str) -> Publication:
    return _amazon2023(category, [f"rating_only/{category}"])


def _amazon2023_split(category: str) -> Publication:
    return _amazon2023(category, [f"last_out/{category}.{part}" for part in ("train", "valid", "test")])


PUBLISHED: dict[str, Publication] = {
    **{f"amazon2014/{name}": _amazon2014(name) for name in ("Beauty", "Sports_and_Outdoors", "Toys_and_Games")},
    **{
        f"{release}/{name}": make(name)
        for release, make in (
            ("amazon2018", _amazon2018),
            ("amazon2023", _amazon2023_whole),
            ("amazon2023-split", _amazon2023_split),
        )
        for name in ("Musical_Instruments", "Industrial_and_Scientific")
    },
}
"""Data sets by name. Lengths and checksums are not published; what arrives is checked against the server's length."""


def published_files(dataset: str, mirrors: Sequence[str] = ()) -> list[RemoteFile]:
    """The files of a data set with all addresses, the mirrors' first.

    Args:
        dataset: a key of :data:`PUBLISHED`.
        mirrors: addresses of folders that hold the files by their names; ``env:NAME`` for one in the environment.

    Raises:
        UserError: for an unknown data set, with the nearest one; for an environment variable that is not set.
    """
    if dataset not in PUBLISHED:
        hint = nearest(dataset, PUBLISHED) or ", ".join(PUBLISHED)
        raise UserError(f"data.published={dataset!r} is not known; did you mean {hint}?", exit_code=2)
    publication = PUBLISHED[dataset]
    files = []
    for path in publication.paths:
        name = path.rpartition("/")[2]
        own = [_in_mirror(mirror, name) for mirror in mirrors]
        files.append(RemoteFile(name, (*own, *(f"{base}/{path}" for base in publication.bases))))
    return files


def _in_mirror(mirror: str, name: str) -> str:
    """The address of a file in a mirror; a query, which may hold a signature, stays behind it."""
    variable = named_variable(mirror)
    address = mirror if variable is None else secret_value(variable, f"data.mirrors={mirror} needs it for an address")
    folder, mark, query = address.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"
