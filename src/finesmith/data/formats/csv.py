"""Comma-separated values: a header, then one record a line (quoted fields may hold line ends)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

from finesmith.data.lines import Line, lines
from finesmith.data.rows import Bad, Row
from finesmith.errors import DataError, counted

SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line by which Excel tells itself the separator."""
SAY = "If the fields are separated by another sign, say so in a first line of its own, for example: sep=;"
FIELD_LIMIT = 2**31 - 1
"""Characters in one field; the csv module's own limit of 131,072 is smaller than a long document."""
SHOWN = 200
"""Characters that are shown of a record which takes in others."""


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
        source = lines(stream, name)
        begin, separator, doubt = _begun(list(islice(source, 3)), self.separators)
        header: list[str] = []
        for taken, record in _records(chain(begin, source), separator):
            if not header:
                header = _header(record, f"{name}:{taken[0].number}")
            elif isinstance(record, Bad):
                yield taken[0].number, record
            else:
                yield taken[0].number, _row(header, record, taken, separator, doubt)


PLUGIN = Separated((".csv",), ",;\t")


def _begun(begin: list[Line], marks: str) -> tuple[list[Line], str, str]:
    """The first lines without the one that says the separator; the separator; and what to add where a row does not fit
    and the header may be meant otherwise.
    """
    if begin and (said := SAID.fullmatch(begin[0].text)):
        return begin[1:], said.group(1), ""
    separator = _guessed([line.text for line in begin], marks)
    unsure = begin and sum(mark in begin[0].text for mark in marks) > 1
    return begin, separator, f", if '{separator}' separates (a first line like sep=; says what does)" if unsure else ""


def _guessed(texts: Sequence[str], marks: str) -> str:
    """The separator by the header and the line behind it, quoted fields left out: of the marks in the header the one
    that stands in both as often, then the one that stands most often, then the first.
    """
    bare = [_quoted(marks).sub("", text) for text in texts if text.strip()]
    if not bare:
        return marks[0]
    names = {mark: bare[0].count(mark) for mark in marks}
    alike = {mark: len(bare) > 1 and names[mark] == bare[1].count(mark) for mark in marks}
    return max(marks, key=lambda mark: (names[mark] > 0, alike[mark] and names[mark] > 0, names[mark]))


def _quoted(marks: str) -> re.Pattern[str]:
    """A field in quotes, its end in group 1 (empty: it is never closed)."""
    return re.compile(rf'(?:\A|(?<=[{re.escape(marks)}]))"[^"]*(?:""[^"]*)*("?)')


def _records(source: Iterable[Line], separator: str) -> Iterator[tuple[list[Line], list[str] | Bad]]:
    """(its lines, its fields) for each record that is not blank."""
    taken: list[Line] = []

    def feed() -> Iterator[str]:
        for line in source:
            taken.append(line)
            yield line.text

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    while True:
        taken.clear()
        try:
            fields: list[str] | Bad = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fields = _unreadable(str(error), taken, separator)
        fault = next((line.fault for line in taken if line.fault), "")
        if fault and not (isinstance(fields, Bad) and fields.rest):
            fields = Bad(fault, _text(taken))
        if fields:
            yield taken, fields


def _text(taken: Iterable[Line]) -> str:
    return "".join(line.text for line in taken)


def _unreadable(error: str, taken: Sequence[Line], separator: str) -> Bad:
    """Where the quote stands that breaks a record; if it takes in more lines, nobody knows how many rows they are."""
    text, num_lines = _text(taken), len(taken)
    opened = text.count("\n", 0, _breaking(text, separator))
    where = f"a quote that opens {f'in line {taken[opened].number}' if opened else 'here'}"
    over = f"takes in {counted(num_lines - opened, 'line')}"
    if error == "unexpected end of data":
        return Bad(f"{where} is never closed (it {over}, to the end of the file)", text[:SHOWN], rest=True)
    reason = f"not readable as separated values: {error}"
    if opened == num_lines - 1:
        return Bad(reason, text)
    return Bad(f"{reason} ({where} {over})", text[:SHOWN], rest=True)


def _breaking(text: str, separator: str) -> int:
    """Where the quoted field begins that is never closed, or closed in the middle; 0 if none is."""
    for field in _quoted(separator).finditer(text):
        if not field.group(1) or text[field.end() : field.end() + 1] not in (separator, "\r", "\n", ""):
            return field.start()
    return 0


def _header(record: list[str] | Bad, place: str) -> list[str]:
    if isinstance(record, Bad):
        raise DataError(f"{place}: the header cannot be read: {record.reason}.", hint=SAY)
    names = [cell.strip() or f"column {index}" for index, cell in enumerate(record, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{place}: the header names a column twice: {', '.join(twice)}.")
    return names


def _row(header: list[str], fields: list[str], taken: Sequence[Line], separator: str, doubt: str) -> Row | Bad:
    if len(fields) == len(header):
        return dict(zip(header, fields, strict=True))
    reason = f"has {counted(len(fields), 'field')} where the header has {len(header)}{doubt}"
    inside = csv.reader((line.text for line in taken[1:-1]), delimiter=separator)
    if any(len(found) == len(header) for found in inside):
        return Bad(f"{reason}, and takes in {counted(len(taken), 'line')}", _text(taken)[:SHOWN], rest=True)
    return Bad(reason, ",".join(fields))
