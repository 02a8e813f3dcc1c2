"""The header of a GGUF file, which may come from anybody: what the file holds, without reading a weight.

Numbers and strings are unpacked within the bounds of the file and nothing in it is run. The layout is that of
``docs/gguf.md`` of ggml: magic, version, counts, keys with values, tensors with shapes, then the weights.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dig.config.errors import UserError

__all__ = ["GgufHeader", "GgufTensor", "read_gguf_header"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 1 << 20
"""Keys and tensors: models of a thousand layers have some ten thousand."""
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 1 << 16
_MOST_NUMBERS = 1 << 24
"""In a list of the header: the longest have one per token."""
_ALIGNMENT = 32


class GgufTensor(NamedTuple):
    """A tensor as the header describes it.

    Attributes:
        kind: number of ggml's type.
        shape: in the order of torch, the fastest dimension last.
        offset: bytes from the beginning of the weights.
    """

    kind: int
    shape: tuple[int, ...]
    offset: int

    @property
    def elements(self) -> int:
        """Numbers in it."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Attributes:
        path: the file.
        metadata: values by key; of an array of strings (a vocabulary) its length alone.
        tensors: by name.
        weights_start: where the weights begin, in bytes.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    weights_start: int

    @property
    def architecture(self) -> str:
        """The kind of model, by the name that llama.cpp gives it; empty where the file does not say."""
        return self.text("general.architecture")

    @property
    def parameters(self) -> int:
        """Numbers in all its tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was made to read, None where the file does not say."""
        length = self.metadata.get(f"{self.architecture}.context_length")
        return length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None

    def text(self, key: str) -> str:
        """A value that is text; empty where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""


def read_gguf_header(path: Path, where: str) -> GgufHeader:
    """Reads the header of a file.

    Args:
        path: the file.
        where: what names it in messages.

    Raises:
        UserError: it is not a GGUF file, is cut off within its header, or of a version that is not read.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != _MAGIC:
                raise UserError(f"{where}: {path} is not a GGUF file: it does not begin with the letters GGUF")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(content).header(path)
    except (ValueError, struct.error) as error:
        reason = str(error) if type(error) is ValueError else "it is cut off within its header"
        raise UserError(f"{where}: {path} cannot be read as GGUF: {reason}") from None
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read: {error.strerror or type(error).__name__}") from None


class _Reader:
    """Goes through a header once."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._place = len(_MAGIC)

    def header(self, path: Path) -> GgufHeader:
        version = self._number("I")
        if version & 0xFFFF == 0:
            raise ValueError("it is written for big-endian machines")
        if version not in _VERSIONS:
            raise ValueError(f"it is of version {version}, and versions 2 and 3 are read")
        tensor_count, key_count = self._count("tensors"), self._count("keys")
        metadata = {self._string(_LONGEST_NAME): self._value(self._number("I")) for _ in range(key_count)}
        tensors: dict[str, GgufTensor] = {}
        for _ in range(tensor_count):
            name = self._string(_LONGEST_NAME)
            if name in tensors:
                raise ValueError(f"it holds the tensor {name[:80]!r} twice")
            tensors[name] = self._tensor(name)
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError("general.alignment is not a power of two")
        return GgufHeader(path, metadata, tensors, -(-self._place // alignment) * alignment)

    def _tensor(self, name: str) -> GgufTensor:
        dimensions = self._number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"it says that the tensor {name[:80]!r} has {dimensions:,} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        return GgufTensor(self._number("I"), shape, self._number("Q"))

    def _count(self, of: str) -> int:
        count = self._number("Q")
        if count > _MOST_ENTRIES:
            raise ValueError(f"it says that it holds {count:,} {of}")
        return count

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += struct.calcsize(f"<{form}")
        return value

    def _string(self, longest: int | None = None) -> str:
        length = self._number("Q")
        if longest is not None and length > longest:
            raise ValueError(f"it holds a name of {length:,} bytes")
        start, self._place = self._place, self._place + length
        if self._place > len(self._content):
            raise ValueError("it is cut off within its header")
        return self._content[start : self._place].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(self._number("I"), self._number("Q"))
        raise ValueError(f"it holds a value of the unknown kind {kind}")

    def _array(self, kind: int, count: int) -> Any:
        if kind in _NUMBERS:
            if count > _MOST_NUMBERS:
                raise ValueError(f"it holds a list of {count:,} numbers in its header")
            form = f"<{count}{_NUMBERS[kind]}"
            if self._place + count > len(self._content):  # before struct takes memory for them
                raise ValueError("it is cut off within its header")
            values = struct.unpack_from(form, self._content, self._place)
            self._place += struct.calcsize(form)
            return list(values)
        if kind != _STRING:
            raise ValueError(f"it holds an array of the unknown kind {kind}")
        for _ in range(count):
            self._place += 8 + struct.unpack_from("<Q", self._content, self._place)[0]
            if self._place > len(self._content):
                raise ValueError("it is cut off within its header")
        return count
