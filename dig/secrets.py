"""What looks like a secret: the one rule by which configurations are refused and messages are masked.

Configurations are written to disk and sent to W&B, and messages end in logs that people pass on. So a credential is
only ever *named*: ``key: NAME`` or ``env:NAME`` say which environment variable holds it. Who refuses one says where it
stands and which rule it breaks, and never the value.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

__all__ = ["HIDDEN", "address_secret", "hidden", "is_sensitive", "line_secret", "named_variable", "remember",
           "secret_in", "shown_override", "text_secret", "variable_name"]  # fmt: skip

HIDDEN = "***"
_REFERENCE = "env:"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

_WORDS = frozenset({
    "apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "jwt", "key", "passphrase",
    "passwd", "password", "pwd", "sas", "secret", "sig", "signature", "token",
})  # fmt: skip
_WITHIN = ("accesskey", "apikey", "authkey", "authorization", "credential", "passwd", "password", "privatekey",
           "secret", "signature", "sharedkey", "accesstoken", "authtoken", "securitytoken")  # fmt: skip
_PARTS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")

_KNOWN = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      sk-[A-Za-z0-9_-]{12,} | (?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,}       # OpenAI and its kin, Stripe
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}        # GitHub, GitLab
    | hf_[A-Za-z0-9]{16,} | gsk_[A-Za-z0-9]{16,} | xai-[A-Za-z0-9]{16,} | nvapi-[\w-]{16,} | r8_[A-Za-z0-9]{16,}
    | (?:AKIA|ASIA)[A-Z0-9]{16} | AIza[\w-]{30,} | ya29\.[\w-]{16,}             # Amazon, Google
    | xox[abeprs]-[A-Za-z0-9-]{10,} | npm_[A-Za-z0-9]{16,} | pypi-[\w-]{16,} | dop_v1_[a-f0-9]{16,}
    | wandb_v\d+_\w{16,} | SG\.[\w-]{16,}\.[\w-]{16,}
    | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*                                        # a JSON web token
    )""",
    re.VERBOSE,
)  # fmt: skip
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SCHEME = re.compile(r"\b(?:(?i:bearer)[\s+]+(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"
                     r"|(?i:basic)[\s+]+(?=[\w+/]*[A-Z])(?=[\w+/]*[\d=])[\w+/=-]{8,})")  # fmt: skip
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2}[^\s\"'<>`]+")
_NEXT = re.compile(r",(?=[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2})")
_CLOSING = {"]": "[", ")": "(", "}": "{"}
_PAIR = re.compile(r"(?<![\w.%-])([\w.%-]+)(?:=|%3[dD])([^&;#/?\s\"'<>)]+)")
_USER = re.compile(r"(:[/\\]{2})[^\s\"'<>/?#]+@")
_BARE_USER = re.compile(r"(?<![\w.:/@%+-])[\w.%+-]+:[^\s\"'@/:]{2,}@(?=[\w-]+(?:\.[\w-]+|:\d))")
_LINE = re.compile(
    r"""(?:^|(?<=[\s;&|("',{=-]))(?=([A-Za-z_][\w.-]*)(\s*[=:]\s*|\s+)"""
    r"""((?:bearer|basic)\s+[^\s"']+|"[^"]*"|'[^']*'|[^\s;&|,]+))""",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?:^|\s)(?:-u|--user|--proxy-user)[\s=]+[\"']?[^\s$\"':]+:[^\s$\"']+")

_HEX = re.compile(r"(?=.*\d)(?=.*[a-fA-F])[0-9a-fA-F]{32,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_SHORTEST = 20  # characters of a token that looks random
_CHANGES = 0.25  # of its neighbouring characters, how many are of different kinds; random base 64 has .6, hex .45
_LEAST = 8  # characters of an environment variable's value that is worth hiding

_in_use: set[str] = set()


def is_sensitive(name: str) -> bool:
    """Whether a key, a header or a field of a query of this name holds a credential."""
    parts = [part for each in _PARTS.split(unquote(name)) if (part := each.lower().rstrip("0123456789"))]
    joined = "".join(parts)
    return bool(parts) and (parts[-1] in _WORDS or any(word in joined for word in _WITHIN))


def text_secret(text: str) -> str | None:
    """Which rule a text breaks wherever it stands, None for one that may be written to disk."""
    for each in dict.fromkeys((text, unquote(text), unquote(unquote(text)))):
        if _KNOWN.search(each) or _BLOCK.search(each) or _SCHEME.search(each):
            return "looks like a key"
        for address in _addresses(each):
            if rule := _address(address):
                return rule
        if _BARE_USER.search(each):
            return "holds a user and a password"
    return None


def address_secret(address: str) -> str | None:
    """The same for an address that is asked, in which a long random part of path or query is a secret, too."""
    if rule := text_secret(address):
        return rule
    parts = _split(unquote(address))
    if parts is None:
        return "cannot be read as an address"
    texts = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.fragment]
    return "has a long random part" if any(map(_is_random, texts)) else None


def line_secret(line: str) -> str | None:
    """The name that a line of shell gives a credential for, None where its values are ``$VARIABLES``."""
    for name, between, value in _LINE.findall(line):
        given = value.strip("\"'")
        written = between.strip() or f"--{name}" in line or f" -{name}" in line
        if written and is_sensitive(name) and given and not re.match(r"(?:bearer |basic )?\$", given, re.IGNORECASE):
            return str(name)
    return "a user's password" if _LOGIN.search(line) else None


def secret_in(key: str, value: Any) -> str | None:
    """Which rule a value breaks under a dotted key, None for one that may be written to disk."""
    if not isinstance(value, str):
        return None
    if rule := text_secret(value) or text_secret(key):
        return rule
    if named_variable(value) is None and any(map(is_sensitive, key.split("."))) and _is_random(value):
        return "looks like a key"
    return None


