"""How every entry point ends: an exit code, and one line for what the user can mend."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

from dig.artifacts import disk_full
from dig.config.errors import UserError
from dig.console import visible
from dig.secrets import hidden
from dig.slurm.signals import PREEMPTED, Preempted

__all__ = ["exit_code"]


def exit_code(
    run: Callable[[list[str]], int], arguments: Sequence[str] | None, on_full_disk: str, on_interrupt: str
) -> int:
    """Runs a command: 0 done, 1 failed, 2 wrong arguments or configuration, 75 told to end, 130 interrupted.

    Args:
        run: the command; gets the arguments and returns the code.
        arguments: None takes those of the process.
        on_full_disk: what to do then.
        on_interrupt: what is kept then.
    """
    sys.excepthook = _hidden_traceback
    try:
        return run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if not disk_full(error):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: no space left on the disk{where}; {on_full_disk}", file=sys.stderr)
        return 1
    except Preempted:  # what was saved is said before the job is requeued
        return PREEMPTED
    except KeyboardInterrupt:
        print(on_interrupt, file=sys.stderr)
        return 130


def _hidden_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as Python prints it, without what is a secret: errors of libraries quote addresses and headers."""
    print(hidden("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
