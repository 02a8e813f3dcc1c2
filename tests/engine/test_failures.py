"""One line for what files, disks, memory and Ctrl-C do to a command, and no line for what only a bug can do."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest
import torch

import dig
from dig.config import UserError
from dig.engine.entry import exit_code
from dig.engine.failures import failure_line

ENTRIES = ("train", "compare", "recommend", "data", "sweep", "cache", "interests")


def ended(run: Callable[[list[str]], int]) -> int:
    return exit_code(run, [], "free some", "interrupted; all is kept")


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def run(arguments: list[str]) -> int:
        raise error

    return run


def os_error(number: int, name: str = "/home/me/file") -> OSError:
    return OSError(number, os.strerror(number), name)


def too_long(arguments: list[str]) -> int:
    Path("n" * 300).is_dir()
    return 0


def missing(arguments: list[str]) -> int:
    pl.read_parquet("absent.parquet")
    return 0


def below_a_file(arguments: list[str]) -> int:
    Path(__file__, "folder").mkdir()
    return 0


def no_store(arguments: list[str]) -> int:
    sqlite3.connect("absent/answers.sqlite")
    return 0


def too_much(arguments: list[str]) -> int:
    torch.empty(2**60)
    return 0


REAL = [
    (too_long, "File name too long: nnn"),
    (missing, "absent.parquet"),
    (below_a_file, "Not a directory: "),
    (no_store, "unable to open database file"),
    (too_much, "not enough memory"),
]
NUMBERS = [
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOENT,
    errno.ESTALE,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.EIO,
    errno.EBUSY,
    errno.EFBIG,
    errno.ETIMEDOUT,
]


@pytest.mark.parametrize(("run", "told"), REAL)
def test_what_the_system_refuses_is_a_line(
    run: Callable[[list[str]], int], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: errors of the operating system and of memory, as the libraries raise them."""
    assert ended(run) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and told in said and said.count("\n") == 1


def test_an_argument_that_is_no_text_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 8: no table is read from such a path, and no configuration can hold it."""
    assert exit_code(lambda _: 0, [f"run={os.fsdecode(bytes([255]))}"], "free some", "interrupted") == 2
    assert capsys.readouterr().err == "error: run: bytes that are not UTF-8\n"


@pytest.mark.parametrize("number", NUMBERS)
def test_every_error_of_the_system_names_its_file(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 8: a bug that opens the wrong file still has its name in the line, and the way to the traceback."""
    assert ended(raising(os_error(number))) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {os.strerror(number)}: /home/me/file") and said.count("\n") == 1
    assert "DIG_TRACEBACK=1 shows where" in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        os_error(errno.ENOMEM),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    ],
)
def test_too_little_memory_is_a_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Guard 8: under ``ulimit -v`` whoever asks first is refused, each library in its own words."""
    assert ended(raising(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: not enough memory") and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("tensors do not fit"),
        KeyError("item"),
        ImportError("no module x"),
        AssertionError("built again"),
        ValueError("(os errors are elsewhere)"),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        ended(raising(error))
    assert failure_line(error) is None


def test_the_traceback_is_shown_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIG_TRACEBACK", "1")
    for error in (os_error(errno.EACCES), UserError("a wrong key", exit_code=2)):
        ended(raising(error))
        said = capsys.readouterr().err
        assert "Traceback (most recent call last)" in said and "in raising" not in said and "in run" in said
        assert said.rstrip().splitlines()[-1].startswith("error: ")
    monkeypatch.setenv("DIG_TRACEBACK", "0")
    ended(raising(os_error(errno.EACCES)))
    assert "Traceback" not in capsys.readouterr().err


def test_a_line_from_outside_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    ended(raising(OSError("first\x1b[2J\nsecond")))
    ended(raising(os_error(errno.ENOENT, "a\x1b[31m\nname")))
    said = capsys.readouterr().err
    assert "\x1b" not in said and said.count("\n") == 2 and "first?[2J" in said


def test_an_interrupt_that_a_library_turns_into_an_error_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    assert ended(run) == 130
    assert capsys.readouterr().err == "interrupted; all is kept\n"


def start(tmp_path: Path, body: str, entry: str, package: str = "rich") -> subprocess.CompletedProcess[str]:
    """Starts a command whose import of a package does something else."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(body)
    root = Path(dig.__file__).parent.parent
    paths = os.pathsep.join([str(tmp_path), str(root)])
    return subprocess.run(
        [sys.executable, "-m", f"dig.{entry}", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        timeout=60,
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_during_imports_is_a_line(tmp_path: Path, entry: str) -> None:
    """Guard 8: SIGINT in the first moments, before there is a command."""
    body = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    done = start(tmp_path, body, entry)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_before_anything_could_tell_it_is_no_traceback(tmp_path: Path) -> None:
    """Guard 8: in the very first imports; a shell makes 130 of it."""
    done = start(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n", "train", "traceback")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("raised", ["OSError(24, 'Too many open files', 'x.so')", "MemoryError()"])
def test_what_keeps_imports_from_ending_is_a_line(tmp_path: Path, raised: str) -> None:
    """Guard 8: with few descriptors or little memory a command ends while it is imported."""
    done = start(tmp_path, f"raise {raised}\n", "train")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    bug = subprocess.run([sys.executable, "-m", "dig.absent"], capture_output=True, text=True, timeout=60)
    assert "No module named" in bug.stderr


def test_a_command_has_its_own_ctrl_c(tmp_path: Path) -> None:
    """Once it runs, an interrupt is an exception again: the imports' handler would end it without tidying up."""
    code = (
        "import sys; sys.argv[0] = '-m'\nimport dig, os, signal\nfrom dig.engine.entry import exit_code\n"
        "def run(arguments):\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(exit_code(run, [], '', 'all is kept'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "all is kept\n")


def test_a_program_that_imports_dig_keeps_its_own_handlers() -> None:
    before = signal.getsignal(signal.SIGINT), sys.excepthook
    assert before[0] is signal.default_int_handler or callable(before[0])
    code = (
        "import signal, sys, dig, dig.engine.failures\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert sys.excepthook is sys.__excepthook__"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["experiment=" + "x" * 5000]),
        ("data", ["inspect", "x" * 300]),
        ("scripts.results", ["add", "x" * 5000]),
        ("recommend", ["run=" + "x" * 300, "items=[a]"]),
        ("compare", ["x" * 300]),
    ],
)
def test_an_argument_that_no_file_can_be_named_like_is_a_wrong_argument(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: the file system refuses the name; who gave it is told, and not to look for another home."""
    assert import_module(command if "." in command else f"dig.{command}").main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "DIG_HOME" not in said and "xxx" in said


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["--dry-run=1"]),
        ("data", ["inspect", "quickstart", "--overwrite=1"]),
        ("cache", ["prune", "--yes=1"]),
        ("scripts.results", ["build", "--check=1"]),
        ("sweep", ["x.yaml", "--dry-run=1"]),
    ],
)
def test_a_flag_that_takes_no_value_is_not_called_unknown(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard 8: what is wrong is the value."""
    assert import_module(command if "." in command else f"dig.{command}").main(arguments) == 2
    assert f"{arguments[-1].partition('=')[0]} takes no value" in capsys.readouterr().err
