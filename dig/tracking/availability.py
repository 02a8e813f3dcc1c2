"""Whether W&B can be logged to online: a key, a server that answers, a server that takes the key; in bounded time."""

from __future__ import annotations

import netrc
import os
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx

__all__ = ["api_key", "why_offline"]

_QUERY = {"query": "query Viewer { viewer { id } }"}
_OVERALL = 2.0
"""Times the timeout of one step of a request that the whole request may take; a server may drip bytes for ever."""


def why_offline(base_url: str, timeout: float = 5.0) -> str | None:
    """Why logging online would fail, in words without any secret; None if it should work.

    Args:
        base_url: of the W&B server.
        timeout: seconds to wait for a connection and for an answer; all in all at most twice as long. Proxies are
            taken from the environment.
    """
    key = api_key(base_url)
    if key is None and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "there is no key: set WANDB_API_KEY, or run `wandb login`"
    found: list[str | None] = []
    asking = threading.Thread(target=lambda: found.append(_ask(base_url, key, timeout)), daemon=True)
    asking.start()
    asking.join(_OVERALL * timeout)
    return found[0] if found else f"{base_url} sends no whole answer"


def api_key(base_url: str) -> str | None:
    """The key for a server: WANDB_API_KEY, else what ``wandb login`` left in the netrc file."""
    key = os.environ.get("WANDB_API_KEY", "").strip()
    if key:
        return key
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            entry = netrc.netrc(Path(path).expanduser()).authenticators(urlsplit(base_url).hostname or "")
        except (OSError, netrc.NetrcParseError):  # none there, or one that nobody can read
            continue
        if entry and entry[2]:
            return entry[2]
    return None


def _ask(base_url: str, key: str | None, timeout: float) -> str | None:
    auth = ("api", key) if key else None
    try:
        answer = httpx.post(f"{base_url.rstrip('/')}/graphql", json=_QUERY, auth=auth, timeout=timeout)
    except httpx.TimeoutException:
        return f"{base_url} does not answer within {timeout:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{base_url} cannot be reached ({type(error).__name__})"
    except ValueError as error:  # a key with characters that no header may hold, a proxy that is no address
        return f"{base_url} cannot be asked ({type(error).__name__})"
    if answer.status_code in (401, 403):
        return f"{base_url} does not take the key"
    if answer.status_code != 200:
        return f"{base_url} answers with HTTP {answer.status_code}"
    return None if key is None else _refusal(base_url, answer)


def _refusal(base_url: str, answer: httpx.Response) -> str | None:
    try:
        viewer = answer.json()["data"]["viewer"]
    except (ValueError, KeyError, TypeError):
        return f"{base_url} answers as no W&B server does"
    return None if viewer else f"{base_url} does not take the key"
