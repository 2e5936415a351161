"""Opening a data file: plain, .gz or .zst, decompressed while it is read."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from finesmith.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIXES = (".gz", ".zst")
CHUNK = 1 << 18
"""Bytes read at a time."""


def open_data(path: Path, name: str) -> BinaryIO:
    """The bytes of a file, decompressed; `name` is what errors call it.

    Raises:
        DataError: the archive is damaged or incomplete (raised while reading).
        MissingExtraError: a .zst file without the library zstandard.
    """
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, io.BufferedReader(_Chunks(_gunzip(path, name)), CHUNK))
    if path.suffix.lower() == ".zst":
        return cast(BinaryIO, io.BufferedReader(_Chunks(_unzstd(path, name)), CHUNK))
    return path.open("rb")


class _Chunks(io.RawIOBase):
    """A stream over an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        size = min(len(view), len(self._left))
        view[:size], self._left = self._left[:size], self._left[size:]
        return size


def _gunzip(path: Path, name: str) -> Iterator[bytes]:
    with gzip.open(path) as file:
        try:
            while chunk := file.read(CHUNK):
                yield chunk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(name, "gzip", str(error)) from error


def _unzstd(path: Path, name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstandard", "zstd", f"Reading {name}") from None

    frame = None
    with path.open("rb") as file:
        while packed := file.read(CHUNK):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(packed)
                except zstandard.ZstdError as error:
                    raise _damaged(name, "zstd", str(error)) from error
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame:  # the library ends silently inside a frame
        raise _damaged(name, "zstd", "the file ends inside a compressed frame")


def _damaged(name: str, what: str, reason: str) -> DataError:
    return DataError(
        f"{name} is damaged or incomplete ({what}): {reason.rstrip('.')}.",
        hint="Copy or download it again.",
    )
