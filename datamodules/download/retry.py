"""When to ask a server again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

__all__ = ["RefusedError", "RetryError", "RetryPolicy", "answer_of", "shown", "wait_seconds"]

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """How patient to be with a server.

    Attributes:
        attempts: requests in a row that bring nothing new before an address is given up.
        backoff: seconds before the second request; doubled with each, up to ``longest``.
        longest: seconds to wait at most, also when a server asks for more.
        timeout: seconds without a byte before a request is given up.
        head: seconds that the head of an answer may take, redirects included.
        slowest: bytes a second below which a request is given up and begun again where it stands.
        window: seconds over which that is measured.
        slow_attempts: requests in a row that are given up for it before the address is.
    """

    attempts: int = 6
    backoff: float = 1.0
    longest: float = 60.0
    timeout: float = 30.0
    head: float = 60.0
    slowest: float = 1000.0
    window: float = 60.0
    slow_attempts: int = 2


class RefusedError(Exception):
    """An address that will not give what is wanted, however often it is asked."""


class RetryError(Exception):
    """A request that may succeed later; ``wait`` is what the server asked for, in seconds, and ``slow`` says that what
    came is too little to count as progress."""

    def __init__(self, reason: str, wait: float | None = None, slow: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.slow = wait, slow


def answer_of(response: httpx.Response) -> None:
    """Raises RetryError or RefusedError for every answer but 200 and 206."""
    status = response.status_code
    if status in _BUSY:
        raise RetryError(f"answered {status} {response.reason_phrase}", _retry_after(response))
    if status not in (200, 206):
        raise RefusedError(f"answered {status} {response.reason_phrase}")


def wait_seconds(policy: RetryPolicy, attempt: int, asked: float | None) -> float:
    """Seconds before the next request: what the server asked for, else an exponential wait with jitter."""
    grown = policy.backoff * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
    return min(asked if asked is not None else grown, policy.longest)


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return "(an address that cannot be read)"
    return f"{parts.scheme}://{parts.host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
