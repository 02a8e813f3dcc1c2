"""Damage to files and folders, drawn by a seeded generator: what a bad disk, a wrong copy or a wrong hand leaves."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import yaml

__all__ = ["BYTES", "mutate", "mutations_for"]

Mutation = Callable[[Path, Path | None, random.Random], str]
"""Damages a file, given the same file of another run and a generator; says in words what it did."""

_WRONG: tuple[Any, ...] = (
    None,
    [],
    {},
    "",
    "many",
    True,
    -1,
    0,
    2.5,
    1e308,
    2**70,
    [[]],
    [None],
    {"a": None},
    ["x", 3],
    "0",
    "\x1b[2J",
    [-1],
)


def _flip(path: Path, other: Path | None, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 1, 8)))] if content else []
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{len(places)} bits flipped"


def _cut(path: Path, other: Path | None, rng: random.Random) -> str:
    content = path.read_bytes()
    length = rng.randrange(max(len(content), 1))
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def _empty(path: Path, other: Path | None, rng: random.Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def _missing(path: Path, other: Path | None, rng: random.Random) -> str:
    path.unlink()
    return "removed"


def _garbage(path: Path, other: Path | None, rng: random.Random) -> str:
    path.write_bytes(rng.randbytes(rng.choice((1, 40, 5000))))
    return "replaced by random bytes"


def _zeroed(path: Path, other: Path | None, rng: random.Random) -> str:
    path.write_bytes(b"\0" * path.stat().st_size)
    return "zeros of the same length"


def _doubled(path: Path, other: Path | None, rng: random.Random) -> str:
    path.write_bytes(path.read_bytes() * 2)
    return "written twice"


def _folder(path: Path, other: Path | None, rng: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "a folder of its name"


def _dangling(path: Path, other: Path | None, rng: random.Random) -> str:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))
    return "a link to nowhere"


def _loop(path: Path, other: Path | None, rng: random.Random) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "a link to itself"


def _swapped(path: Path, other: Path | None, rng: random.Random) -> str:
    if other is None or not other.is_file():
        return _missing(path, other, rng)
    shutil.copyfile(other, path)
    return "that of another run"


def _neighbour(path: Path, other: Path | None, rng: random.Random) -> str:
    same = sorted(each for each in path.parent.glob(f"*{path.suffix}") if each != path and each.is_file())
    if not same:
        return _swapped(path, other, rng)
    chosen = rng.choice(same)
    shutil.copyfile(chosen, path)
    return f"that of {chosen.name}"


BYTES: tuple[Mutation, ...] = (
    _flip,
    _flip,
    _flip,
    _cut,
    _cut,
    _empty,
    _missing,
    _garbage,
    _zeroed,
    _doubled,
    _folder,
    _dangling,
    _loop,
    _swapped,
    _swapped,
    _neighbour,
)


def _wrong_type(path: Path, other: Path | None, rng: random.Random) -> str:
    content, write = _parsed(path)
    places = list(_places(content))
    if not places:
        return _garbage(path, other, rng)
    where, holder, key = rng.choice(places)
    value = rng.choice(_WRONG)
    holder[key] = value
    write(content)
    return f"{where} = {json.dumps(value)}"


def _without_key(path: Path, other: Path | None, rng: random.Random) -> str:
    content, write = _parsed(path)
    places = [(where, holder, key) for where, holder, key in _places(content) if isinstance(holder, dict)]
    if not places:
        return _garbage(path, other, rng)
    where, holder, key = rng.choice(places)
    del holder[key]
    write(content)
    return f"without {where}"


def _root(path: Path, other: Path | None, rng: random.Random) -> str:
    value = rng.choice(_WRONG)
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"its whole content {json.dumps(value)}"


def _deep(path: Path, other: Path | None, rng: random.Random) -> str:
    depth = rng.choice((2_000, 200_000))
    path.write_text("[" * depth, encoding="utf-8")
    return f"{depth:,} brackets"


def _encoding(path: Path, other: Path | None, rng: random.Random) -> str:
    content = path.read_text(encoding="utf-8")
    encoding = rng.choice(("utf-16", "utf-8-sig", "latin-1"))
    path.write_bytes(content.replace("e", "é", 1).encode(encoding, errors="replace"))
    return f"in {encoding}"


def _aliases(path: Path, other: Path | None, rng: random.Random) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return "nested aliases"


TREES: tuple[Mutation, ...] = (
    _wrong_type,
    _wrong_type,
    _wrong_type,
    _wrong_type,
    _without_key,
    _without_key,
    _root,
    _deep,
    _encoding,
    _aliases,
)


def _table(change: Callable[[pl.DataFrame, random.Random], tuple[pl.DataFrame, str]]) -> Mutation:
    def mutation(path: Path, other: Path | None, rng: random.Random) -> str:
        try:
            table = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError):
            return _garbage(path, other, rng)
        changed, told = change(table, rng)
        changed.write_parquet(path)
        return told

    return mutation


def _ids_of(table: pl.DataFrame, rng: random.Random) -> str:
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    return rng.choice(texts or table.columns)


def _without_column(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name = rng.choice(table.columns)
    return table.drop(name), f"without column {name}"


def _renamed(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name = rng.choice(table.columns)
    return table.rename({name: f"{name} "}), f"column {name} renamed"


def _whole_ids(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name = _ids_of(table, rng)
    return table.with_columns(pl.int_range(pl.len()).alias(name)), f"integers in {name}"


def _null_column(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name = rng.choice(table.columns)
    return table.with_columns(pl.lit(None).cast(table.schema[name]).alias(name)), f"null in all of {name}"


def _null_row(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name, row = rng.choice(table.columns), rng.randrange(max(len(table), 1))
    value = pl.when(pl.int_range(pl.len()) == row).then(None).otherwise(pl.col(name))
    return table.with_columns(value.alias(name)), f"null in row {row} of {name}"


def _rolled(table: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    name = rng.choice(table.columns)
    values = table[name]
    return table.with_columns(pl.concat([values[1:], values[:1]]).alias(name)), f"{name} moved by a row"


TABLES: tuple[Mutation, ...] = tuple(
    _table(change)
    for change in (
        lambda table, rng: (table.reverse(), "rows reversed"),
        lambda table, rng: (table.sample(fraction=1.0, shuffle=True, seed=rng.randrange(1000)), "rows shuffled"),
        lambda table, rng: (table.head(len(table) // 2), "half of its rows"),
        lambda table, rng: (table.clear(), "no rows"),
        lambda table, rng: (pl.concat([table, table.head(1)]), "its first row once more"),
        lambda table, rng: (table.select(sorted(table.columns, reverse=True)), "columns in another order"),
        _without_column,
        _without_column,
        _renamed,
        _whole_ids,
        _null_column,
        _null_row,
        _rolled,
    )
)


def _header(change: Callable[[dict[str, Any], random.Random], str]) -> Mutation:
    def mutation(path: Path, other: Path | None, rng: random.Random) -> str:
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        told = change(header, rng)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        return told

    return mutation


def _tensor(header: dict[str, Any], rng: random.Random) -> str:
    return rng.choice(sorted(name for name in header if name != "__metadata__"))


def _dropped_tensor(header: dict[str, Any], rng: random.Random) -> str:
    name = _tensor(header, rng)
    del header[name]
    return f"no {name} in its header"


def _renamed_tensor(header: dict[str, Any], rng: random.Random) -> str:
    name = _tensor(header, rng)
    header[f"{name}_"] = header.pop(name)
    return f"{name} renamed"


def _other_kind(header: dict[str, Any], rng: random.Random) -> str:
    name = _tensor(header, rng)
    header[name]["dtype"] = rng.choice(("I32", "F64", "F8_E9", "BOOL"))
    return f"{name} as {header[name]['dtype']}"


def _other_shape(header: dict[str, Any], rng: random.Random) -> str:
    name = _tensor(header, rng)
    header[name]["shape"] = rng.choice(([*header[name]["shape"], 1], header[name]["shape"][::-1], [-1], [2**40], "all"))
    return f"{name} in the shape {header[name]['shape']}"


def _exchanged(header: dict[str, Any], rng: random.Random) -> str:
    kinds: dict[str, list[str]] = {}
    for name in sorted(name for name in header if name != "__metadata__"):
        kinds.setdefault(str((header[name]["dtype"], header[name]["shape"])), []).append(name)
    pairs = [names for names in kinds.values() if len(names) > 1]
    if not pairs:
        return _renamed_tensor(header, rng)
    one, two = rng.sample(rng.choice(pairs), 2)
    header[one], header[two] = header[two], header[one]
    return f"{one} and {two} exchanged"


def _huge_header(path: Path, other: Path | None, rng: random.Random) -> str:
    length = rng.choice((2**63, 2**34, 90_000_000, 0))
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    return f"a header of {length:,} bytes"


WEIGHTS: tuple[Mutation, ...] = (
    _huge_header,
    *map(_header, (_dropped_tensor, _renamed_tensor, _other_kind, _other_shape, _exchanged)),
)
_BY_ENDING = {".json": TREES, ".yaml": TREES, ".parquet": TABLES, ".safetensors": WEIGHTS}


def mutations_for(path: Path) -> tuple[Mutation, ...]:
    """What can be done to a file; half of the draws should know its format."""
    return _BY_ENDING.get(path.suffix, BYTES)


def mutate(path: Path, other: Path | None, rng: random.Random) -> str:
    """Damages a file in a way that is drawn, and says how.

    Args:
        path: the file.
        other: the same file of another run.
        rng: what it is drawn from.
    """
    path.parent.chmod(0o755)
    mutation = rng.choice(mutations_for(path) if rng.random() < 0.65 else BYTES)
    with suppress(OSError):
        path.chmod(0o644)
    return mutation(path, other, rng)


def _parsed(path: Path) -> tuple[Any, Callable[[Any], None]]:
    """The content of a JSON or YAML file, and what writes it back."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        return yaml.safe_load(text), lambda content: _write(path, yaml.safe_dump(content, sort_keys=False))
    return json.loads(text), lambda content: _write(path, json.dumps(content))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _places(content: Any, where: str = "", depth: int = 0) -> Any:
    """Every place in nested containers: how to name it, its container and its key."""
    if depth > 6:
        return
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(pairs)[:200]:
        name = f"{where}.{key}" if where else str(key)
        yield name, content, key
        yield from _places(value, name, depth + 1)
