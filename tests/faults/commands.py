"""Commands with a time limit: one in a process, or several one after the other in a fork of a preloaded one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.preloaded import Preloaded

from faults.verdicts import Ending

__all__ = ["ROOT", "battery", "environment", "finish", "preload", "run", "start"]

ROOT = Path(__file__).parents[2]
Command = tuple[str, ...]
"""A module and its arguments."""

_BATTERY = """
import contextlib, importlib.util, io, json, os, sys, time, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for module, *arguments in json.loads(sys.argv[1]):
    output, errors, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            if importlib.util.find_spec(module).submodule_search_locations:  # a package
                module += ".__main__"
            code = importlib.import_module(module).main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
    answers.write(json.dumps([code, output.getvalue(), errors.getvalue(), time.monotonic() - began]) + "\\n")
    answers.flush()
os._exit(0)
"""


def preload() -> None:
    """Starts the process that commands are forked from; later it may be asked for forks side by side."""
    run(("this",), ROOT, ROOT)


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of every command: a home of its own, one thread, no accelerator, no network."""
    return {
        **os.environ,
        "DIG_HOME": str(home),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "400",
        **more,
    }


def start(
    command: Command,
    folder: Path,
    home: Path,
    fresh: bool = False,
    before: str = "",
    script: Path | None = None,
    **more: str,
) -> subprocess.Popen[str]:
    """Starts ``python -m MODULE ARGUMENTS`` in a session of its own.

    Args:
        command: the module and its arguments.
        folder: where it works.
        home: its ``DIG_HOME``.
        fresh: an interpreter that has imported nothing, instead of a fork of one that has.
        before: shell commands to run first, such as ``ulimit``; implies ``fresh``.
        script: run in place of the module.
        more: further environment variables.
    """
    words = [sys.executable, *(("-m", command[0]) if script is None else (str(script),)), *command[1:]]
    settings: dict[str, Any] = {
        "cwd": folder,
        "env": environment(home, **more),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "errors": "replace",
        "start_new_session": True,
    }
    if before:
        return subprocess.Popen(["bash", "-c", f'{before}; exec "$@"', "bash", *words], **settings)
    return subprocess.Popen(words, **settings) if fresh else Preloaded(words, **settings)


def finish(process: subprocess.Popen[str], command: Command, limit: float, began: float | None = None) -> Ending:
    """Waits for a command, and ends it with all that it started where it takes longer than ``limit`` seconds."""
    began = time.monotonic() if began is None else began
    code: int | None
    try:
        output, errors = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _end(process)
        output, errors = process.communicate()
        code = None
    except BaseException:
        _end(process)
        raise
    return Ending(command, code, output, errors, time.monotonic() - began)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(command: Command, folder: Path, home: Path, limit: float = 120.0, **settings: Any) -> Ending:
    """:func:`start` and :func:`finish`."""
    began = time.monotonic()
    return finish(start(command, folder, home, **settings), command, limit, began)


def battery(commands: Sequence[Command], folder: Path, home: Path, limit: float = 60.0, **more: str) -> list[Ending]:
    """Several commands in one fork, by their ``main``; each has ``limit`` seconds on average.

    A command that ends the process, or takes too long, ends the rest: these are left out of what is returned.
    """
    words = [sys.executable, "-c", _BATTERY, json.dumps(commands)]
    process = Preloaded(
        words,
        cwd=folder,
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    whole = finish(process, ("-c",), limit * len(commands))
    lines = [json.loads(line) for line in whole.output.splitlines() if line.endswith("]")]
    endings = [Ending(command, *line) for command, line in zip(commands, lines, strict=False)]
    if len(endings) < len(commands):
        failed = commands[len(endings)]
        endings.append(Ending(failed, whole.code, "", whole.errors, whole.seconds))
    return endings
