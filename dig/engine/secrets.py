"""What looks like a secret: the one rule by which configurations are refused and messages are masked.

Configurations are written to disk and sent to W&B, and messages end in logs that people pass on. So a credential is
only ever *named*: ``key: NAME`` or ``env:NAME`` say which environment variable holds it. Who refuses one says where it
stands and which rule it breaks, and never the value.
"""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

__all__ = [
    "HIDDEN",
    "address_secret",
    "free_secret",
    "hidden",
    "is_sensitive",
    "looks_random",
    "named_variable",
    "remember",
    "secret_in",
    "shown_key",
    "shown_override",
    "shown_value",
    "text_secret",
    "variable_name",
]

HIDDEN = "***"
_REFERENCE = "env:"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

_WORDS = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "jwt",
        "key",
        "pass",
        "passcode",
        "passphrase",
        "passwd",
        "password",
        "pw",
        "pwd",
        "sas",
        "secret",
        "sig",
        "signature",
        "token",
    }
)
_WITHIN = (
    "accesskey",
    "apikey",
    "authkey",
    "authorization",
    "credential",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "signature",
    "sharedkey",
    "accesstoken",
    "authtoken",
    "securitytoken",
)
_OFTEN_PROSE = ("auth", "cookie", "key", "pass", "sas", "sig", "signature", "token")
"""Names behind which a colon begins a sentence as often as a credential."""
_LIKELY = (
    "accesskey",
    "accesstoken",
    "apikey",
    "authkey",
    "authorization",
    "authtoken",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "signature",
    "token",
)
"""Names that are recognised when they are misspelt."""
_PARTS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")

