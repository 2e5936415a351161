"""Bytes to numbered lines of UTF-8 text, with every undecodable byte named by its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from finesmith.errors import DataError

LATIN_LINES = 20
"""So many undecodable lines, and not one with valid UTF-8 beyond ASCII, mean that the file is in another encoding."""

SIGNATURES = (
    (b"\x1f\x8b", "is compressed with gzip", "Add .gz to its name."),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "Add .zst to its name."),
    (b"PK\x03\x04", "is a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV (UTF-8)."),
    (b"PAR1", "is a Parquet file", "Name it .parquet, or set data.format to parquet."),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its line end. `fault` is empty, or says which byte is not UTF-8 (`text` then has U+FFFD there)."""

    number: int
    text: str
    fault: str = ""


def lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    """The lines of a stream, counted from 1; a byte order mark is left out.

    Raises:
        DataError: the file is UTF-16, clearly Latin-1, or no text at all.
    """
    offset = faults = 0
    beyond_ascii = False
    for number, raw in enumerate(stream, start=1):
        if number == 1:
            _check_start(raw, name)
        line = _decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, number, offset)
        faults += bool(line.fault)
        beyond_ascii = beyond_ascii or not (line.fault or raw.isascii())
        if faults >= LATIN_LINES and not beyond_ascii:
            raise _foreign(name, line.fault, number, "WINDOWS-1252")
        yield line
        offset += len(raw)


def _decode(raw: bytes, number: int, offset: int) -> Line:
    try:
        return Line(number, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        fault = f"byte 0x{raw[error.start]:02x} at offset {offset + error.start} is not UTF-8"
        return Line(number, raw.decode("utf-8", errors="replace"), fault)


def _check_start(raw: bytes, name: str) -> None:
    for magic, what, hint in SIGNATURES:
        if raw.startswith(magic):
            raise DataError(f"{name} {what}, which its name does not say.", hint=hint)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:256]:
        at = 0 if raw[:1] in (b"\xff", b"\xfe") else raw.index(b"\0")
        raise _foreign(name, f"byte 0x{raw[at]:02x} at offset {at}", 1, "UTF-16")


def _foreign(name: str, fault: str, line: int, encoding: str) -> DataError:
    return DataError(
        f"{name} is not UTF-8; it looks like {encoding} (line {line}: {fault}).",
        hint=f"Save it again as UTF-8, for example: iconv -f {encoding} -t UTF-8 '{name}' > utf8-copy",
    )
