"""A time limit for the part of a request in which the client's own limits start anew with every byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

__all__ = ["Alarm"]

_CONNECTED = ("connect_tcp.complete", "start_tls.complete")


class Alarm:
    """Ends a request that has not sent its whole head in time, by shutting its connection down.

    httpx limits the time of each read, so a server that sends a byte now and then is never given up. The request is
    given :meth:`trace` as its extension of that name, which is told of its connections.

    Args:
        seconds: from the start of the block to :meth:`off`.
    """

    def __init__(self, seconds: float) -> None:
        self.rang = False
        """Whether the time was over before :meth:`off`."""
        self._lock = threading.Lock()
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True

    def __enter__(self) -> Alarm:
        self._timer.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.off()

    def off(self) -> None:
        """The head has come."""
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What the client calls with each of its steps."""
        if event.endswith(_CONNECTED):
            with self._lock:
                self._stream = info["return_value"]
                late = self.rang
            if late:  # a redirect after the end
                self._shut()

    def _ring(self) -> None:
        with self._lock:
            self.rang = True
        self._shut()

    def _shut(self) -> None:
        connection = None if self._stream is None else self._stream.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError, ValueError):
                connection.shutdown(socket.SHUT_RDWR)
