"""``dig recommend run=RUN user=ID | items=[A,B] | users=all out=FILE …``: answers of a finished run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dig.config import UserError, nearest
from dig.config.arguments import Options, asks_help
from dig.engine.entry import exit_code
from dig.engine.secrets import shown_override

__all__ = ["main", "parse_ids"]

_USAGE = """\
dig recommend run=RUN user=ID [key=value …]
       dig recommend run=RUN items=[ID,ID,…] [key=value …]
       dig recommend run=RUN users=all out=FILE [key=value …]"""
_ABOUT = """\
Every option is a key, too: run=FOLDER is --run FOLDER, and json=true is --json. Ids are texts: 0012, 1e5, yes and null
are taken as they are written."""
_ONCE = ("run", "user", "users", "items")
_DIGITS = 18
_TRUTHS = {"true": True, "false": False}
_QUOTED = {'"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), "'": re.compile(r"'(?:[^']|'')*'")}


def _options() -> Options:
    options = Options(_USAGE, _ABOUT)
    add = partial(options.value, read=_text)
    add("--run", "FOLDER", "a run's folder, such as runs/beauty/latest", repeats=True)
    add("--user", "ID", "a user of the run's data: what comes after all that is known of them", repeats=True)
    options.value(
        "--items",
        "[A,B]",
        "or a history of your own, oldest first; an id with a comma or blanks at its ends in quotes: "
        """items=["A,1",B]""",
        read=lambda _, value: parse_ids(value),
        repeats=True,
    )
    options.value(
        "--item",
        "ID",
        "the same one by one, exactly as written: item=A,1 item=B",
        read=lambda _, value: value,
        repeats=True,
    )
    add(
        "--users",
        "all",
        "or a table for all users, or for those of a file (user_id in .csv, .tsv or .parquet, else one in each line)",
        repeats=True,
    )
    add("--out", "FILE", "where that table goes, .csv or .parquet: user_id, rank, item_id, score, title")
    held_out = "true stops before the user's test item and marks it among the answers"
    options.value("--held-out", "false", held_out, read=_choice(_TRUTHS), default=False)
    options.value("--k", "10", "how many answers", read=_count, default=10)
    add("--stage", "NAME", "grpo, sft or a baseline (default: the last that was trained)")
    stock = "recommend nothing but these items (item_id in .csv, .tsv or .parquet, else one in each line)"
    add("--stock", "FILE", stock)
    options.value(
        "--unseen",
        "auto",
        "true leaves out the items of the history, false ranks them, too; auto leaves them out where less than 1 %% of "
        "the data's purchases repeat one, and with held_out=true does as the run's evaluation",
        read=_choice({**_TRUTHS, "auto": None}),
    )
    unknown = "drop leaves out items and users that the data lack, with a count"
    options.value("--unknown", "refuse", unknown, read=_choice({"refuse": "refuse", "drop": "drop"}), default="refuse")
    options.switch("--json", "prints one JSON object")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs and returns the exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    return exit_code(_run, arguments, "free some", "interrupted")


def parse_ids(text: str) -> list[str]:
    """Ids as ``items=`` lists them: ``[A,B]``, with or without the brackets.

    An id is taken as it is written, but for blanks around it. In double quotes it is a JSON string, in single quotes
    only the quote itself is doubled, as in YAML.

    Raises:
        UserError: the list or a quote is not closed, or a place between commas is empty.
    """
    listed = text.strip()
    if listed.startswith("["):
        if not listed.endswith("]"):
            raise UserError(f"items={text}: the list is not closed; {_QUOTING}", exit_code=2)
        listed = listed[1:-1]
    ids, rest = [], listed.strip()
    while rest:
        first, rest = _first_id(rest, text)
        ids.append(first)
    if not ids:
        raise UserError(f"items={text} names no item", exit_code=2)
    return ids


_QUOTING = 'an id with commas, brackets or quotes goes into quotes, items=["A,1",B], or is given by item=ID'


def _first_id(rest: str, text: str) -> tuple[str, str]:
    """The id that a list begins with, and what follows its comma."""
    if rest[0] in _QUOTED:
        match = _QUOTED[rest[0]].match(rest)
        after = rest[match.end() :].lstrip() if match else ""
        if not match or (after and not after.startswith(",")):
            raise UserError(f"items={text}: {rest[0]} opens a quote that no comma follows; {_QUOTING}", exit_code=2)
        return _unquoted(match.group(), text), after[1:].lstrip()
    first, _, after = rest.partition(",")
    if not first.strip():
        raise UserError(f"items={text}: a place between commas is empty", exit_code=2)
    return first.strip(), after.lstrip()


def _unquoted(quoted: str, text: str) -> str:
    if quoted[0] == "'":
        return quoted[1:-1].replace("''", "'")
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError as error:
        raise UserError(f"items={text}: {quoted} is not a JSON string ({error}); try single quotes", 2) from None


def _run(arguments: list[str]) -> int:
    options = _options()
    if asks_help(arguments):
        return options.show_help()
    asked = _parse(options, arguments)
    from dig.answers import Asked, answer, answer_all, show_answer  # torch is imported here, after all cheap errors

    request = Asked(**{name: asked[name] for name in Asked._fields})
    if asked["users"] is not None:
        answer_all(request, asked["users"], Path(asked["out"]).expanduser())
    else:
        recommendations = answer(request, asked["user"], asked["items"], as_json=asked["json"])
        show_answer(recommendations, as_json=asked["json"])
    return 0


def _parse(options: Options, arguments: Sequence[str]) -> dict[str, Any]:
    """What is asked for, by key."""
    keys = [name.replace("-", "_") for name in vars(options.read([])[0])]
    truths = [argument for argument in arguments if argument.startswith("json=")]
    given, words = options.read([_as_option(argument, keys) for argument in arguments if argument not in truths])
    if words:
        raise _no_key(words[0], keys)
    asked = vars(given)
    if truths:
        asked["json"] = _choice(_TRUTHS)("--json", truths[-1].partition("=")[2])
    for key in _ONCE:
        if len(asked[key] or ()) > 1:
            hint = "; users=FILE answers several" if key == "user" else ""
            raise UserError(f"{key}= is given twice{hint}", exit_code=2)
        asked[key] = asked[key][0] if asked[key] else None
    _check(asked)
    asked["items"] = asked["items"] if asked["item"] is None else asked["item"]
    asked["run"] = Path(asked["run"]).expanduser()
    return asked


def _as_option(argument: str, keys: Sequence[str]) -> str:
    """``key=value`` as the option that it is."""
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals:
        return argument
    if key not in keys:
        raise _no_key(argument, keys)
    return f"--{key.replace('_', '-')}={value}"


def _no_key(argument: str, keys: Sequence[str]) -> UserError:
    hint = nearest(argument.partition("=")[0], keys)
    right = f"did you mean {hint}=?" if hint else ", ".join(keys)
    return UserError(f"{shown_override(argument)}: no such key; {right}", exit_code=2)


def _check(asked: dict[str, Any]) -> None:
    """Which keys go together."""
    if asked["run"] is None:
        raise UserError("run=FOLDER is missing, such as run=runs/beauty/latest", exit_code=2)
    if sum(asked[key] is not None for key in ("user", "items", "item", "users")) != 1:
        raise UserError("name either user=ID or items=[ID,…] (or item=ID item=ID …) or users=all", exit_code=2)
    if asked["held_out"] and asked["user"] is None and asked["users"] is None:
        raise UserError("held_out=true needs user=ID: a history of your own has no test item", exit_code=2)
    if asked["users"] is not None and asked["out"] is None:
        raise UserError("users= needs out=FILE, which ends in .csv or .parquet", exit_code=2)
    if asked["out"] is not None and asked["users"] is None:
        raise UserError("out= needs users=all or users=FILE", exit_code=2)
    if asked["users"] is not None and asked["json"]:
        raise UserError("json=true shows one answer; users= writes to out=", exit_code=2)


def _text(name: str, value: str) -> str:
    if not value:
        raise UserError(f"{_key(name)}= is empty", exit_code=2)
    return value


def _count(name: str, value: str) -> int:
    whole = re.fullmatch(r"(\d+)(\.0*)?", value.strip(), re.ASCII)
    if not whole or len(whole[1]) > _DIGITS or int(whole[1]) < 1:
        raise UserError(f"{_key(name)}={value[:40]} must be a whole number above 0", exit_code=2)
    return int(whole[1])


def _choice(choices: Mapping[str, Any]) -> Callable[[str, str], Any]:
    def read(name: str, value: str) -> Any:
        if value.lower() not in choices:
            raise UserError(f"{_key(name)}={value} must be {' or '.join(choices)}", exit_code=2)
        return choices[value.lower()]

    return read


def _key(name: str) -> str:
    return name[2:].replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
