"""How every entry point ends: an exit code, and one line for what the user can mend."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

from dig.config.errors import UserError
from dig.engine.artifacts import disk_full
from dig.engine.console import lines_to_console, visible
from dig.engine.failures import chain, failure_line, imports_done, show_traceback
from dig.engine.secrets import hidden
from dig.engine.signals import PREEMPTED, Preempted

__all__ = ["exit_code", "given_settings"]

_LONG_ENOUGH, _LONGEST_PATH = 80, 4095
"""Characters of which a file's name can lack room for what dig puts behind it; and of a whole path."""
_SHOWN = 60
_given: list[list[str]] = []
"""The arguments of the command that runs, if one does."""


def given_settings() -> list[str]:
    """The words ``experiment=NAME`` and ``key=value`` of the command that runs, as they were typed; [] where a program
    calls ``dig`` without one."""
    words = _given[-1] if _given else []
    return [word for word in words if "=" in word and not word.startswith("-")]


def exit_code(
    run: Callable[[list[str]], int], arguments: Sequence[str] | None, on_full_disk: str, on_interrupt: str
) -> int:
    """Runs a command: 0 done, 1 failed, 2 wrong arguments or configuration, 75 told to end, 130 interrupted.

    What files, disks and memory refuse is one line; with ``DIG_TRACEBACK=1`` it also says where. Errors that only the
    program can have caused pass.

    Args:
        run: the command; gets the arguments and returns the code.
        arguments: None takes those of the process.
        on_full_disk: what to do then.
        on_interrupt: what is kept then.
    """
    imports_done()
    sys.excepthook = _hidden_traceback
    try:
        words = [_text(word) for word in (sys.argv[1:] if arguments is None else arguments)]
        _given.append(list(words))
        try:
            with lines_to_console():
                return run(words)
        finally:
            _given.pop()
    except UserError as error:
        show_traceback(error, hidden)
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    except Preempted:  # what was saved is said before the job is requeued
        return PREEMPTED
    except KeyboardInterrupt:
        print(on_interrupt, file=sys.stderr)
        return 130
    except Exception as error:
        show_traceback(error, hidden)
        if any(isinstance(each, KeyboardInterrupt) for each in chain(error)):  # a library made another error of it
            print(on_interrupt, file=sys.stderr)
            return 130
        if isinstance(error, BrokenPipeError) and error.filename is None:  # who read the answer has enough of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if (long := _too_long(error, sys.argv[1:] if arguments is None else arguments)) is not None:
            print(f"error: {visible(hidden(long))}", file=sys.stderr)
            return 2
        line = _full_disk(error, on_full_disk) or failure_line(error)
        if line is None:
            raise
        print(f"error: {visible(hidden(line))}", file=sys.stderr)
        return 1


def _text(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes of a command line come as halves of characters, which no file can hold
        shown = word.partition("=")[0].encode(errors="replace").decode()
        raise UserError(f"{shown}: bytes that are not UTF-8", exit_code=2) from None
    return word


def _too_long(error: Exception, arguments: Sequence[str]) -> str | None:
    """The argument that no file can be named like, if that is why a file could not be looked for."""
    name = getattr(error, "filename", None)
    if getattr(error, "errno", None) != errno.ENAMETOOLONG or not isinstance(name, str | os.PathLike):
        return None
    longest = max(os.fsdecode(name).split("/"), key=len)  # with what dig puts behind it, such as .yaml
    for argument in arguments:
        value = argument.partition("=")[2] or argument
        part = max(value.split("/"), key=len)
        if len(part) > _LONG_ENOUGH and (part[:_LONG_ENOUGH] in longest or len(value) > _LONGEST_PATH):
            return f"{argument[:_SHOWN]}…: no file and no folder can have a name of {len(part):,} characters"
    return None


def _full_disk(error: Exception, advice: str) -> str | None:
    if not disk_full(error):
        return None
    name = getattr(error, "filename", None)
    return f"no space left on the disk{f' ({name})' if name else ''}; {advice}"


def _hidden_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as Python prints it, without what is a secret: errors of libraries quote addresses and headers."""
    print(hidden("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
