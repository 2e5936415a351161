"""JSON: a list of objects, or an object in which one key holds that list."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

from finesmith.data import strict_json
from finesmith.data.lines import lines
from finesmith.data.rows import Bad, Fault, Row
from finesmith.errors import DataError

SPACE = re.compile(r"[ \t\r\n]*")
NEXT_RECORD = re.compile(r"\}\s*,\s*(?=\{)")


@dataclass(frozen=True)
class _Document:
    """The whole text with what is needed to turn a position into a line number."""

    name: str
    text: str
    ends: tuple[int, ...]
    """Position just after each line."""
    faults: dict[int, str]
    """Line number to the undecodable byte in it."""

    def line(self, position: int) -> int:
        """Line number, from 1, of a position in the text."""
        return bisect_left(self.ends, position + 1) + 1

    def skip(self, position: int) -> int:
        """The next position that is not white space."""
        match = SPACE.match(self.text, position)
        return match.end() if match else position

    def fault(self, start: int, end: int) -> str:
        """What is undecodable between two positions, or nothing."""
        first, last = self.line(start), self.line(max(start, end - 1))
        return next((fault for line, fault in self.faults.items() if first <= line <= last), "")


class Json:
    """A list of objects. The whole file is held in memory while it is read: use JSON Lines for more than that."""

    suffixes = (".json",)

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (line where the record starts, row or Bad).

        Raises:
            DataError: the file holds no list of objects, or is not UTF-8 at all.
        """
        document = _document(stream, name)
        start = document.skip(0)
        if document.text.startswith("[", start):
            yield from _records(document, start)
        elif _one_object_a_line(document, start):
            yield from _by_line(document)
        elif document.text.startswith("{", start):
            yield from _records(document, _list_position(document, start))
        elif start < len(document.text):
            raise DataError(f"{name} holds no list of objects (it starts with {document.text[start : start + 20]!r}).")


def _document(stream: BinaryIO, name: str) -> _Document:
    read = list(lines(stream, name))
    ends = tuple(accumulate(len(line.text) for line in read))
    return _Document(name, "".join(line.text for line in read), ends, {x.number: x.fault for x in read if x.fault})


def _one_object_a_line(document: _Document, start: int) -> bool:
    """JSON Lines under the name .json: the first line is a whole object and more follows."""
    end = document.ends[document.line(start) - 1] if document.ends else 0
    more = document.skip(end) < len(document.text)
    return more and isinstance(strict_json.row(document.text[start:end].strip()), dict)


def _by_line(document: _Document) -> Iterator[tuple[int, Row | Bad]]:
    for number, text in enumerate(document.text.split("\n"), start=1):
        if text.strip():
            fault = document.faults.get(number)
            yield number, Bad(fault, text) if fault else strict_json.row(text.strip())


def _list_position(document: _Document, start: int) -> int:
    """Where the only list among the values of the outermost object starts."""
    found: dict[str, int] = {}
    try:
        for key, position in _members(document, start):
            if document.text.startswith("[", position):
                found[key] = position
    except json.JSONDecodeError as error:
        if len(found) != 1:  # with one list the fault is in it or after it: its records are read one by one
            raise DataError(f"{document.name}:{error.lineno}: not valid JSON: {error.msg}.") from error
    if len(found) == 1:
        return next(iter(found.values()))
    what = f"several lists ({', '.join(found)})" if found else "no list"
    raise DataError(
        f"{document.name} holds an object with {what}; rows are read from one list of objects.",
        hint='Save it as a list of objects, for example with pandas: to_json(path, orient="records").',
    )


def _members(document: _Document, start: int) -> Iterator[tuple[str, int]]:
    """The keys of the outermost object, each with the position of its value."""
    text, position = document.text, document.skip(start + 1)
    while not text.startswith("}", position):
        key, position = strict_json.LENIENT.raw_decode(text, position)
        position = document.skip(position)
        if not text.startswith(":", position):
            raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
        position = document.skip(position + 1)
        yield str(key), position
        _, position = strict_json.LENIENT.raw_decode(text, position)
        position = document.skip(position)
        if text.startswith(",", position):
            position = document.skip(position + 1)
        elif not text.startswith("}", position):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)


def _records(document: _Document, start: int) -> Iterator[tuple[int, Row | Bad]]:
    """The records of the list that starts at `start`; after a broken one it goes on at the next."""
    text, position = document.text, document.skip(start + 1)
    while not text.startswith("]", position):
        begin = position
        value, position, reason = _decode(text, begin)
        fault = document.fault(begin, position) or reason
        raw = text[begin:position]
        yield document.line(begin), Bad(fault, raw) if fault else strict_json.as_row(value, raw)
        if reason and position >= len(text):
            return
        position = document.skip(position)
        if text.startswith(",", position):
            position = document.skip(position + 1)
        elif not text.startswith("]", position):
            here = document.line(position)
            yield here, Bad("not valid JSON: the list of records is not closed here", text[position : position + 200])
            return


def _decode(text: str, begin: int) -> tuple[Any, int, str]:
    """The value at `begin`, where it ends, and what is wrong with it (then the end is before the next record)."""
    try:
        value, end = strict_json.STRICT.raw_decode(text, begin)
        return value, end, ""
    except json.JSONDecodeError as error:
        following = NEXT_RECORD.search(text, error.pos)
        place = f"line {error.lineno}, column {error.colno}"
        end = following.start() + 1 if following else len(text)
        rest = "" if following else "; what follows it cannot be read"
        return None, end, f"not valid JSON: {error.msg} ({place}){rest}"
    except Fault as fault:
        return None, strict_json.LENIENT.raw_decode(text, begin)[1], str(fault)


PLUGIN = Json()
