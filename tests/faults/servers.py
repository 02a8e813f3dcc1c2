"""Servers that trickle, refuse, lie and restart: mining's endpoint, the publisher's files, the shop's pictures."""

from __future__ import annotations

import gzip
import io
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import yaml
from PIL import Image
from support.chat_process import ChatProcess
from support.faulty_server import FaultyServer, Page

from faults.commands import run as run_command
from faults.restarting_chat import RestartingChat
from faults.verdicts import LOST, Ending, Figures, verdict
from faults.workshop import Workshop

__all__ = ["run"]

_ITEMS = 60
_LIMIT = 150.0
_LIES = {
    "answers of another shape": {"faults": ["shape"], "fault_share": 1.0, "lasting": True},
    "answers about another item": {"faults": ["another"], "fault_share": 1.0, "lasting": True},
    "empty answers": {"faults": ["empty"], "fault_share": 1.0, "lasting": True},
    "answers cut off": {"faults": ["cut"], "fault_share": 1.0, "lasting": True},
    "answers of 10 MB, once each": {"faults": ["huge"], "fault_share": 0.1},
    "a page to sign in": {"habit": "page"},
    "an error within an answer": {"habit": "error_500"},
    "all its faults, once each": {
        "faults": ["429", "500", "cut", "truncated", "shape", "prose", "encoding"],
        "fault_share": 0.4,
    },
}
_DOWNLOAD = """
import dataclasses, sys
from datamodules.download import files
for name, each in list(files.PUBLISHED.items()):
    files.PUBLISHED[name] = dataclasses.replace(each, bases=())  # the mirror alone, nobody outside
from dig.train import main
sys.exit(main(sys.argv[1:]))
"""


def run(workshop: Workshop) -> Figures:
    """Mines, downloads and fetches pictures from servers that misbehave."""
    figures = Figures("servers", "servers that trickle, refuse, lie and restart")
    _mining(workshop, figures)
    _downloads(workshop, figures)
    _pictures(workshop, figures)
    return figures


def _mining(workshop: Workshop, figures: Figures) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        refusing = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    _mine(workshop, figures, "an endpoint that refuses connections", refusing)
    with _trickle() as url:
        _mine(workshop, figures, "an endpoint that sends a byte now and then", url, timeout=3.0)
    for told, plan in list(_LIES.items())[: 2 if workshop.small else None]:
        with ChatProcess(workshop.place("chat"), **plan) as server:
            _mine(workshop, figures, f"an endpoint with {told}", server.url)
    with RestartingChat(workshop.place("chat"), up=0.4, down=0.6) as chat:
        _mine(workshop, figures, "an endpoint that restarts every second", chat.url, concurrency=2)


def _mine(workshop: Workshop, figures: Figures, told: str, url: str, **settings: object) -> None:
    """Mines from a bad endpoint, and then from a good one: what was answered before is not asked again."""
    place = workshop.place("mining")
    model = {"model": "m-1", "base_url": url, "backoff": 0.05, "retries": 3, **settings}
    content = {
        "extends": "quickstart",
        "stages": ["mine"],
        "logging": {"progress": False},
        "data": {"shop": {"items": _ITEMS, "users": 80}},
        "visual": {"model": None, "adapt": {"epochs": 0}},
        "mining": {"miners": ["m"], "models": {"m": model}, "max_missing": 0.1},
    }
    path = place / "mining.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = ("dig.train", f"experiment={path}")
    ending = run_command(command, place, place / "home", _LIMIT)
    kept = _answered(place)
    figures.count(f"{told}: dig.train", verdict(ending), ending)
    with ChatProcess(place / "good") as good:
        again = ("dig.train", f"experiment={path}", f"mining.models.m.base_url={good.url}")
        after = run_command(again, place, place / "home", _LIMIT)
        asked = len(good.log())
    what = verdict(after) if after.code == 0 and asked <= max(_ITEMS - kept, 0) + 2 else LOST
    figures.count("the same command at a good endpoint", what, after, f"after {told}: {kept} kept, {asked} asked")
    told_of = f"{kept} of {_ITEMS} answers kept, {asked} asked afterwards"
    figures.remarks.append(f"{told}: {ending.seconds:.1f} s, {told_of}")


