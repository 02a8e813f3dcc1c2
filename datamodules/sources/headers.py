"""The header of a delimited file, and what it tells of a file that was saved in another form."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from datamodules.sources.quoting import form_of
from dig.config import UserError, nearest

__all__ = ["check_columns", "check_form", "read_header", "separator_of", "leads_outside"]

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def separator_of(path: Path) -> str:
    """A tab for ``.tsv``, else a comma."""
    return "\t" if ".tsv" in path.suffixes else ","


def read_header(path: Path, content: bytes) -> list[str]:
    """The first record, without blanks around the names.

    Raises:
        UserError: if there is none, or if its quotes are not closed.
    """
    if not content or content.isspace():
        raise UserError(f"{path}: the file is empty")
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace", newline="")
    try:
        header = next(csv.reader(text, delimiter=separator_of(path), strict=True), [])
    except csv.Error as error:
        raise UserError(f"{path}:1: the header cannot be read: {error}") from None
    return [name.strip() for name in header]


def check_form(path: Path, content: bytes, required: Sequence[str]) -> None:
    """Checks that the first line is a header with this file's separator.

    Raises:
        UserError: which names the form that the file has instead, and what to do.
    """
    end = content.find(b"\n")
    first = content[: end if end >= 0 else len(content)].decode("utf-8", "replace").strip("\r\n")
    if first.strip('" ').lower().startswith("sep="):
        raise UserError(f"{path}:1: the first line is a spreadsheet's {first.strip()!r}, not the header; delete it")
    own = separator_of(path)
    if set(required) & set(read_header(path, content)):
        return
    if not first.strip():
        raise UserError(f"{path}:1: the first line is empty; it must be the header: {own.join(required)}")
    for other, name in _NAMES.items():
        names = [field.strip('" ') for field in first.split(other)]
        if other != own and set(required) & set(names):
            remedy = {",": "name it .csv", "\t": "name it .tsv"}.get(other, f"save it with {_NAMES[own]}")
            raise UserError(f"{path}:1: fields are separated by {name}, not {_NAMES[own]}; {remedy}")
    fields = first.split(own)
    after = content[end + 1 : content.find(b"\n", end + 1)].decode("utf-8", "replace").split(own) if end >= 0 else []
    alike = len(after) == len(fields) and _alike(fields, after) > 1
    if len(fields) >= len(required) and (alike or any(_is_value(field) for field in fields)):
        such = f", such as {own.join(required)!r}" if required else ""
        row = "" if leads_outside(path) else f" ({first[:60]})"
        raise UserError(
            f"{path}:1: there is no header, the first line is a row{row}; put a line of names before it{such}"
        )


def leads_outside(path: Path) -> bool:
    """Whether a file is a link out of its folder: one in a folder from a stranger may point to whatever is here, so
    errors do not quote what it holds."""
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError):
        return True


def check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    """Checks a header.

    Raises:
        UserError: for a column that is missing (with the nearest that is there) or stands there twice.
    """
    for name in required:
        if name not in columns:
            hint = nearest(name, columns)
            found = f"did you mean {hint!r}?" if hint else f"it has: {', '.join(columns) or 'nothing'}"
            if leads_outside(path):
                found = "the file is a link out of its folder, so its columns are not told"
            raise UserError(f"{path}: column {name!r} is missing; {found} (data.columns maps names)")
        if list(columns).count(name) > 1:
            raise UserError(f"{path}: column {name!r} stands there twice")


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many fields with digits have the form of the one below, as ``i17`` and ``i18``, unlike a name."""
    forms = [form_of(field) for field in first]
    return sum("9" in form and form == form_of(below) for form, below in zip(forms, second, strict=True))


def _is_value(field: str) -> bool:
    """Whether a field is a number or starts like a date, as no name does."""
    text = field.strip('" ')
    try:
        float(text)
    except ValueError:
        return len(text) >= 8 and text[:4].isdigit()
    return True