_KNOWN = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      sk-[A-Za-z0-9_-]{12,} | (?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,}       # OpenAI and its kin, Stripe
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}        # GitHub, GitLab
    | hf_[A-Za-z0-9]{16,} | gsk_[A-Za-z0-9]{16,} | xai-[A-Za-z0-9]{16,} | nvapi-[\w-]{16,} | r8_[A-Za-z0-9]{16,}
    | (?:AKIA|ASIA)[A-Z0-9]{16} | AIza[\w-]{30,} | ya29\.[\w-]{16,}             # Amazon, Google
    | xox[abeprs]-[A-Za-z0-9-]{10,} | npm_[A-Za-z0-9]{16,} | pypi-[\w-]{16,} | dop_v1_[a-f0-9]{16,}
    | wandb_v\d+_\w{16,} | SG\.[\w-]{16,}\.[\w-]{16,}
    | (?<![_-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*                                        # a JSON web token
    )""",
    re.VERBOSE,
)
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SCHEME = re.compile(
    r"\b(?:(?i:bearer)[\s+]++(?=[\w.~+/=-]{0,100}\d)[\w.~+/=-]{8,}"
    r"|(?i:basic)[\s+]++(?=[\w+/]{0,100}[A-Z])(?=[\w+/]{0,100}[\d=])[\w+/=-]{8,})"
)
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2}[^\s\"'<>`]+")
_NEXT = re.compile(r",(?=[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2})")
_CLOSING = {"]": "[", ")": "(", "}": "{"}
_NAME = re.compile(r"(?<![\w.%-])([\w.%-]+)[\"']?(?:\+?(=)|%3[dD]|\s?:\s?)")
_VALUE = re.compile(r"(?:(?:bearer|basic)\s+)?(?:\"[^\"]*\"|'[^']*'|[\"']?[^&;#/?\s\"'<>)]+)", re.IGNORECASE)
_USER = re.compile(r"((?::|(?<![^\s\"'=,(\[{]))[/\\]{2})[^\s\"'<>/\\?#]+@")
_BARE_USER = re.compile(
    r"(?<![\w.%+-])(?:[\w.%+-]+:[^\s\"'@/:]{2,}@(?!sha\d+:)(?=[\w-]+(?:\.[\w-]|:\d))"
    r"|[A-Za-z][\w.%+-]*+:(?=[^\s\"'@/:]{0,100}\d)(?=[^\s\"'@/:]{0,100}[A-Za-z])[^\s\"'@/:]{6,}@(?!sha\d+)(?=[A-Za-z]))"
)
_USER_AND_HOST = re.compile(r"[A-Za-z][^\s:@/]*:[^\s@/]{3,}@(?!sha\d+)[A-Za-z][\w.-]*")
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d*)?")
_FIELD = re.compile(r"api[-_]version=[\w.-]{1,40}")
"""The field of a query that an address may have where it is written down."""
_BELOW = re.compile(r"v\d\w*|api|chat|completions|embeddings|login|models|oauth2?|openai|realms?|responses")
"""What stands in paths behind `auth`, `token` or `key` where these are parts of a service's name."""
_PLAIN_VALUE = re.compile(r"(?!.*:(?:\s|$))[^{}\[\]&*!|>`\n]*")
_SHOWN = re.compile(r"\$\{\w+\}|[\w.*/@+$-]*")
_SPECIAL = re.compile(r"<[^<>\s]{1,40}>|\[[A-Za-z]{1,20}\]")

_HEX = re.compile(r"(?=.*\d)(?=.*[a-fA-F])[0-9a-fA-F]{32,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_SHORTEST = 20  # characters of a token that looks random
_CHANGES = 0.25  # of its neighbouring characters, how many are of different kinds; random base 64 has .6, hex .45
_FIRST = 200  # characters by which a value is taken for a reference or a placeholder
_VOCABULARY = 10_000_000  # rows of a table of tokens; larger numbers are not ids of tokens
_LEAST = 8  # characters of an environment variable's value that is worth hiding

_in_use: set[str] = set()


@functools.lru_cache(maxsize=4096)
def is_sensitive(name: str) -> bool:
    """Whether a key, a header or a field of a query of this name holds a credential."""
    parts = _parts(name)
    return bool(parts) and (parts[-1] in _WORDS or _is_within(name))


def text_secret(text: str) -> str | None:
    """Which rule a text breaks wherever it stands, None for one that may be written to disk."""
    for each in dict.fromkeys((text, unquote(text), unquote(unquote(text)))):
        if _KNOWN.search(each) or _BLOCK.search(each) or _SCHEME.search(each):
            return "looks like a key"
        for address in _addresses(each):
            if rule := _address(address):
                return rule
        if _USER.search(each) or _BARE_USER.search(each) or _USER_AND_HOST.fullmatch(each.strip()):
            return "holds a user and a password"
        for name, value, by_colon in _given(each):
            if not by_colon or not _is_prose(name, value):
                return f"holds a credential in `{re.split('[=.]', unquote(name))[-1][:60]}`"
    return None


def address_secret(address: str) -> str | None:
    """The same for an address that is asked, which is a host and a path: all else may be a credential.

    A query is for ``env:NAME``, except for ``api-version``.
    """
    if rule := text_secret(address):
        return rule
    parts = _split(unquote(address))
    if parts is None:
        return "cannot be read as an address"
    if parts.netloc and not _HOST.fullmatch(parts.netloc):
        return "holds something else than a host and a port"
    if (parts.query and not _FIELD.fullmatch(parts.query)) or parts.fragment:
        return "has a query, which may hold a credential"
    names = parts.path.split("/")
    for name, value in pairwise(names):
        if value and is_sensitive(name) and not _BELOW.fullmatch(value):
            return f"holds a credential behind `{name}`"
    return "has a long random part" if any(map(looks_random, [*names, parts.query])) else None


def free_secret(names: Sequence[str], value: Any, among_ours: bool = False) -> str | None:
    """Which rule a value breaks by its name in a section whose keys are the user's own.

    A model's configuration has numbers, switches and special tokens such as ``<pad>`` under names of this kind.

    Args:
        names: its keys below the section, outermost first; misspelt ones count, too.
        value: a text, a number, a truth or None.
        among_ours: keys of the configuration may be among them, such as ``output_key``; misspelt ones do not count.
    """
    if value is None or value == "" or isinstance(value, bool):
        return None
    for name in names:
        weak = _is_weak(name)
        if isinstance(value, (int, float)):
            sensitive = is_sensitive(name) and not (weak and abs(value) < _VOCABULARY)
        else:
            harmless = weak and (name.endswith("config_key") or _SPECIAL.fullmatch(str(value)))
            harmless = harmless or (among_ours and _harmless(name, str(value)))
            sensitive = (is_sensitive(name) or (not among_ours and _is_misspelt(name))) and not harmless
        if sensitive:
            return "is a credential by its name"
    return None


def secret_in(key: str, value: Any) -> str | None:
    """Which rule a value breaks under a dotted key, None for one that may be written to disk."""
    if not isinstance(value, str):
        return None
    if rule := text_secret(value) or text_secret(key):
        return rule
    if named_variable(value) is None and any(map(is_sensitive, key.split("."))) and looks_random(value):
        return "looks like a key"
    return None


def variable_name(text: str) -> bool:
    """Whether a text is the name of an environment variable, in capitals, and no key by its looks."""
    return bool(_VARIABLE.fullmatch(text)) and text_secret(text) is None and not looks_random(text)


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
        fragments = [parts.password, parts.query, *(value for _, value in parse_qsl(parts.query))]
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        fragments += [f"{place}{parts.path}" if len(parts.path) > 1 else None]
        fragments += [each for each in parts.path.split("/") if looks_random(each)]
        for each in fragments:
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
    return _without_values(text)


def shown_override(override: str) -> str:
    """``key=value`` for a message, the value only where it is a plain one and neither it nor the key is a secret's."""
    key, separator, value = override.partition("=")
    if not separator:
        return shown_key(override)
    quiet = is_sensitive(key.rsplit(".", 1)[-1]) and not _harmless(key, value)
    if quiet or secret_in(key, value):
        return f"{shown_key(key)}={HIDDEN}"
    return f"{shown_key(key)}={shown_value(value)}"


def shown_key(key: str) -> str:
    """A key, or a word that should have been one, up to where a value could begin."""
    begin = _SHOWN.match(key)
    shown = begin[0] if begin else ""
    return hidden(key if shown == key else f"{shown}…")


def shown_value(value: str) -> str:
    """A value for a message: what has an inside, such as a list, may hold a credential there."""
    return hidden(value) if _PLAIN_VALUE.fullmatch(value) else "…"


def _is_prose(name: str, value: str) -> bool:
    """Whether ``name: value`` may as well be part of a sentence, as in *the key: more data*."""
    last = _parts(name.rsplit(".", 1)[-1])[-1:]
    return bool(last) and last[0] in _OFTEN_PROSE and not _coded(value) and not _is_within(name, but="signature")


def _coded(value: str) -> bool:
    """Whether a value is one word of letters and digits, as credentials are and words of a message are not."""
    return bool(re.fullmatch(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=.-]{8,}", value.strip("\"'")))


