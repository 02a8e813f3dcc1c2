"""Finding a source's files in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

from datamodules.sources.streams import COMPRESSIONS
from dig.config import UserError, nearest
from dig.config.schema import DataConfig

__all__ = ["category_of", "data_folder", "find", "find_one", "named_file"]


def data_folder(config: DataConfig) -> Path:
    """``data.path``.

    Raises:
        UserError: if it is no folder.
    """
    folder = Path(config.path or "").expanduser()
    try:
        folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
            raise UserError(f"data.path={folder}: symbolic links run in a circle") from None
    if not folder.is_dir():
        what = "no folder but a file" if folder.is_file() else "no such folder"
        raise UserError(
            f"data.path={folder}: {what}; set it, or DIG_DATA_ROOT above it, or let data.download=true "
            "fetch published data"
        )
    return folder


def find(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of the names that are there, plain or compressed.

    Raises:
        UserError: if a file is a symbolic link that runs in a circle.
    """
    found = []
    for name in names:
        for suffix in COMPRESSIONS:
            path = folder / f"{name}{suffix}"
            try:
                path.stat()
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise UserError(f"{path}: symbolic links run in a circle") from None
                continue
            if path.is_file():
                found.append(path)
    return found


def find_one(folder: Path, what: str, names: Sequence[str]) -> Path:
    """The one file of a table.

    Raises:
        UserError: if there is none (with the nearest file that is there), or more than one.
    """
    found = find(folder, names)
    if not found:
        looked = ", ".join(names)
        there = sorted(path.name for path in folder.iterdir() if path.is_file())
        hint = next((near for name in names if (near := nearest(name, there))), None)
        known = f"; did you mean {hint}?" if hint else f"; it has: {', '.join(there[:8]) or 'nothing'}"
        raise UserError(f"{folder} has no {what}; looked for {looked}, plain, .gz or .zst{known}")
    if len(found) > 1:
        raise UserError(f"{folder} has {found[0].name} and {found[1].name}; keep one of them")
    return found[0]


def named_file(folder: Path, key: str, name: str, names: Sequence[str]) -> Path:
    """The file that a key names, inside the folder.

    Raises:
        UserError: if it is not there (with the nearest that is), lies elsewhere, or is of a kind that cannot be read.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{key}={name}: the file must lie in data.path={folder}", exit_code=2)
    if not path.is_file():
        there = sorted(file.name for file in folder.iterdir() if file.is_file())
        hint = nearest(name, there)
        known = f"did you mean {hint}?" if hint else f"it has: {', '.join(there[:8]) or 'nothing'}"
        raise UserError(f"{key}={name}: there is no such file in {folder}; {known}")
    endings = [f"{Path(each).suffix}{packed}" for each in names for packed in COMPRESSIONS]
    if not path.name.endswith(tuple(endings)):
        kinds = ", ".join(dict.fromkeys(Path(each).suffix for each in names))
        raise UserError(f"{key}={name}: its name must end in {kinds}, perhaps with .gz or .zst behind it", exit_code=2)
    return path


def category_of(folder: Path, config: DataConfig, suffix: str) -> str:
    """``data.category``, or the only one whose metadata file ``meta_<category><suffix>`` lies there.

    Raises:
        UserError: if none or several do.
    """
    if config.category:
        return config.category
    there = set()
    for compression in COMPRESSIONS:
        ending = f"{suffix}{compression}"
        there |= {path.name.removeprefix("meta_").removesuffix(ending) for path in folder.glob(f"meta_*{ending}")}
    if len(there) == 1:
        return there.pop()
    if not there:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} has no metadata file meta_<category>{suffix}, plain, .gz or .zst; it has: {names}")
    raise UserError(f"{folder} has several categories: {', '.join(sorted(there))}; name one with data.category=…")
