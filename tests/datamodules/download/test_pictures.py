"""Pictures: decoded to prove what they are, bounded, misses recorded and tried again."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.faulty_server import FaultyServer, Page

from datamodules.download import PictureReport, fetch_pictures, picture_paths
from datamodules.download.pictures import RECORD, check_picture, is_public
from dig.config import UserError
from dig.config.schema import PictureConfig
from dig.engine.console import console
from dig.engine.signals import Preempted, watched

LIMITS = PictureConfig(
    concurrency=8, per_host=3, max_bytes=200_000, max_side=10_000, attempts=2, timeout=5.0, allow_private_hosts=True
)


def picture(form: str = "png", size: tuple[int, int] = (8, 6)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        running.pages["/good.png"] = Page(picture())
        yield running


def fetched(images: dict[str, str], folder: Path, limits: PictureConfig = LIMITS) -> PictureReport:
    with console.capture():
        return fetch_pictures(images, folder, limits, backoff=0.001)


def reasons(folder: Path) -> dict[str, str | None]:
    lines = [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]
    return {line["item_id"]: line["reason"] for line in lines}


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif"])
def test_a_picture_is_one(form: str):
    assert check_picture(picture(form), 10_000) == form


HTML = b"<!DOCTYPE html><html><body>not found</body></html>"
SVG = b'  <svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (HTML, "a web page or SVG, not a picture"),
        (SVG, "a web page or SVG, not a picture"),
        (b"GIF89a", "damaged|not a picture"),
        (b"plain text", "not a picture"),
        (picture("png", (64, 64))[:100], "damaged"),
        (picture("jpeg", (64, 64))[:300], "damaged|not a picture"),
        (picture(size=(20_000, 1)), "20000 × 1 pixels, more than 10000"),
        (picture(size=(3, 20_000)), "3 × 20000 pixels, more than 10000"),
    ],
)
def test_what_is_no_picture_or_too_large(data: bytes, reason: str):
    with pytest.raises(ValueError, match=reason):
        check_picture(data, 10_000)


def test_a_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    def never(self: object) -> None:
        raise AssertionError("decoded")

    data = picture(size=(20_000, 1))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(ValueError, match="more than 10000"):
        check_picture(data, 10_000)


def test_fetched_once_found_again_and_misses_tried_again(server: FaultyServer, tmp_path: Path):
    server.pages["/late.jpg"] = Page(HTML)
    images = {
        "a": f"{server.url}/good.png",
        "b": f"{server.url}/good.png",
        "c": f"{server.url}/none.png",
        "d": f"{server.url}/late.jpg",
    }
    report = fetched(images, tmp_path)
    assert (report.fetched, report.cached, report.missing) == (2, 0, 2)
    assert reasons(tmp_path) == {
        "a": None,
        "b": None,
        "c": "answered 404 Not Found",
        "d": "a web page or SVG, not a picture",
    }
    assert sum(asked.path == "/good.png" for asked in server.asked) == 1  # one address, two items
    paths = picture_paths(tmp_path)
    assert set(paths) == {"a", "b"} and Image.open(paths["a"]).size == (8, 6)
    server.pages["/late.jpg"] = Page(picture("jpeg"))
    asked = len(server.asked)
    report = fetched(images, tmp_path)
    assert (report.fetched, report.cached, report.missing) == (1, 2, 1)
    assert [each.path for each in server.asked[asked:]].count("/good.png") == 0
    assert picture_paths(tmp_path)["d"].suffix == ".jpg"


def test_a_file_that_is_gone_is_fetched_again(server: FaultyServer, tmp_path: Path):
    images = {"a": f"{server.url}/good.png"}
    fetched(images, tmp_path)
    picture_paths(tmp_path)["a"].unlink()
    assert picture_paths(tmp_path) == {}
    assert fetched(images, tmp_path).fetched == 1


def test_busy_servers_are_asked_again_and_slow_ones_given_up(server: FaultyServer, tmp_path: Path):
    server.pages["/busy"] = Page(picture(), refusals=[503])
    server.pages["/always"] = Page(picture(), refusals=[429] * 9)
    server.pages["/hang"] = Page(picture(), hang=4.0)
    server.pages["/cut"] = Page(picture(), cuts=[10])
    images = {name: f"{server.url}/{name}" for name in ("busy", "always", "hang", "cut")}
    report = fetched(images, tmp_path, replace(LIMITS, timeout=2.0))
    assert reasons(tmp_path)["always"] == "answered 429 Too Many Requests"
    assert set(picture_paths(tmp_path)) == {"busy", "hang", "cut"} and report.missing == 1


def test_no_more_bytes_than_allowed(server: FaultyServer, tmp_path: Path):
    server.pages["/big"] = Page(picture() + b"\0" * 300_000)
    assert fetched({"a": f"{server.url}/big"}, tmp_path).reasons == {"larger than 200,000 bytes": 1}


def test_no_more_requests_a_host_than_allowed(server: FaultyServer, tmp_path: Path):
    images = {}
    for number in range(20):
        server.pages[f"/{number}"] = Page(picture(), pause=0.01, piece=20)
        images[str(number)] = f"{server.url}/{number}"
    assert fetched(images, tmp_path).fetched == 20
    assert 1 < server.most_busy <= 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://host/x", "neither http nor https"),
        ("http://user:word@host/x.png", "address with a password"),
        ("http://", "neither http nor https"),
        ("not an address", "neither http nor https"),
        ("http://[::1", ""),
        ("http://127.0.0.1:1/x.png", "private network"),
        ("http://169.254.169.254/latest/meta-data", "private network"),
        ("http://[::1]/x.png", "private network"),
        ("http://localhost/x.png", "private network"),
    ],
)
def test_addresses_from_item_data_are_untrusted(url: str, reason: str, tmp_path: Path):
    report = fetched({"a": url}, tmp_path, replace(LIMITS, allow_private_hosts=False))
    assert report.missing == 1 and reason in next(iter(report.reasons))


def test_a_redirect_into_the_private_network_is_refused(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first host passes for public, the one it sends to does not."""
    port = server.url.rpartition(":")[2]
    real = socket.getaddrinfo

    def resolve(host: str | bytes, *rest: object, **named: object) -> object:
        host = host.decode() if isinstance(host, bytes) else host
        if host == "shop.example" and not rest[0]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]
        return real("127.0.0.1" if host == "shop.example" else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server.pages["/x"] = Page(redirect=f"http://127.0.0.1:{port}/good.png")
    report = fetched({"a": f"http://shop.example:{port}/x"}, tmp_path, replace(LIMITS, allow_private_hosts=False))
    assert "private network" in next(iter(report.reasons)) and [a.path for a in server.asked] == ["/x"]


def test_redirects_are_followed_a_few_times(server: FaultyServer, tmp_path: Path):
    server.pages["/a"], server.pages["/circle"] = Page(redirect="/good.png"), Page(redirect="/circle")
    report = fetched({"a": f"{server.url}/a", "b": f"{server.url}/circle"}, tmp_path)
    assert report.fetched == 1 and report.reasons == {"too many redirects": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_keeps_the_record_and_ends_at_once(server: FaultyServer, tmp_path: Path, number: int):
    """Guard 5: a signal ends a fetch that waits for servers within seconds, and what came is kept."""
    server.pages["/slow"] = Page(picture(), hang=30.0)
    images = {"a": f"{server.url}/good.png", "b": f"{server.url}/none", "c": f"{server.url}/slow"}
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    with pytest.raises((KeyboardInterrupt, Preempted)), watched(grace=30.0, may_requeue=False):
        timer.start()
        fetched(images, tmp_path, replace(LIMITS, timeout=30.0))
    assert time.monotonic() - server.asked[0].moment < 5
    assert set(reasons(tmp_path)) == {"a", "b"} and set(picture_paths(tmp_path)) == {"a"}


def test_a_picture_has_a_whole_limit(server: FaultyServer, tmp_path: Path):
    """Guard 4: a server that trickles, in a body, over redirects or between attempts, keeps nobody for ever."""
    server.pages["/body"] = Page(picture(), pause=0.2, piece=1)
    server.pages["/again"] = Page(picture(), refusals=[503] * 9, hang=0.3)
    images = {name: f"{server.url}/{name}" for name in ("body", "again")}
    begun = time.monotonic()
    report = fetched(images, tmp_path, replace(LIMITS, timeout=5.0, max_seconds=0.8))
    assert time.monotonic() - begun < 4
    assert reasons(tmp_path)["body"] == "not whole within 0.8 s (data.pictures.max_seconds)" and report.missing == 2


def test_a_head_that_trickles_has_the_same_limit(tmp_path: Path):
    """Guard 4: bytes of a head count as little as those of a body."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def trickle() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for number in range(100):
                    connection.sendall(b"X-%d: y\r\n" % number)
                    time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        begun = time.monotonic()
        report = fetched(
            {"a": f"http://127.0.0.1:{server.getsockname()[1]}/x"},
            tmp_path,
            replace(LIMITS, timeout=5.0, max_seconds=0.6, attempts=1),
        )
    assert time.monotonic() - begun < 3 and "not whole within 0.6 s" in next(iter(report.reasons))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:224.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "4000::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "x",
    ],
)
def test_addresses_that_are_no_public_hosts(address: str):
    """Guard 10: groups, reserved, unspecified, benchmarks' and embedded private addresses are not public."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
)
def test_addresses_of_public_hosts(address: str):
    """Guard 10: what carries a public address of IPv4 is as public as that."""
    assert is_public(address)


def test_nothing_to_fetch(tmp_path: Path):
    assert fetched({}, tmp_path) == PictureReport(0, 0, 0, {})
    assert picture_paths(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: line 1 is not JSON"),
        ("[1]", "line 2: it must hold keys and values, not a list"),
        ('{"item_id": "b", "url": "http://x/b", "file": 1, "reason": null}', "line 2: file is a whole number"),
        ('{"item_id": "b", "url": "http://x/b"}', "line 2: file is missing"),
        ('{"item_id": null, "url": "http://x/b", "file": null, "reason": null}', "a line has no item_id"),
        ("[" * 200_000, "line 2: it is deeper than 64 levels"),
    ],
)
def test_a_record_of_pictures_that_is_malformed_is_one_line(tmp_path: Path, line: str, said: str):
    """Guard 9: a malformed pictures.jsonl raised."""
    first = '{"item_id": "a", "url": "http://x/a", "file": "a.png", "reason": null}'
    (tmp_path / RECORD).write_text(f"{first}\n{line}\n")
    with pytest.raises(UserError) as caught:
        picture_paths(tmp_path)
    assert said in str(caught.value) and "delete the file" in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / RECORD).write_text(f"{first}\n\n")
    (tmp_path / "a.png").write_bytes(picture())
    assert picture_paths(tmp_path) == {"a": tmp_path / "a.png"}