def _answered(place: Path) -> int:
    store = place / "home" / "interests" / "answers.sqlite"
    with suppress(sqlite3.Error), closing(sqlite3.connect(store, timeout=10)) as base:
        return int(base.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    return 0


@contextmanager
def _trickle() -> Iterator[str]:
    """The address of a server that answers every request with a header at once and then a byte in each half second."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    ended = threading.Event()

    def answer(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
            while not ended.wait(0.5):
                client.sendall(b" ")

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        ended.set()
        listening.close()


def _downloads(workshop: Workshop, figures: Figures) -> None:
    reviews = [
        {"reviewerID": f"u{user}", "asin": f"i{(user + step) % 5}", "overall": 5.0, "unixReviewTime": 1000 * step}
        for user in range(6)
        for step in range(4)
    ]
    items = [{"asin": f"i{item}", "title": f"Item {item}", "categories": [["Beauty"]]} for item in range(9)]
    bodies = {
        "/reviews_Beauty_5.json.gz": "".join(f"{json.dumps(each)}\n" for each in reviews),
        "/meta_Beauty.json.gz": "".join(f"{each}\n" for each in items),
    }
    packed = {path: gzip.compress(body.encode()) for path, body in bodies.items()}
    cases: dict[str, Callable[[bytes], Page]] = {
        "cuts the connection every 40 bytes": lambda body: Page(body, cuts=[40] * 30),
        "refuses twenty times": lambda body: Page(body, refusals=[503] * 20),
        "promises more than it sends": lambda body: Page(body, promise=100_000),
        "sends another part than asked for": lambda body: Page(body, cuts=[40] * 3, shift=7),
        "sends a page in place of the file": lambda body: Page(b"<html>hello</html>", kind="text/html"),
        "sends a byte every two seconds": lambda body: Page(body, pause=2.0, piece=1),
    }
    for told, page in list(cases.items())[: 2 if workshop.small else None]:
        place = workshop.place("download")
        with FaultyServer() as server:
            server.pages |= {path: page(body) for path, body in packed.items()}
            arguments = ("experiment=beauty", "data.download=true", f"data.mirrors=[{server.url}]", "stages=[prepare]")
            ending = _with_data(place, arguments)
            figures.count(f"a mirror that {told}", verdict(ending), ending)
            server.pages |= {path: Page(body) for path, body in packed.items()}
            after = _with_data(place, arguments)
            figures.count("the same command at a good mirror", LOST if after.code else verdict(after), after, told)


def _with_data(place: Path, arguments: tuple[str, ...]) -> Ending:
    script = place / "download.py"
    script.write_text(_DOWNLOAD, encoding="utf-8")
    return run_command(
        ("dig.train", *arguments), place, place / "home", _LIMIT, script=script, DIG_DATA_ROOT=str(place)
    )


def _pictures(workshop: Workshop, figures: Figures) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(stream, "png")
    good = stream.getvalue()
    pages = {
        "good": Page(good, kind="image/png"),
        "page": Page(b"<html></html>", kind="image/png"),
        "cut": Page(good, cuts=[100] * 9, kind="image/png"),
        "none": Page(good, refusals=[404] * 9),
        "busy": Page(good, refusals=[503] * 9),
        "hangs": Page(good, hang=60.0),
        "trickles": Page(good, pause=1.0, piece=1, kind="image/png"),
    }
    place = workshop.place("pictures")
    tables = place / "tables"
    tables.mkdir()
    with FaultyServer() as server:
        server.pages |= {f"/{name}.png": page for name, page in pages.items()}
        rows = [{"item_id": name, "title": name, "image": f"{server.url}/{name}.png"} for name in pages]
        (tables / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        bought = [f"u{user},{name},{step}\n" for user in range(8) for step, name in enumerate(pages)]
        (tables / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "".join(bought), encoding="utf-8")
        fetch = "data.pictures={fetch: true, allow_private_hosts: true, timeout: 3}"
        command = ("dig.train", f"data.path={tables}", fetch, "stages=[prepare]")
        began = time.monotonic()
        ending = run_command(command, place, place / "home", _LIMIT)
    figures.count("pictures from a server of seven habits", verdict(ending), ending)
    said = next((line for line in ending.output.splitlines() if "fetched" in line), "nothing of pictures")
    figures.remarks.append(f"pictures, after {time.monotonic() - began:.1f} s: {said}")
