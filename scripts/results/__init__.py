"""``python -m scripts.results add|add-benchmark|build``: docs/results.md is made of records, never typed.

A tool of those who maintain this project; what users of ``dig`` install does not hold it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dig.config import UserError, nearest, unknown_flag
from dig.engine.entry import exit_code

__all__ = ["main"]

_HELP = """python -m scripts.results COMMAND, in the project's folder

  add RUN [RUN …] [--as NAME]   keeps a small record of finished runs in docs/results/records, to be committed;
                                NAME is EXPERIMENT-SEED where none is given, and given it replaces what has the name
  add-benchmark FILE|-          keeps the last line of a benchmark's output (- reads standard input)
  build [--check]               writes docs/results.md from docs/results; --check writes nothing and says with exit
                                code 1 what differs"""
_COMMANDS = ("add", "add-benchmark", "build")
_FLAGS = ("--as", "--check", "--help", "-h")
_FOLDER, _PAGE = Path("docs/results"), Path("docs/results.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed or stale, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some, then give the same command again", "interrupted")


def _run(arguments: list[str]) -> int:
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_HELP)
        return 0
    command, *rest = arguments
    if command not in _COMMANDS:
        hint = nearest(command, _COMMANDS)
        raise UserError(f"{command}: no such command; {f'did you mean {hint}?' if hint else ', '.join(_COMMANDS)}", 2)
    targets, name, check = _parse(rest)
    _check_arguments(command, targets, name, check)
    if not _FOLDER.is_dir():
        raise UserError(f"{_FOLDER}: no such folder here; the command runs in the project's folder", exit_code=2)
    if command == "add":
        _add(targets, name)
    elif command == "add-benchmark":
        _add_benchmark(targets[0])
    else:
        _build(check)
    return 0


def _parse(rest: list[str]) -> tuple[list[str], str | None, bool]:
    """Targets, the name, and whether to check alone."""
    targets, name, check = [], None, False
    waiting = iter(rest)
    for argument in waiting:
        if argument == "--check":
            check = True
        elif argument == "--as" or argument.startswith("--as="):
            name = argument.partition("=")[2] or next(waiting, None)
            if not name:
                raise UserError("--as needs a name", exit_code=2)
        elif argument.startswith("-") and argument != "-":
            raise unknown_flag(argument, _FLAGS)
        else:
            targets.append(argument)
    return targets, name, check


def _check_arguments(command: str, targets: list[str], name: str | None, check: bool) -> None:
    if command == "add" and not targets:
        raise UserError("add needs a run's folder, for example runs/quickstart/latest", exit_code=2)
    if command == "add-benchmark" and len(targets) != 1:
        raise UserError(f"add-benchmark needs one file, or - for standard input; it got {len(targets)}", exit_code=2)
    if command == "build" and targets:
        raise UserError(f"build takes no {targets[0]}; it reads all of {_FOLDER}", exit_code=2)
    if name is not None and (command != "add" or len(targets) != 1):
        raise UserError(f"--as names the record of one run; {command} got {len(targets)}", exit_code=2)
    if check and command != "build":
        raise UserError(f"--check belongs to build, not to {command}", exit_code=2)


def _add(targets: list[str], name: str | None) -> None:
    from scripts.results.records import RunStore, read_run

    store = RunStore(_FOLDER / "records")
    records = [read_run(Path(target).expanduser(), name) for target in targets]
    names = [record.name for record in records]
    for each in names:
        if names.count(each) > 1:
            raise UserError(f"two of these runs are called {each}; add them one by one with --as", exit_code=2)
    for record in records:
        print(f"{store.save(record, replace=name is not None)}: {', '.join(record.recommenders)}")


def _add_benchmark(target: str) -> None:
    from scripts.results.page import BenchmarkStore

    try:
        output = sys.stdin.read() if target == "-" else Path(target).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{target}: cannot be read: {error}", exit_code=2) from None
    print(BenchmarkStore(_FOLDER / "benchmarks", _FOLDER / "benchmarks.yaml").save(output))


def _build(check: bool) -> None:
    from dig.engine.artifacts import atomic_path
    from scripts.results.page import check_page, render_page

    rendered = render_page(_FOLDER)
    if check:
        check_page(_PAGE, rendered)
        print(f"{_PAGE} is what its records say")
        return
    with atomic_path(_PAGE) as temporary:
        temporary.write_text(rendered, encoding="utf-8")
    print(_PAGE)
