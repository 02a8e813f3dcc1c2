"""Commands in processes that need not import anything: forked from one that has imported all that dig imports.

Twenty runs would wait for twenty times the same imports. :class:`Preloaded` is a ``subprocess.Popen`` whose process is
a fork of a server that this test process starts on first use. It is a process of its own in every other respect: its
own folder, environment, output, signals, and it is this process's child. With :data:`FORK_RANKS` in its environment the
ranks that it launches are forks as well, and its children.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

from support.libraries import import_untraced

__all__ = ["FORK_RANKS", "Preloaded", "run", "run_ranks", "serve"]

FORK_RANKS = "DIG_TESTS_FORK_RANKS"
"""Environment variable: ``dig.engine.launch`` forks its ranks, which saves each the imports; ``/proc`` shows what was
forked, so tests that look for ranks there start them as users do."""

_PARENT_DEATH_SIGNAL = 1  # prctl
_SUBREAPER = 36  # prctl: processes whose parent ends become this one's children
# Tests come last: folders among them bear the packages' names.
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from support.preloaded import serve; serve(sys.argv[2])"
_LAZY = (
    "altair",
    "open_clip",
    "sentence_transformers",
    "sklearn.linear_model",
    "transformers.models.auto.modeling_auto",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.t5.modeling_t5",
    "wandb.sdk.lib.gitlib",
)


class Preloaded(subprocess.Popen):
    """``[sys.executable, "-m", module, …]``, ``"-c", program`` or ``script``, forked instead of started.

    Takes the arguments of ``subprocess.Popen`` that concern folder, environment, pipes and sessions.
    """

    def _execute_child(self, args: list[Any], *rest: Any) -> None:
        (
            _,
            _,
            _,
            _,
            cwd,
            env,
            _,
            _,
            _,
            p2cread,
            p2cwrite,
            c2pread,
            c2pwrite,
            errread,
            errwrite,
            _,
            _,
            _,
            _,
            _,
            start_new_session,
            *_,
        ) = rest
        assert args[0] == sys.executable
        request = {
            "arguments": [str(each) for each in args[1:]],
            "cwd": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        files = [standard if given == -1 else given for given, standard in ((p2cread, 0), (c2pwrite, 1), (errwrite, 2))]
        with _connection() as server:
            socket.send_fds(server, [b"!"], files)
            server.sendall(json.dumps(request).encode() + b"\n")
            self.pid = int(server.makefile().readline())
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(command: list[Any], timeout: float = 300.0, **settings: Any) -> subprocess.CompletedProcess[str]:
    """``subprocess.run`` of a :class:`Preloaded`, its output captured as text."""
    with Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_ranks(ranks: int, script: str, *arguments: Any, timeout: float = 240.0) -> list[int]:
    """Exit codes of the ranks of one training, each a process of its own that finds the others by its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, script, *arguments]
    started = [Preloaded(command, env=os.environ | meeting | {"LOCAL_RANK": str(rank)}) for rank in range(ranks)]
    return [process.wait(timeout=timeout) for process in started]


def _connection() -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(f"\0{_RANKS_OF or _server()}")  # a name in no folder, which is gone with the server
    return found


@functools.cache
def _server() -> str:
    """The address of the server, which ends with this process."""
    _prctl(_SUBREAPER, 1)
    address = f"dig-preloaded-{os.getpid()}"
    command = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parents[1]), address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    _SERVERS.append(process)
    return address


_SERVERS: list[subprocess.Popen] = []
_RANKS_OF = ""  # in a process that forks its ranks: the address of the server for them


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def serve(address: str) -> None:
    """Forks a process for every request, until the process that asks is gone."""
    import_untraced()
    sys.path[0] = str(Path(__file__).parents[2])
    for package in ("dig", "datamodules", "callbacks"):
        found = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        for module in found:
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    from wandb.sdk.data_types._private import MEDIA_TMP

    atexit.unregister(MEDIA_TMP.cleanup)  # the first fork to end would remove it under the others
    from dig.config import load_config
    from dig.report.html import vega_bundle

    vega_bundle()  # seconds of every report, and always the same
    load_config("quickstart")  # leaves the schema's defaults
    listening = _listening(address)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _answer(listening, os.getppid())


def _listening(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(f"\0{address}")
    found.listen()
    return found


def _answer(listening: socket.socket, parent: int) -> None:
    """Forks a process for every request until the parent is gone; returns in the parent's absence and in each fork,
    when its command has ended."""
    listening.settimeout(1.0)
    while os.getppid() == parent:
        try:
            client, _ = listening.accept()
        except TimeoutError:
            continue
        client.settimeout(None)
        _, files, _, _ = socket.recv_fds(client, 1, 3)
        request = json.loads(client.makefile().readline())
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:  # its end makes the process below a child of who asked
            child = os.fork()
            if child:
                os.write(writing, str(child).encode())
                os._exit(0)
            for file in (reading, writing):
                os.close(file)
            listening.close()
            client.close()
            _become(request, files)
            return
        os.close(writing)
        child = os.read(reading, 32)
        os.close(reading)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)
        client.sendall(child + b"\n")
        client.close()


def _fork_ranks() -> None:
    """Lets the launcher in this process fork its ranks: from a server that is a fork of this process as it is now."""
    global _RANKS_OF
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    _prctl(_SUBREAPER, 1)
    launcher, listening = os.getpid(), _listening(f"dig-preloaded-{os.getpid()}")
    if os.fork() == 0:
        _prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)  # who reads the launcher's output waits for its end
        _answer(listening, launcher)
        sys.exit()
    listening.close()
    _RANKS_OF = f"dig-preloaded-{launcher}"
    subprocess_handler.Popen = Preloaded


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Runs the command of a request in this process."""
    for inherited in list(weakref.finalize._registry):
        inherited.detach()  # temporary folders of the server, which all its forks use
    if request["session"]:
        os.setsid()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if os.environ.pop(FORK_RANKS, None):
        _fork_ranks()
    first, *arguments = request["arguments"]
    if first == "-m":
        module, *arguments = arguments
        sys.argv, sys.path[0] = [module, *arguments], request["cwd"]
        sys.modules.pop(module, None)  # it is run, not imported
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif first == "-c":
        program, *arguments = arguments
        sys.argv, sys.path[0] = ["-c", *arguments], request["cwd"]
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as the interpreter's -c
    else:
        sys.argv, sys.path[0] = [first, *arguments], str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")
