"""A run whose environment holds credentials in every legal place: none of them is in a file, a line or a record."""

from __future__ import annotations

import base64
import threading
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import StringIO
from urllib.parse import quote, quote_plus

import pytest
import yaml
from support.chat_process import ChatProcess

from datamodules.download import RetryPolicy, files

CANARIES = {
    "SHOP_KEY": "sk-canaryKEY0123456789abcdef",
    "SHOP_HEADER": "Basic canaryHEADER+/0123456789==",
    "SHOP_ADDRESS": "",  # the chat server's, with a signature
    "SHOP_MIRROR": "http://canaryUSER:canaryPASSWORD1@127.0.0.1:9/mirror/canaryPATH42?sig=canarySIGNATURE99",
    "WANDB_API_KEY": "c0ffee" * 6 + "abcd",
    "HF_TOKEN": "hf_canaryHUB0123456789abcdef",
    "https_proxy": "http://canaryPROXY:canaryPROXYWORD@127.0.0.1:9",
    "DATABASE_PASSWORD": "canary word with blanks & signs",
}
PARTS = ("canaryUSER", "canaryPASSWORD1", "canaryPATH42", "canarySIGNATURE99", "canaryQUERY77", "canaryPROXYWORD")
SMALL = (
    "experiment=quickstart",
    "data.shop.items=60",
    "data.shop.users=40",
    "logging.progress=false",
    "visual.model=null",
    "rqvae.inputs=text",
    "baselines=[popularity]",
    "logging.wandb.mode=offline",
    "mining.miners=[m]",
    "mining.max_missing=1.0",
)


def forms(secret: str) -> set[bytes]:
    plain = secret.encode()
    return {
        plain,
        quote(plain, safe="").encode(),
        quote_plus(plain).encode(),
        base64.b64encode(plain).rstrip(b"="),
        base64.urlsafe_b64encode(plain).rstrip(b"="),
    }


class Gateway:
    """Passes requests on to the chat server and notes the headers and the query that came."""

    def __init__(self, target: str) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import httpx

                gateway.seen.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = httpx.post(
                    f"{target}{self.path.partition('?')[0].removeprefix('/v1')}", content=body, trust_env=False
                )
                self.send_response(answer.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A folder in which commands ran, and what they printed, by command."""
    folder = tmp_path_factory.mktemp("canaries")
    with ChatProcess(folder / "server") as server:
        gateway = Gateway(server.url)
        secrets = CANARIES | {"SHOP_ADDRESS": f"{gateway.url}?sig=canaryQUERY77"}
        environment = {
            **secrets,
            "DIG_HOME": str(folder / "home"),
            "HOME": str(folder),
            "no_proxy": "127.0.0.1",
        }
        model = {
            "model": "m",
            "base_url": "env:SHOP_ADDRESS",
            "key": "SHOP_KEY",
            "price_in": 0,
            "price_out": 0,
            "headers": {"X-Authorization": "env:SHOP_HEADER"},
        }
        (folder / "shop.yaml").write_text(yaml.safe_dump({"extends": "quickstart", "mining": {"models": {"m": model}}}))
        (folder / "sweep.yaml").write_text(
            yaml.safe_dump(
                {
                    "program": "dig.train",
                    "method": "grid",
                    "metric": {"name": "valid/ndcg@10", "goal": "maximize"},
                    "command": ["${program}", "experiment=shop.yaml", "${args_no_hyphens}"],
                    "parameters": {"sft.epochs": {"values": [1, 2]}},
                }
            )
        )
        small = [*SMALL[1:], "runs_dir=runs"]
        commands = {
            "print": ["dig.train", "experiment=shop.yaml", *small, "--print-config"],
            "run": ["dig.train", "experiment=shop.yaml", *small, "stages=[mine,label,popularity]"],
            "mirror": [
                "dig.train",
                "experiment=shop.yaml",
                "data.source=amazon2014",
                "data.category=Beauty",
                "data.path=none",
                "data.published=amazon2014/Beauty",
                "data.download=true",
                "data.mirrors=[env:SHOP_MIRROR]",
                "stages=[prepare]",
            ],
            "job": ["dig.train", "experiment=shop.yaml", *small, "slurm.nodes=1", "--dry-run"],
            "sweep": ["dig.sweep", "sweep.yaml", *small, "--dry-run"],
            "compare": ["dig.compare", "runs/shop/latest"],
            "recommend": ["dig.recommend", "run=runs/shop/latest", "user=nobody"],
        }
        told = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(files, "_SNAP", ())  # no test asks the publisher
            patch.setitem(files.PUBLISHED, "amazon2014/Beauty", files._amazon2014("Beauty"))
            patch.setattr(files, "RetryPolicy", lambda: RetryPolicy(1, 0.01))
            for name, (module, *arguments) in commands.items():
                with redirect_stdout(StringIO()) as out, redirect_stderr(out):
                    code = import_module(module).main(arguments)
                told[name] = (code, out.getvalue())
        gateway.close()
    yield folder, told, gateway.seen, secrets


def test_the_commands_did_their_work(place) -> None:
    """Guard 7: the credentials were used: the endpoint got them all, and the failing command failed for its reason."""
    _, told, seen, secrets = place
    assert told["print"][0] == told["run"][0] == told["job"][0] == told["sweep"][0] == 0, told
    assert told["mirror"][0] == 1 and "cannot be fetched" in told["mirror"][1], told["mirror"]
    path, headers = seen[0]
    assert path.endswith("?sig=canaryQUERY77") and headers["x-authorization"] == secrets["SHOP_HEADER"]
    assert headers["authorization"] == f"Bearer {secrets['SHOP_KEY']}" and len(seen) >= 60


def test_no_canary_is_anywhere(place) -> None:
    """Guard 7: every file, log, line, error and W&B record, plain, quoted for addresses and in base 64."""
    folder, told, _, secrets = place
    wanted = {form for secret in (*secrets.values(), *PARTS) for form in forms(secret)}
    for name, (_, text) in told.items():
        assert not [form for form in wanted if form in text.encode()], (name, text)
    files = [path for path in folder.rglob("*") if path.is_file() and "server" not in path.parts]
    assert {".wandb", ".yaml", ".sqlite", ".parquet"} <= {path.suffix for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [form for form in wanted if form in content], path
