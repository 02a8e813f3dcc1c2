"""Whether W&B can be logged to: found out in bounded time, told without the key."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.wandb_server import KEY, WandbServer, wandb_server

from dig.engine.secrets import hidden
from dig.tracking.availability import api_key, why_offline


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for name in ("NETRC", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_takes_the_key(server: WandbServer) -> None:
    assert why_offline(server.url) is None
    assert why_offline(f"{server.url}/") is None
    assert server.keys == {KEY} and server.asked == ["Viewer", "Viewer"]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("refuses", "does not take the key"),
        ("nobody", "does not take the key"),
        ("broken", "answers with HTTP 500"),
        ("hangs", "does not answer within 0.5 s"),
        ("drips", "sends no whole answer"),
    ],
)
def test_a_server_that_does_not(server: WandbServer, behaviour: str, words: str) -> None:
    server.behaviour = behaviour
    started = time.monotonic()
    why = why_offline(server.url, timeout=0.5)
    assert why is not None and words in why and server.url in why
    assert KEY not in why and "\n" not in why
    assert time.monotonic() - started < 60  # it ends


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        why = why_offline(f"http://127.0.0.1:{unused.getsockname()[1]}", timeout=2)
    assert why is not None and "cannot be reached (ConnectError)" in why


@pytest.mark.parametrize("url", ["", "no address", "http://127.0.0.1:99999", "ftp://127.0.0.1", "http://[::1"])
def test_an_address_that_is_none(url: str) -> None:
    why = why_offline(url, timeout=1)
    assert why is not None and ("cannot be" in why)


def test_a_key_that_no_header_can_hold(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "späth\nkey")
    why = why_offline(server.url, timeout=2)
    assert why is None or "späth" not in why


def test_no_key_is_told_without_asking(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "  ")
    why = why_offline(server.url)
    assert why is not None and "WANDB_API_KEY" in why and "wandb login" in why
    assert not server.asked


def test_a_proxy_of_the_environment_is_asked(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    why = why_offline("http://wandb.example", timeout=2)
    assert why is not None and "wandb.example" in why  # the server, as a proxy, knows no such path
    assert "cannot be reached" not in why


def test_the_key_that_wandb_login_left(server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert api_key(server.url) is None
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert api_key(server.url) == KEY and api_key("https://api.wandb.ai") is None
    assert why_offline(server.url) is None
    (tmp_path / ".netrc").write_text("machine")
    assert api_key(server.url) is None
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert api_key(server.url) is None


def test_secrets_do_not_leave_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@proxy")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    text = hidden(f"key {KEY} by http://me:password@proxy")
    assert text == "key *** by http://***@proxy"
