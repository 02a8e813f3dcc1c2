"""Files of any compression as blocks of whole lines, read ahead by a thread and checked to their end."""

from __future__ import annotations

import codecs
import mmap
import queue
import re
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dig.config import UserError
from dig.engine.console import byte_progress, warn

__all__ = ["COMPRESSIONS", "Block", "blocks", "count_bytes", "count_records", "is_utf8", "pieces", "read_whole"]

COMPRESSIONS = ("", ".gz", ".zst")
"""Suffixes of plain, gzipped and zstd files."""
_PIECE = 1 << 20  # bytes read from the file at once
_BLOCK = 8 << 20  # bytes of lines handed out at once
_FIRST_BYTES = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
_FED = 1024  # bytes of zstd data unpacked at once
_UNPACKED = 4 << 20  # bytes unpacked at once: a megabyte of packed data may be a thousand of line ends
_AHEAD = 3  # blocks waiting
_BOM = b"\xef\xbb\xbf"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BINARY = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet (.xlsx), not text; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (.xls), not text; save the sheet as CSV",
    b"\x1f\x8b": "gzipped data; let its name end in .gz, or unpack it once more",
    b"\x28\xb5\x2f\xfd": "zstd data; let its name end in .zst, or unpack it once more",
    b"BZh": "bzip2 data; unpack it",
    b"\xfd7zXZ": "xz data; unpack it",
    b"PAR1": "Parquet; let its name end in .parquet",
    b"ARROW1": "an Arrow file, not text; save it as Parquet",
    b"SQLite format 3": "a SQLite database, not text; write its tables as CSV",
}
_TEXT = {
    b"version https://git-lfs": "a pointer of Git LFS, not the data; fetch them by: git lfs pull",
    b"<!doctype html": "a web page, not data",
    b"<html": "a web page, not data",
}
"""What begins like this (text in small letters) is something else than its name says."""
_HEAD, _PRINTED = 40, re.compile(rb"[\t\r\n -~]*")
_BLANK_LINE = re.compile(rb"\n[ \t\r\x0b\x0c]*(?:(?=\n)|(?<!\n)\Z)")  # but the first; the end itself is not a line
_NOT_ASCII = re.compile(r"\w{0,20}[^\W\x00-\x7f]\w{0,20}")
_BLANKS = b" \t\r\x0b\x0c"
_SHORT = 8
"""Bytes of a line, on average, below which blank ones are counted as numbers and not as texts."""
_LONGEST_LINE = 1 << 28
"""Bytes; what has no line end for so long is not a table."""
_LOOKED_AT = 4096  # bytes
_PART = 1 << 18  # bytes that are counted at once


class Block(NamedTuple):
    """Whole lines, the number of the first, and how many there are; the last one may lack its end."""

    first_line: int
    data: bytes
    lines: int


def pieces(path: Path, encoding: str = "utf-8") -> Iterator[bytes]:
    """The decompressed content as UTF-8, piece by piece, without a byte order mark.

    Raises:
        UserError: if the file cannot be read, is damaged or cut off, or is evidently in another encoding.
    """
    first = True
    content = _decompressed(path)
    for piece in content if is_utf8(encoding) else _recoded(path, content, encoding):
        if first:
            _check_encoding(path, piece)
        yield piece.removeprefix(_BOM) if first else piece
        first = False


