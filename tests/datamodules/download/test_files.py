"""Downloads from a server that cuts, lies, refuses and dawdles."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.faulty_server import FaultyServer, Page

from datamodules.download import PUBLISHED, RemoteFile, RetryPolicy, download, published_files
from dig.config import UserError, list_experiments, load_config
from dig.engine.console import console

BODY = np.random.default_rng(0).bytes(100_000)
QUICK = RetryPolicy(attempts=4, backoff=0.001, timeout=2.0)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def fetched(server: FaultyServer, folder: Path, *paths: str, name: str = "x.bin", **known: object) -> bytes:
    urls = tuple(f"{server.url}{path}" for path in paths or ("/x",))
    with console.capture():
        return download(RemoteFile(name, urls, **known), folder, QUICK).read_bytes()  # type: ignore[arg-type]


def refused(server: FaultyServer, folder: Path, *paths: str, **known: object) -> str:
    with pytest.raises(UserError) as caught:
        fetched(server, folder, *paths, **known)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_good_server_is_asked_once(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY)
    digest = hashlib.sha256(BODY).hexdigest()
    assert fetched(server, tmp_path / "deep" / "er", size=len(BODY), sha256=digest) == BODY
    assert left(tmp_path / "deep" / "er") == {"x.bin"}
    assert fetched(server, tmp_path / "deep" / "er", size=len(BODY)) == BODY
    assert len(server.asked) == 1 and server.asked[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("etag", [None, '"v1"'])
def test_cut_connections_are_resumed_where_they_broke(server: FaultyServer, tmp_path: Path, etag: str | None):
    cuts = [10_000, 1, 30_000, 0, 20_000]
    server.pages["/x"] = Page(BODY, cuts=list(cuts), etag=etag)
    assert fetched(server, tmp_path) == BODY
    assert server.starts("/x") == [0, 10_000, 10_001, 40_001, 40_001, 60_001]
    assert server.sent["/x"] == len(BODY)  # no byte twice


def test_bytes_between_cuts_renew_the_patience(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, cuts=[5_000] * 15)  # more cuts than attempts
    assert fetched(server, tmp_path) == BODY
    server.pages["/y"] = Page(BODY, cuts=[5_000] + [0] * 15)
    assert "failed 4 times in a row" in refused(server, tmp_path, "/y", name="y.bin")
    assert (tmp_path / "y.bin.part").stat().st_size == 5_000  # what came stays


def test_a_server_that_ignores_ranges_is_not_appended(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, cuts=[40_000], honours_range=False)
    assert fetched(server, tmp_path) == BODY


def test_a_range_that_begins_elsewhere_is_not_glued(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, cuts=[40_000], shift=7)
    assert fetched(server, tmp_path) == BODY
    assert server.starts("/x") == [0, 40_000, 0]


def test_two_versions_are_not_glued(server: FaultyServer, tmp_path: Path):
    other = np.random.default_rng(1).bytes(len(BODY))
    server.pages["/x"] = Page(BODY, cuts=[40_000, 0, 0, 0], etag='"v1"')
    refused(server, tmp_path)
    server.pages["/x"] = Page(other, etag='"v2"')
    assert fetched(server, tmp_path) == other
    assert server.asked[-1].headers["If-Range"] == '"v1"' and server.asked[-1].start == 40_000


def test_a_length_that_changed_is_another_version(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, cuts=[40_000, 0, 0, 0])
    refused(server, tmp_path)
    server.pages["/x"] = Page(BODY[:-10] + b"other and longer")
    assert fetched(server, tmp_path).endswith(b"other and longer")


@pytest.mark.parametrize("promise", [len(BODY) + 5_000, len(BODY) - 5_000])
def test_a_lie_about_the_length_ends(server: FaultyServer, tmp_path: Path, promise: int):
    server.pages["/x"] = Page(BODY, promise=promise)
    if promise > len(BODY):
        text = refused(server, tmp_path)
        assert "/x failed" in text and left(tmp_path) <= {"x.bin.part", "x.bin.part.json"}
        assert len(server.asked) < 20
    else:  # the rest after what was promised is never read: the known size or hash tells
        assert "offers 95,000 bytes, the published file has 100,000" in refused(server, tmp_path, size=len(BODY))


@pytest.mark.parametrize("status", [429, 503, 500, 502])
def test_busy_servers_are_asked_again(server: FaultyServer, tmp_path: Path, status: int):
    server.pages["/x"] = Page(BODY, refusals=[status] * 3)
    assert fetched(server, tmp_path) == BODY
    assert len(server.asked) == 4
    server.pages["/y"] = Page(BODY, refusals=[status] * 4)
    assert f"answered {status}" in refused(server, tmp_path, "/y", name="y.bin")


def test_retry_after_is_honoured(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, refusals=[429], retry_after="1")
    fetched(server, tmp_path)
    first, second = (asked.moment for asked in server.asked)
    assert second - first >= 0.9


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_goes_to_the_next_address_at_once(server: FaultyServer, tmp_path: Path, status: int):
    server.pages["/gone"] = Page(refusals=[status])
    server.pages["/x"] = Page(BODY)
    assert fetched(server, tmp_path, "/gone", "/x") == BODY
    assert [asked.path for asked in server.asked] == ["/gone", "/x"]


def test_when_no_address_gives_it_all_are_named(server: FaultyServer, tmp_path: Path):
    server.pages["/page"] = Page(b"<html>", kind="text/html; charset=utf-8")
    secret = server.url.replace("http://", "http://user:secret@")
    file = RemoteFile("x.bin", (f"{server.url}/none?token=secret", f"{secret}/page", "ftp://host/x"))
    with pytest.raises(UserError) as caught, console.capture() as captured:
        download(file, tmp_path, QUICK)
    text = str(caught.value)
    assert "/none answered 404" in text and "/page answered with a web page" in text
    assert "is neither http nor https" in text and "data.mirrors" in text and str(tmp_path / "x.bin") in text
    assert "secret" not in text + captured.get() and left(tmp_path) == set()


def test_a_page_with_the_name_of_an_archive(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(b"<html>sorry</html>")
    assert "sent something that is not a .gz file" in refused(server, tmp_path, name="x.json.gz")
    server.pages["/x"] = Page(b"")
    assert "sent an empty file" in refused(server, tmp_path)
    assert left(tmp_path) == set()


def test_size_and_checksum_are_verified(server: FaultyServer, tmp_path: Path):
    server.pages["/x"], server.pages["/y"] = Page(BODY[:-1] + b"!"), Page(BODY)
    digest = hashlib.sha256(BODY).hexdigest()
    assert "another checksum" in refused(server, tmp_path, sha256=digest)
    assert "offers 100,000 bytes, the published file has 99" in refused(server, tmp_path, size=99)
    assert fetched(server, tmp_path, "/x", "/y", sha256=digest) == BODY  # the mirror has the right one
    assert "x.bin has 100,000 bytes, the published file 99" in refused(server, tmp_path, size=99)


def test_slow_is_fine_and_silent_is_not(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY[:3000], pause=0.05)
    assert fetched(server, tmp_path) == BODY[:3000]
    server.pages["/y"] = Page(BODY, hang=10.0)
    started = time.monotonic()
    assert fetched(server, tmp_path, "/y", name="y.bin") == BODY
    assert time.monotonic() - started < 10.0 and len(server.starts("/y")) == 2


def test_redirects_are_followed_but_not_in_circles(server: FaultyServer, tmp_path: Path):
    server.pages["/a"], server.pages["/x"] = Page(redirect="/x"), Page(BODY)
    assert fetched(server, tmp_path, "/a") == BODY
    server.pages["/circle"] = Page(redirect="/circle")
    assert "TooManyRedirects" in refused(server, tmp_path, "/circle", name="y.bin")


def test_a_whole_part_is_finished_without_its_bytes_again(server: FaultyServer, tmp_path: Path):
    """Killed between the last byte and the rename: the server answers 416, and the file is whole."""
    server.pages["/x"] = Page(BODY, cuts=[99_999, 0, 0, 0])
    refused(server, tmp_path)
    with (tmp_path / "x.bin.part").open("ab") as part:
        part.write(BODY[-1:])
    sent = server.sent["/x"]
    assert fetched(server, tmp_path) == BODY and server.sent["/x"] == sent


@pytest.mark.parametrize("notes", [None, "{broken", "{}"])
def test_a_part_of_unknown_origin_is_not_used(server: FaultyServer, tmp_path: Path, notes: str | None):
    (tmp_path / "x.bin.part").write_bytes(b"whatever")
    if notes:
        (tmp_path / "x.bin.part.json").write_text(notes)
    server.pages["/x"] = Page(BODY)
    assert fetched(server, tmp_path) == BODY and server.starts("/x") == [0]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_names_stay_in_the_folder(server: FaultyServer, tmp_path: Path, name: str):
    assert "would leave the folder" in refused(server, tmp_path, name=name)


def test_a_full_disk_is_one_line_and_the_part_stays(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.pages["/x"] = Page(BODY, cuts=[40_000, 0, 0, 0])
    refused(server, tmp_path)
    with monkeypatch.context() as patch, Path("/dev/full").open("ab", buffering=0) as full:
        patch.setattr("datamodules.download.retry.Partial.open", lambda part: full)
        assert "x.bin: no space left on the disk of" in refused(server, tmp_path)
    assert fetched(server, tmp_path) == BODY
    assert server.starts("/x")[-1] == 40_000


SCRIPT = """
import sys
from pathlib import Path
from datamodules.download import RemoteFile, RetryPolicy, download, published_files
from dig.engine.console import lines_to_console
with lines_to_console():
    download(RemoteFile("x.bin", (sys.argv[1],)), Path(sys.argv[2]), RetryPolicy(attempts=3, backoff=0.01))