def variable_name(text: str) -> bool:
    """Whether a text is the name of an environment variable, in capitals, and no key by its looks."""
    return bool(_VARIABLE.fullmatch(text)) and text_secret(text) is None and not _is_random(text)


def named_variable(text: str) -> str | None:
    """The environment variable that ``env:NAME`` stands for, None for any other text."""
    name = text.removeprefix(_REFERENCE)
    return name if text.startswith(_REFERENCE) and variable_name(name) else None


def remember(secret: str) -> str:
    """Notes a credential in use, so that :func:`hidden` knows it and its parts in whatever form; gives it back."""
    if len(secret) >= _LEAST:  # a shorter one is a word such as `none`, which messages use as well
        _in_use.update(_forms(secret))
    parts = _split(secret) if "://" in secret else None
    if parts is not None:
        found = [parts.password, parts.query, *(value for _, value in parse_qsl(parts.query))]
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        found += [f"{place}{parts.path}" if len(parts.path) > 1 else None]
        found += [each for each in parts.path.split("/") if _is_random(each)]
        for each in found:
            if each and len(each) >= _LEAST:
                _in_use.update(_forms(unquote(each)), _forms(each))
    return secret


def hidden(text: str) -> str:
    """A message without what is a secret by the environment or looks like one; the rest stays as it is."""
    for secret in sorted({*_in_use, *_of_environment()}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _BLOCK.sub(HIDDEN, _KNOWN.sub(HIDDEN, text))
    text = _SCHEME.sub(lambda match: f"{match[0].split()[0]} {HIDDEN}", text)
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    text = _BARE_USER.sub(f"{HIDDEN}@", text)
    return _PAIR.sub(_masked, text)


def shown_override(override: str) -> str:
    """``key=value`` for a message; the value is hidden where the key or its looks say that it is a secret."""
    key, separator, value = override.partition("=")
    if not separator:
        return hidden(override)
    quiet = is_sensitive(key.rsplit(".", 1)[-1]) and not (_harmless(key, value))
    return f"{hidden(key)}={HIDDEN}" if quiet or secret_in(key, value) else override


def _masked(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    return f"{name}={HIDDEN}" if is_sensitive(name.rsplit(".", 1)[-1]) and not _harmless(name, value) else match[0]


def _harmless(name: str, value: str) -> bool:
    """What a sensitive key may show: the name of a variable, a placeholder; and where it is a key of the configuration
    such as ``output_key`` or ``item_token``, plain words and truths."""
    value = value.strip("\"',.:;")
    if value.startswith(("$", _REFERENCE)) or value in ("", HIDDEN, "…", "[…]", "value", "NAME"):
        return True
    if not re.search(r"(?:key|token)$", name) or any(word in name.lower().replace("_", "") for word in _WITHIN):
        return False
    words = bool(re.fullmatch(r"(?:[a-z]+_)+[a-z]+", value)) and "_" in name
    return variable_name(value) or words or value.lower() in ("true", "false", "null", "none")


def _addresses(text: str) -> Iterator[str]:
    """Those in a text, which may be a list of them: what closes a bracket that they did not open is not theirs."""
    for found in _ADDRESS.findall(text):
        for address in _NEXT.split(found):
            while address[-1:] in _CLOSING and address.count(address[-1]) > address.count(_CLOSING[address[-1]]):
                address = address[:-1]
            yield address


def _address(address: str) -> str | None:
    """Which rule an address breaks: a user, or a credential by the name of its field."""
    parts = _split(address)
    if parts is None or "@" in parts.netloc or not re.fullmatch(r"[^:]*(?::\d*)?|\[.*\](?::\d*)?", parts.netloc):
        return "holds a user or a password"
    for name, value in _PAIR.findall(f"{parts.path}?{parts.query}#{parts.fragment}"):
        if is_sensitive(name) and not value.startswith(("$", HIDDEN)):
            return f"holds a credential in `{name}`"
    return None


def _split(address: str) -> Any:
    try:
        parts = urlsplit(address.replace("\\", "/"))
        _ = parts.password
    except ValueError:
        return None
    return parts


def _is_random(text: str) -> bool:
    """Whether a text has a long part without words: kinds of characters change at every other place."""
    if _HEX.fullmatch(text):
        return True
    letters = [char for char in text if char.isascii() and char.isalnum()]
    if len(letters) < _SHORTEST or _UUID.fullmatch(text) or any(char.isspace() for char in text):
        return False
    kinds = ["0" if char.isdigit() else "a" if char.islower() else "A" for char in letters]
    changes = sum(one != other for one, other in pairwise(kinds))
    return changes / (len(letters) - 1) >= _CHANGES


def _of_environment() -> Iterator[str]:
    """Values of variables whose names say that they are credentials, and passwords of proxies."""
    for name, value in os.environ.items():
        value = value.strip()
        if is_sensitive(name) and len(value) >= _LEAST and not _is_file(value):
            yield from _forms(value)
        elif "://" in value and "@" in value and (parts := _split(value)) is not None and parts.password:
            yield from _forms(unquote(parts.password))
            yield parts.password


def _is_file(value: str) -> bool:
    try:
        return value.startswith(("/", "~")) and Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a message: plain, quoted for an address, in base 64."""
    plain = secret.encode("utf-8", "surrogateescape")
    coded = base64.b64encode(plain).decode()
    return {secret, quote(plain, safe=""), quote_plus(plain), coded, coded.rstrip("="),
            base64.urlsafe_b64encode(plain).decode()} - {""}  # fmt: skip
