"""A chat server at one address that is up for a while and down for a while, in turn."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from support.chat_server import Chat, RequestLog

__all__ = ["RestartingChat"]


class RestartingChat:
    """Serves until the block ends; every connection is dropped when it goes down.

    Args:
        folder: where its log lies.
        up: seconds that it serves.
        down: seconds in which it refuses connections.
    """

    def __init__(self, folder: Path, up: float, down: float) -> None:
        self._log = RequestLog(folder)
        self._up, self._down = up, down
        self._ended = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> RestartingChat:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def _serve(self) -> None:
        while not self._ended.is_set():
            connections: list[Chat] = []

            def connect(connections: list[Chat] = connections) -> Chat:
                connections.append(Chat(self._log))
                return connections[-1]

            with suppress(OSError):  # the address may not be free yet
                server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", self._port)
                await asyncio.sleep(self._up)
                server.close()
                for each in connections:
                    with suppress(AttributeError):  # one that has not begun
                        each.transport.abort()  # type: ignore[attr-defined]
            await asyncio.sleep(self._down)
