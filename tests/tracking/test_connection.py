"""Which W&B run it is, whether the server can be reached, and how a run is opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.wandb_server import KEY, WandbServer, wandb_server

from dig.config.schema import WandbConfig
from dig.engine.secrets import hidden
from dig.tracking import connection
from dig.tracking.connection import _stage_files_in, api_key, kept_id, safe_name, why_offline


def test_an_id_is_kept_and_another_folder_has_another(tmp_path: Path) -> None:
    first = kept_id(tmp_path / "a" / "id", "sft")
    assert first.startswith("sft-") and len(first) <= 64
    assert kept_id(tmp_path / "a" / "id", "sft") == first
    assert kept_id(tmp_path / "b" / "id", "sft") != first


@pytest.mark.parametrize("content", ["", "two words", "a/b", "x" * 65, "ä"])
def test_what_is_no_id_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "id").write_text(content, encoding="utf-8")
    made = kept_id(tmp_path / "id", "sft")
    assert made.startswith("sft-") and (tmp_path / "id").read_text().strip() == made


def test_names_of_artifacts() -> None:
    assert safe_name("my shop/2024: all") == "my-shop-2024-all"
    assert safe_name("quickstart-semantic-ids") == "quickstart-semantic-ids"
    assert safe_name("…") == "run"


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


@pytest.fixture(autouse=True)
def connection_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DATA_DIR", "DIG_WANDB_STAGED"):
        monkeypatch.setenv(name, "")  # so that what the test leaves is taken back
        monkeypatch.delenv(name)


def test_a_users_own_place_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "theirs")
    _stage_files_in(tmp_path)
    assert os.environ["WANDB_DATA_DIR"] == "theirs"


def test_each_run_has_its_own_place_also_in_processes_that_an_earlier_run_started(tmp_path: Path) -> None:
    _stage_files_in(tmp_path / "one")
    _stage_files_in(tmp_path / "two")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "two")
    program = (
        "import os, sys; from pathlib import Path; from dig.tracking.connection import _stage_files_in;"
        "_stage_files_in(Path(sys.argv[1])); print(os.environ['WANDB_DATA_DIR'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "three")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "three")


@pytest.mark.parametrize(("seconds", "opened"), [(20.0, "online"), (0.0, "offline")])
def test_a_run_that_a_killed_process_still_has_open_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, opened: str
) -> None:
    """W&B's own process outlives a kill for a moment, and refuses the run as in use until it ends."""
    modes: list[str] = []

    def init(config: WandbConfig, identity: None, folder: Path, content: dict[str, str], mode: str) -> str:
        modes.append(mode)
        if mode == "online" and len(modes) < 3:
            raise RuntimeError("run ID sft-1 is in use")
        return "a run"

    monkeypatch.setattr(connection, "_init", init)
    monkeypatch.setattr(connection, "_start_over", lambda: None)
    monkeypatch.setattr(connection, "_STILL_OPEN", seconds)
    made = connection.connect(WandbConfig(), None, tmp_path, {}, "online")
    assert made is not None and made.mode == opened
    assert modes == (["online"] * 3 if opened == "online" else ["online", "offline"])
