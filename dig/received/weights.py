"""Weights in safetensors that may come from anybody: the header is held against the model before memory is taken.

The format holds numbers alone, so nothing in it could be run; a header may still promise tensors of any size, and a
model's configuration may ask for memory that no machine has.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from dig.config.documents import read_json_mapping
from dig.config.errors import UserError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["WIDTHS", "TensorHeader", "load_module", "read_section", "read_tensors", "weights_header"]

_HEADER_BYTES = 32 << 20
"""Bytes of a header at most: 100,000 tensors take ten million."""
WIDTHS = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
}
_SHOWN = 3
_SIZES = 1 << 24
"""Largest number in a model's configuration."""
Section = TypeVar("Section")
Module = TypeVar("Module", bound="nn.Module")


class TensorHeader(NamedTuple):
    """What a file says of a tensor: its type as safetensors writes it (``F32``), and its shape."""

    dtype: str
    shape: tuple[int, ...]


def weights_header(path: Path) -> dict[str, TensorHeader]:
    """What a file of weights holds, by name, without reading a weight.

    Raises:
        UserError: the file is missing, empty or cut off, its header is not one, or does not fit the file.
    """
    try:
        return _header(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def read_tensors(path: Path, expected: Mapping[str, tuple[str, int]]) -> dict[str, torch.Tensor]:
    """The tensors that are asked for, on the CPU.

    Args:
        path: the file.
        expected: kind of numbers (``float``, ``int``) and number of dimensions of each tensor, by name.

    Raises:
        UserError: as :func:`weights_header`, or a tensor is missing or another one.
    """
    header = weights_header(path)
    for name, (kind, dimensions) in expected.items():
        if name not in header:
            raise UserError(f"{path} cannot be read: it has no tensor {name}")
        dtype, shape = header[name]
        is_float = dtype[0] in "FB" and dtype != "BOOL"
        if (kind == "float") != is_float or len(shape) != dimensions:
            raise UserError(
                f"{path} cannot be read: {name} is {dtype} of shape {list(shape)}, not {dimensions}-dimensional {kind}"
            )
    tensors = _load(path)
    return {name: tensors[name] for name in expected}


def load_module(path: Path, make: Callable[[dict[str, TensorHeader]], Module], layers: int = 0) -> Module:
    """A module with the weights of a file, for evaluation.

    It is made without memory first, and for real once all its tensors are in the file in their shapes.

    Args:
        path: the weights.
        make: makes the module, given what the file holds; called twice.
        layers: how many layers it will have; no more than the file has tensors.

    Raises:
        UserError: as :func:`weights_header`; the module cannot be made, or has other tensors than the file.
    """
    import torch

    header = weights_header(path)
    if layers > len(header):
        raise UserError(f"{path} has {len(header):,} tensors, too few for {layers:,} layers of its {_CONFIG}")
    try:
        with torch.device("meta"):
            skeleton = make(header)
    except (RuntimeError, TypeError, ValueError, OverflowError, AssertionError, KeyError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{path.parent}: its {_CONFIG} makes no model: {reason}") from None
    _require_same(path, {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}, header)
    model = make(header)
    model.load_state_dict(_load(path))
    return model.eval()


_CONFIG = "config.json"


def read_section(
    path: Path, section: type[Section], ignored: Sequence[str] = (), required: Sequence[str] = (), **defaults: Any
) -> Section:
    """A JSON file with the fields of a dataclass, each of its type.

    Args:
        path: the file.
        section: the dataclass.
        ignored: keys of the file that the dataclass lacks.
        required: fields that the file has, though the dataclass has defaults for them.
        defaults: values of fields that older files lack.

    Raises:
        UserError: it is not such a file; names the field.
    """
    content = defaults | read_json_mapping(path, finite=True)
    content = {name: value for name, value in content.items() if name not in ignored}
    hints = get_type_hints(section)
    for name, value in content.items():
        if name not in hints:
            hint = nearest(name, hints)
            raise UserError(f"{path}: {name}: unknown key" + (f"; did you mean {hint}?" if hint else ""))
        if not _is_a(value, hints[name]):
            raise UserError(f"{path}: {name}: {json.dumps(value)[:80]} is not what {name} takes")
        if isinstance(value, int) and not 0 <= value <= _SIZES:
            raise UserError(f"{path}: {name}: {value} is not between 0 and {_SIZES:,}")
    for field in fields(section):  # type: ignore[arg-type]  # a dataclass, as the argument's description says
        needed = field.name in required or (field.default is MISSING and field.default_factory is MISSING)
        if field.name not in content and needed:
            raise UserError(f"{path}: {field.name} is missing")
    try:
        return section(**content)
    except UserError as error:  # what the section itself has to say
        raise UserError(f"{path}: {error}") from None


def _is_a(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_is_a(value, each) for each in get_args(hint))
    if hint is Any:
        return True
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is_a(each, get_args(hint)[0]) for each in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is_a(each, get_args(hint)[1]) for each in value.values())
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else isinstance(value, str)


def _load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0][:160]}") from None


def _header(path: Path) -> dict[str, TensorHeader]:
    if not path.is_file():
        raise ValueError("it is not a file" if path.exists() else "it is missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise ValueError("it is empty" if not prefix else "it is cut off")
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            raise ValueError("it is cut off, or not in safetensors: its header would be longer than the file")
        if length > _HEADER_BYTES:
            raise ValueError(f"its header has {length >> 20} MB, too much for a model")
        raw = stream.read(length)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("its header is not that of safetensors") from None
    if not isinstance(content, dict):
        raise ValueError("its header is not that of safetensors")
    content.pop("__metadata__", None)
    if not content:
        raise ValueError("it holds no tensor")
    return {name: _tensor(name, entry, size - 8 - length) for name, entry in content.items()}


def _tensor(name: str, entry: Any, room: int) -> TensorHeader:
    """An entry of a header, which must fit the bytes behind it."""
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not all(type(each) is int and each >= 0 for each in (*shape, start, end)):
            raise ValueError
        wrong = math.prod(shape) * WIDTHS[dtype] != end - start
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its header says of {name[:80]!r} what is not a tensor") from None
    if end > room:
        raise ValueError(f"it is cut off: {name[:80]!r} would end behind it")
    if wrong:
        raise ValueError(f"its header gives {name[:80]!r} a shape that does not fit its bytes")
    return TensorHeader(dtype, tuple(shape))


def _require_same(path: Path, model: Mapping[str, Sequence[int]], file: Mapping[str, TensorHeader]) -> None:
    for name, shape in model.items():
        if name not in file:
            raise UserError(f"{path} lacks the tensor {name} of a model of its {_CONFIG}")
        if tuple(shape) != file[name].shape:
            raise UserError(
                f"{path}: {name} has shape {list(file[name].shape)}, and {list(shape)} in a model of its {_CONFIG}"
            )
    surplus = [name for name in file if name not in model]
    if surplus:
        more = ", …" if surplus[_SHOWN:] else ""
        raise UserError(f"{path} has tensors that a model of its {_CONFIG} lacks: {', '.join(surplus[:_SHOWN])}{more}")
