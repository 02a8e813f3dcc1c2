"""Options of all commands: values and words in any order, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dig.config import UserError
from dig.config.arguments import Options, number_from, one_of, path, split_command


def options() -> Options:
    made = Options("dig test WORD", "Does nothing.")
    made.value("--out", "FILE", "where to write", "write", read=path)
    made.value("--older-than", "DAYS", "age", read=number_from(0, whole=False), default=1.5)
    made.value("--count", "N", "how many", read=number_from(1), default=3)
    made.value("--form", "text", "the format", read=one_of(("text", "markdown")))
    made.value("--item", "ID", "one of several", repeats=True)
    made.switch("--yes", "do it")
    made.switch("--inner", None)
    return made


def test_words_and_options_stand_in_any_order():
    given, words = options().read(
        ["a", "--count", "5", "key=1", "--yes", "b", "--form=markdown", "-", "--older-than", "0"]
    )
    assert words == ["a", "key=1", "b", "-"]
    assert (given.count, given.yes, given.form, given.older_than, given.inner) == (5, True, "markdown", 0.0, False)


def test_defaults_repeated_values_and_the_end_of_options():
    given, words = options().read(["--item", "A", "--item=-1", "--count=1", "--count=2", "--", "--yes", "-x"])
    assert given.item == ["A", "-1"] and given.count == 2 and words == ["--yes", "-x"] and not given.yes
    assert options().read([])[0].older_than == 1.5
    assert options().read(["--out", "~/x"], "write")[0].out == Path.home() / "x"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cuont", "3"], "--cuont: no such flag; did you mean --count?"),
        (["--hlep"], "--hlep: no such flag; did you mean --help?"),
        (["--coun", "3"], "--coun: no such flag; did you mean --count?"),
        (["-y"], "-y: no such flag"),
        (["--zzzzzz"], "--zzzzzz: no such flag; --older-than, --count, --form, --item, --yes"),
        (["--yes=1"], "--yes takes no value; it stands alone"),
        (["--count"], "--count needs a value"),
        (["--count", "--yes"], "--count needs a value"),
        (["--item="], "--item needs a value"),
        (["--count", "0"], "--count 0 must be a whole number of at least 1"),
        (["--count", "1.5"], "--count 1.5 must be a whole number of at least 1"),
        (["--count", "-1"], "--count -1 must be a whole number of at least 1"),
        (["--count", "1_0"], "--count 1_0 must be a whole number"),
        (["--count", "²"], "must be a whole number"),
        (["--count", "9" * 400], f"--count {'9' * 40} must be a whole number"),
        (["--older-than", "nan"], "--older-than nan must be a number of at least 0"),
        (["--older-than=inf"], "must be a number"),
        (["--older-than=soon"], "must be a number"),
        (["--form", "txt"], "--form txt: no such choice; did you mean text?"),
        (["--form", "qqqq"], "--form qqqq: no such choice; there are text, markdown"),
        (["count=3"], "count=3: did you mean --count=3?"),
        (["--out", "x"], "--out is for write; read has no such flag"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], said: str):
    with pytest.raises(UserError) as caught:
        options().read(arguments, "read")
    assert said in str(caught.value) and caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_credential_given_as_an_option_is_not_repeated():
    with pytest.raises(UserError) as caught:
        options().read(["--api_key=sk-abcdefghijklmnopqrstuvwxyz0123456789"])
    assert "abcdefghij" not in str(caught.value)


def test_commands_are_told_by_the_nearest():
    assert split_command(["write", "--yes"], ("read", "write")) == ("write", ["--yes"])
    with pytest.raises(UserError, match="wriet: no such command; did you mean write\\?"):
        split_command(["wriet"], ("read", "write"))
    with pytest.raises(UserError, match=r"^--json: the command comes first, then its options: read, write$"):
        split_command(["--json", "read"], ("read", "write"))


def test_a_command_without_options_says_so():
    one = Options("x", "Does nothing.")
    one.switch("--json", "as JSON", "read")
    with pytest.raises(UserError, match=r"^--jsn: no such flag; it takes none$"):
        one.read(["--jsn"], "write")


def test_the_help_has_every_option_but_inner_ones():
    text = options().format_help()
    assert text.startswith("usage: dig test WORD\n\nDoes nothing.\n") and "--older-than DAYS" in text
    assert "--inner" not in text and text.endswith("Exit codes: 0 done, 1 failed, 2 wrong arguments.\n")