def is_utf8(encoding: str) -> bool:
    """Whether a name means UTF-8, with or without a byte order mark."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def read_whole(path: Path, encoding: str = "utf-8") -> bytes:
    """The whole decompressed content, as UTF-8.

    Raises:
        UserError: as :func:`pieces` does, and if lines end with bare carriage returns.
    """
    try:
        content = b"".join(pieces(path, encoding))
    except MemoryError:
        raise UserError(f"{path}: unpacked it does not fit into memory") from None
    _check_line_ends(path, content)
    return content


def count_bytes(data: bytes | np.ndarray, byte: int) -> int:
    """How often a byte occurs; in parts that stay in the cache, which is faster than ``bytes.count``."""
    view = np.frombuffer(data, np.uint8)
    return sum(int(np.count_nonzero(view[at : at + _PART] == byte)) for at in range(0, len(view), _PART))


def count_records(data: bytes) -> int:
    """Lines that hold more than blanks."""
    if not data:
        return 0
    lines = count_bytes(data, ord("\n")) + (not data.endswith(b"\n"))
    if lines * _SHORT > len(data):  # each match of the expression below would take forty bytes
        ends = np.frombuffer(data.translate(None, _BLANKS), dtype=np.uint8) == ord("\n")
        return int(np.count_nonzero(~ends[1:] & ends[:-1])) + int(len(ends) > 0 and not ends[0])
    first = not data[: data.find(b"\n") + 1 or None].strip()
    return lines - first - len(_BLANK_LINE.findall(data))


def blocks(path: Path, encoding: str = "utf-8") -> Generator[Block]:
    """The content as blocks of whole lines in UTF-8, read ahead by a thread.

    Raises:
        UserError: as :func:`pieces` does.
    """
    plain = path.suffix not in COMPRESSIONS[1:] and is_utf8(encoding)
    with _read_ahead(_mapped_lines(path) if plain else _lines(path, pieces(path, encoding))) as ahead:
        line = 1
        for data in ahead:
            if line == 1:
                _check_line_ends(path, data)
            count = count_bytes(data, ord("\n")) + (not data.endswith(b"\n"))
            yield Block(line, data, count)
            line += count


def _mapped_lines(path: Path) -> Iterator[bytes]:
    """Blocks of a plain file, cut where they lie: each byte is copied once."""
    try:
        with path.open("rb") as stream, byte_progress(f"reading {path.name}", path.stat().st_size) as advance:
            if not path.stat().st_size:
                return
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                start = len(_BOM) if content[: len(_BOM)] == _BOM else 0
                _check_encoding(path, content[:_LOOKED_AT])
                size = 2 * _BLOCK  # larger ones are faster, and nothing else is held in memory here
                while start < len(content):
                    end = content.rfind(b"\n", start, start + size) + 1
                    if not end:  # a line longer than a block
                        end = content.find(b"\n", start) + 1 or len(content)
                    if start + size >= len(content):
                        end = len(content)
                    yield content[start:end]
                    advance(end - start)
                    start = end
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _recoded(path: Path, content: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    otherwise = _Utf8()
    try:
        for piece in content:
            otherwise.see(piece)
            if text := decoder.decode(piece):
                yield text.encode()
        otherwise.see(b"", final=True)
        if text := decoder.decode(b"", final=True):
            yield text.encode()
    except UnicodeError as error:
        raise UserError(f"{path}: not {encoding}, which data.encoding names: {error}") from None
    if otherwise.example:
        wrong = otherwise.example.encode().decode(encoding, "replace")
        warn(f"{path}: this is UTF-8; data.encoding={encoding} makes {wrong!r} of {otherwise.example!r}, leave it out")


class _Utf8:
    """Whether bytes are UTF-8, as text in another encoding that is not ASCII hardly ever is by chance."""

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
        self._seen = ""

    def see(self, piece: bytes, final: bool = False) -> None:
        """Takes the next bytes."""
        if self._decoder is None:
            return
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            self._decoder = None
            return
        if not self._seen and not text.isascii() and (word := _NOT_ASCII.search(text)):
            self._seen = word[0]

    @property
    def example(self) -> str:
        """The first word that is not ASCII; empty if there is none, or the bytes are not UTF-8."""
        return self._seen if self._decoder else ""


def _check_encoding(path: Path, start: bytes) -> None:
    """Refuses what is not text, and what is UTF-16 or UTF-32: it shows in its mark, or in nulls at every other place.

    Raises:
        UserError: which names what it is.
    """
    head = start[:_HEAD]
    kind = next((kind for mark, kind in _TEXT.items() if head.lstrip().lower().startswith(mark)), None)
    if not _PRINTED.fullmatch(head):
        kind = next((kind for mark, kind in _BINARY.items() if head.startswith(mark)), kind)
    if kind:
        raise UserError(f"{path}: this is {kind}")
    name = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    looked = start[:_LOOKED_AT]
    if name is None and len(looked) >= 4:
        half = len(looked) // 2
        nulls = [looked[place::2].count(0) / half for place in (0, 1)]
        if max(nulls) > 0.4 and min(nulls) < 0.1:
            name = "utf-16-be" if nulls[0] > nulls[1] else "utf-16-le"
    if name:
        raise UserError(f"{path}: this is {name.upper()}, not UTF-8; set data.encoding={name}, or save it as UTF-8")


def _check_line_ends(path: Path, content: bytes) -> None:
    if b"\n" not in content and b"\r" in content.rstrip(b"\r"):
        raise UserError(
            f"{path}: lines end with bare carriage returns (as on old Macs); save it with newlines, for "
            "example by: tr '\\r' '\\n'"
        )


def _lines(path: Path, content: Iterator[bytes]) -> Iterator[bytes]:
    """Joins pieces to blocks that end with a line."""
    pieces: list[bytes] = []
    size = 0
    for piece in content:
        pieces.append(piece)
        size += len(piece)
        end = piece.rfind(b"\n") + 1
        if size >= _BLOCK and end:
            pieces[-1] = piece[:end]
            yield b"".join(pieces)
            pieces, size = [piece[end:]], len(piece) - end
        elif size > _LONGEST_LINE:
            raise UserError(f"{path}: a line has more than {_LONGEST_LINE >> 20} MB; it is not a table of lines")
    if size:
        yield b"".join(pieces)


def _decompressed(path: Path) -> Iterator[bytes]:
    make = _decompressor(path)
    try:
        with path.open("rb") as stream, byte_progress(f"reading {path.name}", path.stat().st_size) as advance:
            state = make() if make else None
            begun = False
            while raw := stream.read(_PIECE):
                advance(len(raw))
                if state is None or make is None:
                    yield raw
                    continue
                while raw:
                    begun = True
                    piece = state.decompress(raw, _UNPACKED)
                    for at in range(0, len(piece), _UNPACKED):  # zstd gives all that a kilobyte unpacks to
                        yield piece[at : at + _UNPACKED]
                    raw = state.unused_data if state.eof else state.unconsumed_tail
                    if state.eof:  # files may be several compressed ones in a row, padded with zeros
                        state, begun, raw = make(), False, raw.lstrip(b"\0")
            if begun:
                raise UserError(f"{path}: damaged or cut off: the compressed data end in the middle")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _errors() as error:
        if not _begins_as_named(path):
            raise UserError(
                f"{path}: damaged or cut off, or not compressed as its name says; then take {path.suffix} off its name"
            ) from None
        raise UserError(f"{path}: damaged or cut off: {error}") from None


def _begins_as_named(path: Path) -> bool:
    """Whether a file begins as its compression does."""
    with path.open("rb") as stream:
        return stream.read(4).startswith(_FIRST_BYTES[path.suffix])


def _decompressor(path: Path) -> Callable[[], Any] | None:
    if path.suffix == ".gz":
        return lambda: zlib.decompressobj(31)
    if path.suffix == ".zst":
        import zstandard

        return lambda: _Zstd(zstandard)
    return None


class _Zstd:
    """A frame of zstd, unpacked in bounded pieces by the interface of zlib's ``decompressobj``.

    The library's own object gives all that a piece unpacks to at once; its reader does not, and wants a stream.
    """

    def __init__(self, library: Any) -> None:
        self._object = library.ZstdDecompressor().decompressobj()
        self.unconsumed_tail = memoryview(b"")

    @property
    def eof(self) -> bool:
        """Whether the frame ended."""
        return bool(self._object.eof)

    @property
    def unused_data(self) -> bytes:
        """What lies behind the frame, of all that was given."""
        return bytes(self._object.unused_data) + bytes(self.unconsumed_tail)

    def decompress(self, data: bytes | memoryview, most: int) -> bytes:
        """Unpacks some of the data, ``most`` bytes or a little more; the rest is in ``unconsumed_tail``.

        Three bytes can be a block of 128 KiB, so that a kilobyte at once is 40 MB at most.
        """
        rest, parts, size = memoryview(data), [], 0
        while len(rest) and size < most and not self.eof:
            part, rest = self._object.decompress(rest[:_FED]), rest[_FED:]
            parts.append(part)
            size += len(part)
        self.unconsumed_tail = rest
        return b"".join(parts)


def _errors() -> tuple[type[Exception], ...]:
    import zstandard

    return zlib.error, zstandard.ZstdError


@contextmanager
def _read_ahead(source: Iterator[bytes]) -> Generator[Iterator[bytes]]:
    """Runs an iterator in a thread, a few elements ahead; an exception in it is raised here."""
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(element: bytes | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(element, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for element in source:
                if not put(element):
                    return
            put(None)
        except BaseException as error:
            put(error)

    def taken() -> Iterator[bytes]:
        while (element := waiting.get()) is not None:
            if isinstance(element, BaseException):
                raise element
            yield element

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        thread.join()
