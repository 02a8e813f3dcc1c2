"""What went wrong outside of the program, in one line: files, folders, memory, and Ctrl-C before there is a command.

This module imports nothing but the standard library, since it is what tells that nothing else could be imported.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

__all__ = ["TRACEBACK", "chain", "failure_line", "guard_imports", "imports_done", "show_traceback"]

TRACEBACK = "DIG_TRACEBACK"
"""Environment variable: with 1 every error also shows where in the program it arose."""
_LONGEST = 400
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust tell an error of the operating system, whatever class they raise."""
_NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|cannot allocate memory|out of memory|failed to map segment|"
    r"can't start new thread|unable to allocate",
    re.IGNORECASE,
)
_HINTS = {
    errno.EACCES: "this user may not do that there",
    errno.EPERM: "this user may not do that there",
    errno.EROFS: "DIG_HOME and runs_dir= name other places",
    errno.ENAMETOOLONG: "choose shorter names (DIG_HOME, runs_dir, run_id, experiment)",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower trainer.num_workers",
    errno.ENFILE: "the whole machine has too many files open",
    errno.ENOENT: "it is not there, or was removed meanwhile",
    errno.ESTALE: "the network file system has lost it",
    errno.ENOTDIR: "one of the folders in this path is a file",
    errno.EISDIR: "a file is needed there, and it is a folder",
    errno.EEXIST: "something else is there already",
    errno.ELOOP: "its links lead in a circle",
    errno.EIO: "the disk or the network has failed",
}


def failure_line(error: BaseException) -> str | None:
    """What an error of the machine or of files is, in a line; None for what only the program can have caused."""
    if _memory_is_short(error):
        return f"not enough memory{_quoted(error)}; a smaller batch_size or fewer trainer.num_workers take less"
    if isinstance(error, OSError):
        return _os_line(error.errno, error.strerror, error, error.filename, error.filename2)
    match = _OS_ERROR.search(str(error))
    if match:
        return _os_line(int(match[1]), None, error)
    if type(error).__module__ == "sqlite3":
        return f"database: {_cleaned(str(error))}; {TRACEBACK}=1 shows where"
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it arose from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or current.__context__


def show_traceback(error: BaseException, hidden: Callable[[str], str] = str) -> None:
    """Prints where an error arose, if that is asked for; ``hidden`` takes secrets out of it."""
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        print(hidden("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def guard_imports() -> None:
    """From here to :func:`imports_done` Ctrl-C ends the process with one line, and so does what keeps imports from
    ending: nothing has been begun that would have to be tidied up."""
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        signal.signal(signal.SIGINT, _end)
    sys.excepthook = _hook


def imports_done() -> None:
    """A command has begun, which knows better what an interruption is."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.excepthook is _hook:
        sys.excepthook = sys.__excepthook__


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def _hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    line = next((line for each in chain(error) if (line := failure_line(each)) is not None), None)
    if line is None or os.environ.get(TRACEBACK, "") not in ("", "0"):
        sys.__excepthook__(kind, error, where)
    if line is not None:
        print(f"error: {line}", file=sys.stderr)


def _memory_is_short(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and _NO_MEMORY.search(str(error)) is not None


def _os_line(number: int | None, reason: str | None, error: BaseException, *names: object) -> str:
    places = [_cleaned(os.fsdecode(name)) for name in names if isinstance(name, str | bytes | os.PathLike)]
    if number is None or (not places and reason is None):
        said = _cleaned(str(error)) or type(error).__name__
        hint = f"; {_HINTS[number]}" if number in _HINTS else ""
        return f"{said}{hint}; {TRACEBACK}=1 shows where"
    where = f": {' -> '.join(places)}" if places else ""
    hint = f"; {_HINTS[number]}" if number in _HINTS else ""
    return f"{reason or os.strerror(number)}{where}{hint}; {TRACEBACK}=1 shows where"


def _quoted(error: BaseException) -> str:
    said = _cleaned(str(error))
    return f" ({said})" if said else ""


def _cleaned(text: str) -> str:
    """The first line, without what moves a cursor."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(char if char.isprintable() else "?" for char in first)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