"""


def start(url: str, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", SCRIPT, url, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_process_is_followed_by_one_that_resumes(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, pause=0.01, piece=500, etag='"v1"')
    part = tmp_path / "x.bin.part"
    first = start(f"{server.url}/x", tmp_path)
    wait_for(lambda: part.exists() and part.stat().st_size > 20_000)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    size = part.stat().st_size
    assert 20_000 < size < len(BODY) and not (tmp_path / "x.bin").exists()
    server.pages["/x"].pause = 0.0
    second = start(f"{server.url}/x", tmp_path)
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 0, output
    assert server.starts("/x") == [0, size]  # exactly where it was
    assert "resuming at 0.0 MB" in output and left(tmp_path) == {"x.bin"}
    assert hashlib.sha256((tmp_path / "x.bin").read_bytes()).digest() == hashlib.sha256(BODY).digest()


def test_of_two_processes_one_fetches_and_one_waits(server: FaultyServer, tmp_path: Path):
    server.pages["/x"] = Page(BODY, pause=1.0, piece=1000)
    first = start(f"{server.url}/x", tmp_path)
    wait_for(lambda: (tmp_path / "x.bin.part").exists())
    second = start(f"{server.url}/x", tmp_path)
    assert second.stdout is not None
    said = next(line for line in second.stdout if "another process is fetching it; waiting" in line)
    server.pages["/x"].pause = 0.0  # it continues only now, however slowly the second one started
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert said and server.starts("/x") == [0] and (tmp_path / "x.bin").read_bytes() == BODY


def test_a_server_that_trickles_is_given_up(server: FaultyServer, tmp_path: Path):
    """Guard 4: what comes too slowly is not progress, and the limit is told; what came stays for the next command."""
    server.pages["/x"] = Page(BODY, pause=0.02, piece=1)
    policy = RetryPolicy(attempts=6, backoff=0.001, slowest=1000.0, window=0.3)
    with pytest.raises(UserError, match=r"failed 2 times in a row.*sent less than 1,000 bytes per second for 0\.3 s"):
        download(RemoteFile("x.bin", (f"{server.url}/x",)), tmp_path, policy)
    assert 0 < (tmp_path / "x.bin.part").stat().st_size < 1000


def test_a_head_that_trickles_is_given_up(tmp_path: Path):
    """Guard 4: a head whose bytes come one by one has a limit of its own."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def trickle() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    for number in range(50):
                        connection.sendall(b"X-%d: y\r\n" % number)
                        time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        policy = RetryPolicy(attempts=1, backoff=0.001, timeout=5.0, head=0.4)
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"sent no whole answer within 0\.4 s"):
            download(RemoteFile("x.bin", (url,)), tmp_path, policy)
    assert time.monotonic() - begun < 2.4


