import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dig.config import UserError
from dig.interests.asking.store import AnswerStore, Failure, Spending


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_answers_and_failures_come_back_as_they_were(store: AnswerStore):
    store.answered("m p1", key(1), "I1", 'übel {"a": 1}\x00')
    store.failed("m p1", Failure(key(2), "I2", "empty", "the answer is empty", ""))
    assert store.answers([key(1), key(2), key(3)]) == {key(1): 'übel {"a": 1}\x00'}
    assert store.failures([key(1), key(2)]) == [Failure(key(2), "I2", "empty", "the answer is empty", "")]
    assert store.known([key(1), key(2), key(3)]) == {key(1), key(2)}
    assert store.known([key(1), key(2), key(3)], failures=False) == {key(1)}
    assert (store.count_failures("m p1"), store.count_failures("other")) == (1, 0)
    store.answered("m p1", key(2), "I2", "{}")  # asked again, with luck
    assert store.failures([key(2)]) == [] and store.answers([key(2)]) == {key(2): "{}"}


def test_more_keys_than_a_statement_takes(store: AnswerStore):
    assert store.add("m", ((key(number), f"I{number}", str(number)) for number in range(2000))) == 2000
    assert store.add("m", [(key(1), "I1", "another"), (key(5000), "I5000", "x")]) == 1
    assert len(store.known([key(number) for number in range(3000)])) == 2000
    assert store.answers([key(1)]) == {key(1): "1"}


def test_the_books_tell_paid_from_unknown(store: AnswerStore):
    first, second, third, fourth = (store.begin("c", "m", key(number), 0.5) for number in range(4))
    store.paid(first, 100, 20, 0.01)
    store.unpaid(second)
    store.unknown(third)
    assert store.spending("c") == Spending(4, 1, 0.01, 2, 1.0, 100, 20)  # the fourth is under way, at its most
    assert store.spending("c", "m") == store.spending("c")
    assert store.spending("c", "n") == store.spending("d") == Spending()
    assert store.mean_tokens_out("m") == 20 and store.mean_tokens_out("n") is None
    store.paid(fourth, 1, 40, 0.25)
    assert store.mean_tokens_out("m") == 30
    store.count_retried("c", 2)
    store.count_retried("c", 3)
    assert (store.retried("c"), store.retried("d")) == (5, 0)


def test_what_a_kill_leaves_under_way_is_unknown(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from dig.interests.asking.store import AnswerStore\n"
        "store = AnswerStore(Path(sys.argv[1]))\n"
        "with store.asking():\n"
        "    store.paid(store.begin('c', 'm', b'1' * 16, 0.5), 1, 1, 0.125)\n"
        "    store.answered('m', b'1' * 16, 'I1', 'kept')\n"
        "    store.begin('c', 'm', b'2' * 16, 0.25)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    with AnswerStore(path) as store, store.asking():
        assert store.answers([b"1" * 16]) == {b"1" * 16: "kept"}
        assert store.spending("c") == Spending(2, 1, 0.125, 1, 0.25, 1, 1)


def test_a_second_run_waits_for_the_first(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    code = (
        "import sys, time; from pathlib import Path; from dig.interests.asking.store import AnswerStore\n"
        "from dig.engine.console import lines_to_console\n"
        "with lines_to_console(), AnswerStore(Path(sys.argv[1])) as store, store.asking():\n"
        "    print('in', flush=True); sys.stdin.readline(); store.answered('m', b'1' * 16, 'I1', 'first')\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "in\n"
    other = code.replace("store.answered('m', b'1' * 16, 'I1', 'first')", "print(store.answers([b'1' * 16]))")
    second = subprocess.Popen(
        [sys.executable, "-c", other, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said = second.stdout.readline()
    assert "another run (process" in said and f"{first.pid}" in said and "waiting for it" in said
    first.communicate("\n")
    out, _ = second.communicate("\n")
    assert out.splitlines() == ["in", str({b"1" * 16: "first"})]


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length" * 50, None])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "answers.sqlite"
    if content is None:
        sqlite3.connect(path).execute("PRAGMA user_version=99").connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"answers\.sqlite (is of format 99|cannot be read as a store of answers)"):
        AnswerStore(path)