def _given(text: str) -> Iterator[tuple[str, str, bool]]:
    """Names of credentials in a text with their values; and whether a colon stands between them."""
    for match, value in _values(text, 0):
        yield match[1], value[0], match[2] is None and match[0].rstrip().endswith(":")


def _values(text: str, begin: int) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    """The places of sensitive names, and of their values as far as they are not harmless."""
    while match := _NAME.search(text, begin):
        begin = match.end()
        if is_sensitive(match[1].rsplit(".", 1)[-1]):
            start = _VALUE.match(text, begin, begin + _FIRST)  # harmless ones are read again for names in them
            if start is not None and not _harmless(match[1], start[0]):
                value = _VALUE.match(text, begin) or start
                yield match, value
                begin = value.end()


def _without_values(text: str) -> str:
    """``name=value`` with the value hidden; behind a colon stands what a message says about a key, or a credential."""
    pieces, begin = [], 0
    for match, value in _values(text, 0):
        by_colon = match[2] is None and match[0].rstrip().endswith(":")
        if not by_colon or (_coded(value[0]) and not _is_prose(match[1], value[0])):
            pieces += [text[begin : value.start()], HIDDEN]
            begin = value.end()
    return "".join([*pieces, text[begin:]])


def _harmless(name: str, value: str) -> bool:
    """What a sensitive key may show: the name of a variable, a placeholder; and where it is a key of the configuration
    such as ``output_key`` or ``item_token``, plain words."""
    value = re.sub(r"^(?:bearer|basic)\s+(?=\$)", "", value.strip("\"',.:;[]{}"), flags=re.IGNORECASE)
    if value.startswith(("$", _REFERENCE)) or value in ("", HIDDEN, "…", "value", "NAME"):
        return True
    if value.lower() in ("0", "1", "true", "false", "null", "none"):
        return True
    if not re.search(r"(?:key|token)$", name) or any(word in name.lower().replace("_", "") for word in _WITHIN):
        return False
    return variable_name(value) or (bool(re.fullmatch(r"(?:[a-z]+_)+[a-z]+", value)) and "_" in name)


