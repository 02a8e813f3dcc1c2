"""A local HTTP server that misbehaves on request, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Page:
    """What lies under a path, and how it is served.

    Attributes:
        body: the content.
        cuts: bytes after which the connection is cut, one entry a request, until the list is used up.
        refusals: statuses answered first, one a request.
        promise: a Content-Length that is not true.
        honours_range: False sends the whole body whatever was asked.
        shift: bytes by which a range starts too late.
        pause: seconds between two pieces of ``piece`` bytes.
        hang: seconds before the first byte, used up by the first request.
        etag: its version; None sends none.
        kind: its Content-Type.
        redirect: sends elsewhere.
        retry_after: header that goes with a refusal.
    """

    body: bytes = b""
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    promise: int | None = None
    honours_range: bool = True
    shift: int = 0
    pause: float = 0.0
    piece: int = 1000
    hang: float = 0.0
    etag: str | None = None
    kind: str = "application/octet-stream"
    redirect: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request: its path, where its range began, and when it came."""

    path: str
    start: int
    headers: dict[str, str]
    moment: float


class FaultyServer:
    """Serves pages until the block ends; ``url`` is its address."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        self.sent: dict[str, int] = {}
        self.busy = 0
        self.most_busy = 0
        self._left: set[BaseHTTPRequestHandler] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def starts(self, path: str) -> list[int]:
        """Where the ranges began that were asked for under a path."""
        return [asked.start for asked in self.asked if asked.path == path]

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        with self._lock:
            self.asked.append(Asked(request.path, start, dict(request.headers), time.monotonic()))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            self._answer(request, self.pages.get(request.path), start if found else None)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough
        finally:
            self._leave(request)
        request.close_connection = True

    def _leave(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            if request not in self._left:
                self._left.add(request)
                self.busy -= 1

    def _answer(self, request: BaseHTTPRequestHandler, page: Page | None, start: int | None) -> None:
        if page is None:
            self._refuse(request, 404)
            return
        if page.hang:
            seconds, page.hang = page.hang, 0.0
            time.sleep(seconds)
        if page.refusals:
            self._refuse(request, page.refusals.pop(0), page.retry_after)
            return
        if page.redirect is not None:
            request.send_response(302)
            request.send_header("Location", page.redirect)
            request.send_header("Connection", "close")
            request.end_headers()
            return
        same = request.headers.get("If-Range") in (None, page.etag)
        begin = start if start is not None and page.honours_range and same else None
        if begin is not None and begin >= len(page.body):
            self._refuse(request, 416)
            return
        self._send(request, page, begin)

    def _send(self, request: BaseHTTPRequestHandler, page: Page, begin: int | None) -> None:
        first = 0 if begin is None else begin + page.shift
        rest = page.body[first:]
        request.send_response(200 if begin is None else 206)
        promised = page.promise - first if page.promise is not None else len(rest)
        request.send_header("Content-Length", str(promised))
        request.send_header("Content-Type", page.kind)
        request.send_header("Connection", "close")
        if page.etag:
            request.send_header("ETag", page.etag)
        if begin is not None:
            total = page.promise if page.promise is not None else len(page.body)
            request.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        request.end_headers()
        cut = page.cuts.pop(0) if page.cuts else None
        self._write(request, page, rest[:cut])

    def _write(self, request: BaseHTTPRequestHandler, page: Page, body: bytes) -> None:
        step = page.piece if page.pause else max(len(body), 1)
        for place in range(0, len(body), step):
            piece = body[place : place + step]
            if page.pause and place + step >= len(body):
                self._leave(request)  # whoever has the last piece may ask again before this thread continues
            request.wfile.write(piece)
            with self._lock:
                self.sent[request.path] = self.sent.get(request.path, 0) + len(piece)
            if page.pause:
                time.sleep(page.pause)

    @staticmethod
    def _refuse(request: BaseHTTPRequestHandler, status: int, retry_after: str | None = None) -> None:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.send_header("Connection", "close")
        if retry_after is not None:
            request.send_header("Retry-After", retry_after)
        request.end_headers()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
