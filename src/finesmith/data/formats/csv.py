"""Comma-separated values: a header, then one record a line (quoted fields may hold line ends)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO

from finesmith.data.lines import Line, lines
from finesmith.data.rows import Bad, Row
from finesmith.errors import DataError, counted

SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line by which Excel tells itself the separator."""
FIELD_LIMIT = 2**31 - 1
"""Characters in one field; the csv module's own limit of 131,072 is smaller than a long document."""


class Separated:
    """Records whose fields stand between separators."""

    def __init__(self, suffixes: tuple[str, ...], separators: str) -> None:
        self.suffixes = suffixes
        self.separators = separators

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (line where the record starts, row or Bad); blank lines are no rows.

        Raises:
            DataError: the header is unusable, or the file is not UTF-8 at all.
        """
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
        records = _records(lines(stream, name), self.separators)
        header: list[str] = []
        for line, record in records:
            if header:
                yield line, record if isinstance(record, Bad) else _row(header, record)
            else:
                header = _header(record, f"{name}:{line}")


PLUGIN = Separated((".csv",), ",;\t")


def _records(source: Iterator[Line], separators: str) -> Iterator[tuple[int, list[str] | Bad]]:
    """(first line, fields) for each record that is not blank; the separator is the one said, else the first that
    the header has.
    """
    first = next(source, None)
    if first is None:
        return
    said = SAID.fullmatch(first.text)
    first = next(source, None) if said else first
    if first is None:
        return
    start = first
    taken: list[Line] = []  # the lines of the record being read

    def feed() -> Iterator[str]:
        for line in _again(start, source):
            taken.append(line)
            yield line.text

    separator = said.group(1) if said else next((mark for mark in separators if mark in first.text), separators[0])
    reader = csv.reader(feed(), delimiter=separator, strict=True)
    while True:
        taken.clear()
        try:
            fields: list[str] | Bad = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fields = Bad(_unreadable(str(error), len(taken)), "".join(line.text for line in taken))
        fault = next((line.fault for line in taken if line.fault), "")
        if fault:
            yield taken[0].number, Bad(fault, "".join(line.text for line in taken))
        elif fields:
            yield taken[0].number, fields


def _again(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _unreadable(error: str, num_lines: int) -> str:
    if error == "unexpected end of data":
        taken = counted(num_lines, "line")
        return f"a quote that opens here is never closed (it takes in {taken}, to the end of the file)"
    return f"not readable as separated values: {error}"


def _header(record: list[str] | Bad, place: str) -> list[str]:
    if isinstance(record, Bad):
        raise DataError(f"{place}: the header cannot be read: {record.reason}.")
    names = [cell.strip() or f"column {index}" for index, cell in enumerate(record, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{place}: the header names a column twice: {', '.join(twice)}.")
    return names


def _row(header: list[str], fields: list[str]) -> Row | Bad:
    if len(fields) == len(header):
        return dict(zip(header, fields, strict=True))
    return Bad(f"has {counted(len(fields), 'field')} where the header has {len(header)}", ",".join(fields))