def _addresses(text: str) -> Iterator[str]:
    """Those in a text, which may be a list of them: what closes a bracket that they did not open is not theirs."""
    for match in _ADDRESS.findall(text):
        for address in _NEXT.split(match):
            surplus = {each: address.count(each) - address.count(_CLOSING[each]) for each in _CLOSING}
            end = len(address)
            while end and surplus.get(address[end - 1], 0) > 0:
                end -= 1
                surplus[address[end]] -= 1
            yield address[:end]


def _address(address: str) -> str | None:
    """Which rule an address breaks where it is only told: a user; names of fields are looked at in every text."""
    parts = _split(address)
    if parts is None or "@" in parts.netloc or not re.fullmatch(r"[^:]*(?::\d*)?|\[.*\](?::\d*)?", parts.netloc):
        return "holds a user or a password"
    return None


def _parts(name: str) -> list[str]:
    return [part for each in _PARTS.split(unquote(name)) if (part := each.lower().rstrip("0123456789"))]


def _is_within(name: str, but: str = "") -> bool:
    joined = "".join(_parts(name))
    return any(word in joined for word in _WITHIN if word != but)


def _is_weak(name: str) -> bool:
    """Whether a name that ends in `token` or `key` may be a model's own."""
    return _parts(name)[-1:] in (["token"], ["key"]) and not _is_within(name)


def _is_misspelt(name: str) -> bool:
    """Whether one to three parts of a name are a slip of the finger away from a credential's."""
    parts = _parts(name[:100])
    for length in (1, 2, 3):
        for begin in range(len(parts) - length + 1):
            joined = "".join(parts[begin : begin + length])
            if joined != "tokens" and any(1 <= _apart(joined, word) <= 1 + (len(word) > 7) for word in _LIKELY):
                return True
    return False


def _apart(one: str, other: str) -> int:
    """Letters to put in, leave out, replace or swap with their neighbours until one word is the other."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        earlier, before, row = before, row, [i + 1]
        for j, letter_there in enumerate(other):
            steps = min(before[j] + (letter != letter_there), before[j + 1] + 1, row[j] + 1)
            if i and j and letter == other[j - 1] and one[i - 1] == letter_there:
                steps = min(steps, earlier[j - 1] + 1)
            row.append(steps)
    return row[-1]


def _split(address: str) -> Any:
    try:
        parts = urlsplit(address.replace("\\", "/"))
        _ = parts.password
    except ValueError:
        return None
    return parts


def looks_random(text: str) -> bool:
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
    return {
        secret,
        quote(plain, safe=""),
        quote_plus(plain),
        coded,
        coded.rstrip("="),
        base64.urlsafe_b64encode(plain).decode(),
    } - {""}