def test_a_mirror_is_named_by_its_variable(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guard 7: an address with a signature stays in the environment: no file, line or error holds it."""
    signature = "first-signature"
    monkeypatch.setenv("MY_MIRROR", f"{server.url}/folder-word?sig={signature}")
    files = published_files("amazon2014/Beauty", ["env:MY_MIRROR"])
    assert files[0].urls[0] == f"{server.url}/folder-word/reviews_Beauty_5.json.gz?sig={signature}"
    server.pages[f"/folder-word/reviews_Beauty_5.json.gz?sig={signature}"] = Page(b"\x1f\x8b" + BODY, cuts=[100])
    file = replace(files[0], urls=files[0].urls[:1])
    server.pages[f"/folder-word/x?sig={signature}"] = Page(refusals=[404])
    with console.capture() as text:
        path = download(file, tmp_path, QUICK)
        with pytest.raises(UserError) as raised:
            download(replace(file, name="y", urls=(f"{server.url}/folder-word/x?sig={signature}",)), tmp_path, QUICK)
    assert path.read_bytes() == b"\x1f\x8b" + BODY
    told = text.get() + str(raised.value)
    assert signature not in told and "folder-word" not in told
    with pytest.raises(UserError, match=r"NO_SUCH is not set, and data\.mirrors=env:NO_SUCH needs it"):
        published_files("amazon2014/Beauty", ["env:NO_SUCH"])


def test_what_is_left_of_a_fetch_does_not_hold_its_address(server: FaultyServer, tmp_path: Path):
    """Guard 7: notes beside a part name the address by its hash, so that a signature in it stays out of files."""
    server.pages["/x?sig=first-signature"] = Page(BODY, cuts=[100] * 9, etag='"1"')
    with pytest.raises(UserError):
        download(RemoteFile("x.bin", (f"{server.url}/x?sig=first-signature",)), tmp_path, RetryPolicy(1, 0.001))
    assert left(tmp_path) and all(b"first-signature" not in path.read_bytes() for path in tmp_path.iterdir())


def test_every_data_set_has_reviews_and_metadata():
    assert len(PUBLISHED) == 9
    for name in PUBLISHED:
        release, category = name.split("/")
        files = published_files(name)
        names = [file.name for file in files]
        assert sum(each.startswith("meta_") for each in names) == 1 and all(category in each for each in names)
        assert len(names) == (4 if release == "amazon2023-split" else 2)
        for file in files:
            assert file.urls and all(url.startswith("https://") and url.endswith(f"/{file.name}") for url in file.urls)


def test_addresses_as_documented():
    assert published_files("amazon2014/Beauty")[0].urls == (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Beauty_5.json.gz",
    )
    reviews, items = published_files("amazon2018/Musical_Instruments")
    assert "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall/Musical_Instruments_5.json.gz" in reviews.urls
    assert items.urls[0] == (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/metaFiles2/meta_Musical_Instruments.json.gz"
    )
    ratings = published_files("amazon2023/Industrial_and_Scientific")[0]
    assert ratings.urls[0] == (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only/"
        "Industrial_and_Scientific.csv.gz"
    )


def test_mirrors_come_first():
    file = published_files("amazon2014/Beauty", ["http://near/data/"])[1]
    assert file.urls[0] == "http://near/data/meta_Beauty.json.gz" and len(file.urls) == 2


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(UserError, match=r"data.published='amazon2014/Beaty' is not known; did you mean amazon2014/Bea"):
        published_files("amazon2014/Beaty")


def test_experiments_name_data_sets_that_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_DATA_ROOT", "/nowhere")
    named = {name: load_config(name).data.published for name in list_experiments()}
    assert {"beauty", "sports", "toys", "instruments", "industrial_2018"} <= {n for n, key in named.items() if key}
    assert {key for key in named.values() if key} <= set(PUBLISHED)
