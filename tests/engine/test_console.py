"""What is said is logged: the command line prints it, and a program that imports dig directs or silences it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table

from dig.engine import console as module
from dig.engine.console import (
    console,
    lines_to_console,
    messages_to_stderr,
    say,
    show,
    shown_rate,
    shown_seconds,
    silenced,
    warn,
)
from dig.engine.entry import exit_code

SECRET = "sk-" + "abcdefghijklmnopqrstuvwxyz0123456789ABCD"


class Kept(logging.Handler):
    """A handler of a program's own."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def plain() -> Iterator[logging.Logger]:
    """The logger as a program finds it that has just imported dig."""
    logger = logging.getLogger("dig")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def table() -> Table:
    drawn = Table("stage", "ndcg@10")
    drawn.add_row("sft", "0.0626")
    return drawn


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.1523, "0.15"), (0.0042, "0.0042"), (3.21, "3.2"), (9.94, "9.9"), (9.96, "10"), (48.4, "48"), (1234.5, "1,234")],
)
def test_a_rate_has_two_digits_that_say_something(value: float, shown: str) -> None:
    """Entry 12: 0.15 samples a second were shown as 0."""
    assert shown_rate(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(4.2, "4 s"), (99.6, "2 min"), (3600, "60 min"), (9000, "2.5 h")])
def test_a_time_is_said_as_people_say_it(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown


def program(code: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_the_command_line_prints_lines_warnings_and_tables(capsys: pytest.CaptureFixture[str]):
    def speak(_: list[str]) -> int:
        say("prepare  [bold]500[/bold] users, 50 % of a :warning: shop %s")
        warn("a long line " + "that is not broken " * 20)
        show(table())
        return 0

    assert exit_code(speak, [], "", "") == 0
    output = capsys.readouterr()
    with console.capture() as drawn:
        console.print(table())
    assert output.err == "" and output.out == (
        "prepare  [bold]500[/bold] users, 50 % of a :warning: shop %s\n"
        f"warning: a long line {'that is not broken ' * 20}\n{drawn.get()}"
    )


def test_lines_have_no_secrets_and_nothing_that_a_terminal_obeys(plain: logging.Logger):
    kept = Kept()
    plain.addHandler(kept)
    plain.setLevel(logging.INFO)
    say(f"key {SECRET}\x1b[31m red \u202e")
    warn(f"Authorization: Bearer {SECRET}")
    assert [record.levelname for record in kept.records] == ["INFO", "WARNING"]
    for record in kept.records:
        assert SECRET not in record.getMessage() and "\x1b" not in record.getMessage()
        assert "\u202e" not in record.getMessage()


def test_records_are_of_the_module_that_speaks(plain: logging.Logger):
    kept = Kept()
    plain.addHandler(kept)
    plain.setLevel(logging.INFO)
    for name in ("dig.stages.sft", "datamodules.loading", "callbacks.guards"):
        exec(compile("speak('here')", f"/{name}.py", "exec"), {"__name__": name, "speak": say})  # noqa: S102 - two words
    assert [record.name for record in kept.records] == [
        "dig.stages.sft",
        "dig.datamodules.loading",
        "dig.callbacks.guards",
    ]
    assert [Path(record.pathname).name for record in kept.records] == [
        "dig.stages.sft.py",
        "datamodules.loading.py",
        "callbacks.guards.py",
    ]


def test_a_program_without_a_handler_hears_warnings_alone():
    out, err = program("from dig.engine.console import say, warn; say('quiet'); warn('loud')")
    assert (out, err) == ("", "loud\n")


def test_a_program_silences_directs_and_asks_for_more():
    speak = "from dig.engine.console import say, warn; import logging; {}; say('line'); warn('loud')"
    assert program(speak.format("logging.getLogger('dig').setLevel(logging.ERROR)")) == ("", "")
    shown = program(speak.format("logging.basicConfig(format='%(levelname)s %(message)s', level=logging.INFO)"))
    assert shown == ("", "INFO line\nWARNING loud\n")
    one = "logging.basicConfig(format='%(message)s'); logging.getLogger('dig').setLevel(logging.INFO)"
    assert program(speak.format(one)) == ("", "line\nloud\n")


def test_a_whole_stage_run_from_python_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run_experiment` says what it does to the logger, and prints nothing by itself."""
    monkeypatch.setenv("DIG_HOME", str(tmp_path / "home"))
    small = ["data.shop.users=60", "data.shop.items=80", "stages=[popularity]", f"runs_dir={tmp_path / 'runs'}"]
    code = f"""
import logging
from dig import load_config, run_experiment
class Names(logging.Handler):
    def emit(self, record):
        open({str(tmp_path / "said")!r}, "a").write(f"{{record.name}}: {{record.getMessage()}}\\n")
logging.getLogger("dig").setLevel(logging.INFO)
logging.getLogger("dig").addHandler(Names())
run_experiment(load_config("quickstart", {small!r}))
"""
    assert program(code) == ("", "")
    said = (tmp_path / "said").read_text()
    assert "dig.engine.pipeline: run: " in said and "dig.engine." in said and "prepare" in said


def test_a_table_is_text_for_other_handlers(plain: logging.Logger):
    kept = Kept()
    plain.addHandler(kept)
    show(table())
    assert kept.records == []
    plain.setLevel(logging.INFO)
    show(table())
    text = kept.records[0].getMessage()
    assert "│ sft   │ 0.0626  │" in text and "\x1b" not in text and not text.endswith("\n")


def test_a_programs_own_handler_gets_the_lines_of_a_command(plain: logging.Logger, capsys: pytest.CaptureFixture[str]):
    kept = Kept()
    plain.addHandler(kept)
    plain.setLevel(logging.INFO)

    def speak(_: list[str]) -> int:
        say("line")
        return 0

    assert exit_code(speak, [], "", "") == 0
    assert [record.getMessage() for record in kept.records] == ["line"] and capsys.readouterr().out == ""


def test_the_logger_is_as_before_after_a_command(plain: logging.Logger):
    with lines_to_console():
        assert len(plain.handlers) == 1 and plain.level == logging.INFO and not plain.propagate
    assert not plain.handlers and plain.level == logging.NOTSET and plain.propagate


def test_lines_go_where_messages_go(capsys: pytest.CaptureFixture[str]):
    with messages_to_stderr():
        say("to whom reads errors")
    with silenced():
        say("to nobody")
        warn("to nobody")
    say("again")
    assert capsys.readouterr() == ("again\n", "to whom reads errors\n")


def test_a_line_that_cannot_be_written_ends_the_command(monkeypatch: pytest.MonkeyPatch):
    """A full disk is not a traceback of logging beside a command that continues."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.console, "print", full)
    with pytest.raises(OSError, match="No space left"):
        say("line")
