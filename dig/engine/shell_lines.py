"""Lines of shell in a configuration: which of them hold a credential, by the plain shapes in which commands take one.

A script is written to disk, so its lines name variables: ``export HF_TOKEN=$MY_TOKEN``, ``$(cat ~/.token)``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from dig.engine.secrets import is_sensitive, looks_random

__all__ = ["line_secret"]

_FROM_COMMAND = re.compile(r"\$\((?!\s*(?:echo|printf|print)\b|[^()]*<<<)([^()]*)\)")
_SETTING = re.compile(r"(?<![\w.%-])([\w.%-]+)[\"']?\s*(?:\+?=|:=?)\s*")
_VALUE = re.compile(
    r"""(?:(?:bearer|basic|token)\s+)?(?:(?:"[^"]*"|'[^']*')++[^\s;&|"',]*+|\$?[^\s;&|"',]*+(?:(?<=\$)["'][^"']*+)?)""",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"""(?:(?:bearer|basic|token)\ +)?(?:
      (?:\$\w+|\$\{!?\w+\}|\$\{\w+:?\?[^}]*\}|\$\{\w+:?-(?:\$\w+|\$\{\w+\})?\})+
    | \$\{?(?:HOME|SCRATCH|WORK|TMPDIR|PWD)\}?(?:/[\w.-]+)+
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_LOGIN = re.compile(r"(?:^|\s)(?:-u|--user|--proxy-user)(?:=|\s++)[\"']?[^\s$\"':=][^\s$\"':]*+:[^\s$\"']")
_WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*+"|'[^']*+'|\\.|[^\s;&|<>"'\\])++|[;&|]+|[<>]+""")
_NAME = re.compile(r"--?[\w.-]+|[A-Za-z_][\w.-]*")
_CERTAIN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|sha\d+:[0-9a-f]+|@[0-9a-f]{40}\b")
"""What looks random and is not a credential: ids of devices, sums of files, commits."""
_UNKNOWN_VALUES = ("", "0", "1", "true", "false", "yes", "no", "none", "null")
_BEFORE = ("env", "sudo", "command", "exec", "export", "declare", "local", "then", "do")
_GIVING = ("set", "setenv", "config", "configure", "put", "add", "store", "-v")
"""Words of commands that take a name and then its value."""
_WITH_NAMES = ("module", "ml", "spack", "conda", "mamba", "git", "nix", "guix", "echo", "unset")
"""Commands whose words are names, hashes and prose."""
_WITH_SUMS = ("sha256sum", "sha512sum", "sha1sum", "md5sum")
_ACCOUNT = ("-u", "--user", "--username", "--host", "-h", "--hostname", "--entity", "--tenant", "--name", "-n")
"""Flags of a login whose values are not secret."""


@dataclass
class _Command:
    """What is known of the command that a line is being read of."""

    name: str = ""
    gives: bool = False
    login: bool = False
    flag: str = ""
    waiting: str = ""
    redirect: str = ""
    printed: bool = False
    piped: bool = False


def line_secret(line: str) -> str | None:
    """The name that a line of shell gives a credential for, None where its values are ``$VARIABLES``."""
    inner: list[str] = []

    def kept(match: re.Match[str]) -> str:
        inner.append(match[1])
        return "$_"

    for text in (_FROM_COMMAND.sub(kept, line), *inner):
        if secret := _set_in(text) or _given_in(text):
            return secret
    return "a user's password" if _LOGIN.search(line) else None


def _set_in(text: str) -> str | None:
    """``NAME=value``, ``NAME+=value``, ``--name=value`` and ``Name: value``, alone or in a list."""
    for match in _SETTING.finditer(text):
        if is_sensitive(match[1].rsplit(".", 1)[-1]):
            value = _VALUE.match(text, match.end())
            if value is not None and not _is_reference(value[0]):
                return match[1][:60]
    return None


def _given_in(text: str) -> str | None:
    """``--name value``, ``set NAME value``, ``login value``, and what is piped into a login."""
    sums = any(each in text for each in _WITH_SUMS)
    command = _Command()
    for match in _WORD.finditer(text):
        word = match[0]
        if word[0] in ";&|":
            command = _Command(piped=word == "|" and command.printed)
        elif word[0] in "<>":
            command.redirect = word
        elif secret := _read_word(command, word, sums):
            return secret
    return None


def _read_word(command: _Command, quoted: str, sums: bool) -> str | None:
    """Takes the next word of a command in; the name of the credential that it is, if it is one."""
    word = quoted.strip("\"'")
    redirect, command.redirect = command.redirect, ""
    if redirect and redirect != "<<<":
        return None  # a file
    if not redirect and not command.name and "=" not in word and word not in _BEFORE:
        command.name = word
        command.login = word == "login"
        command.gives = word in ("set", "setenv")
        return None
    literal = not _is_reference(quoted)
    if literal and not word.startswith("-"):
        if command.waiting and (redirect or command.name != "read"):
            return command.waiting[:60]
        if command.login and (redirect or _is_given_to_login(command.flag, word)):
            return "what `login` is given"
        if not sums and command.name not in _WITH_NAMES and _has_random_part(word):
            return "a word that looks like a key"
    command.printed = command.printed or (literal and command.name in ("echo", "printf"))
    _remember(command, word)
    if command.piped and (command.login or word.endswith(("-stdin", "with-token"))):
        return "what is piped into `login`"
    return None


def _remember(command: _Command, word: str) -> None:
    """What a word says about those behind it."""
    flag = word.startswith("-")
    asks = flag or command.name == "read" or (command.gives and command.name not in _WITH_NAMES)
    if asks and _NAME.fullmatch(word) and is_sensitive(word.rsplit(".", 1)[-1]):
        command.waiting = word.lstrip("-")
    elif command.name != "read":
        command.waiting = ""
    command.gives = command.gives or word in _GIVING
    command.login = command.login or word == "login"
    command.flag = word if flag else ""


def _is_given_to_login(flag: str, word: str) -> bool:
    return flag not in _ACCOUNT and not any(each in word for each in "./:")


def _has_random_part(word: str) -> bool:
    """Whether a word, which is not a path, has a part of letters and digits without words in it."""
    if word[0] in "/~.$" or len(word) < 20:
        return False
    return any(map(looks_random, re.split(r"[^A-Za-z0-9+]+", _CERTAIN.sub("", word))))


@functools.lru_cache(maxsize=4096)
def _is_reference(value: str) -> bool:
    """Whether a value says where it comes from, or says nothing."""
    if re.search(r"\$[\"']", value):
        return False
    plain = re.sub(r"[\"']", "", value).rstrip(")`")
    return plain.lower() in _UNKNOWN_VALUES or bool(_REFERENCE.fullmatch(plain))
