"""JSON: a list of objects, or an object in which one key holds that list."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import BinaryIO

from finesmith.data import strict_json
from finesmith.data.lines import lines
from finesmith.data.rows import Bad, Row
from finesmith.errors import DataError

SPACE = re.compile(r"[ \t\r\n]*")
TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|[{}\[\]]')
"""A string (at the latest the line's end closes it, as JSON has no line ends in strings) or a bracket."""
DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1}
FOLLOWS = re.compile(r"\s*(?:,\s*\{|\])")
"""What stands behind a record: the next one, or the end of the list."""
NEXT = re.compile(r"\s*,\s*(?=\{)")
LONGEST = 1 << 22
"""Characters in which the end of a broken record is looked for."""
SHOWN = 200
SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a value ends."""


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
        if "\ufffd" not in self.text[start:end]:
            return ""
        first, last = self.line(start), self.line(max(start, end - 1))
        return next((fault for line, fault in self.faults.items() if first <= line <= last), "")


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a record stands, and why it cannot be read; `rest`: nor what follows it."""

    begin: int
    end: int
    fault: str = ""
    rest: bool = False


class Json:
    """A list of objects. The whole file is held in memory while it is read: use JSON Lines for more than that."""

    suffixes = (".json",)

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (line where the record starts, row or Bad); its number instead where records share lines.

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
            yield from _records(document, _list_position(document, start), inside=True)
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
        for key, position, _ in _members(document, start):
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


def _members(document: _Document, start: int) -> Iterator[tuple[str, int, int]]:
    """The keys of the outermost object, each with the positions where its value starts and ends.

    `start` is the brace that opens it, or a comma between its members.
    """
    text, position = document.text, document.skip(start + 1)
    while not text.startswith("}", position):
        key, position = SCANNER.raw_decode(text, position)
        position = document.skip(position)
        if not text.startswith(":", position):
            raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
        begin = document.skip(position + 1)
        yield str(key), begin, begin  # the list may be broken: its start is known all the same
        position = document.skip(_value_end(text, begin))
        yield str(key), begin, position
        if text.startswith(",", position):
            position = document.skip(position + 1)
        elif not text.startswith("}", position):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)


def _value_end(text: str, begin: int) -> int:
    """Where the value at `begin` ends.

    Raises:
        json.JSONDecodeError: there is none.
    """
    try:
        return SCANNER.raw_decode(text, begin)[1]
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", text, begin) from error


def _records(document: _Document, start: int, *, inside: bool = False) -> Iterator[tuple[int, Row | Bad]]:
    """The records of the list that starts at `start`, each with its place: its line, or its number in the list where
    two records start in one line (then a line is no place). `inside`: the list is a value of the outermost object.
    """
    spans = list(_spans(document, start, inside))
    places = [document.line(span.begin) for span in spans]
    if any(first == second for first, second in pairwise(places)):
        places = list(range(1, len(spans) + 1))
    for place, span in zip(places, spans, strict=True):
        yield place, _row(document, span)


def _row(document: _Document, span: _Span) -> Row | Bad:
    fault = document.fault(span.begin, span.end) or span.fault
    raw = document.text[span.begin : min(span.end, span.begin + SHOWN) if span.rest else span.end]
    return Bad(fault, raw, span.rest) if fault else strict_json.row(raw)


def _spans(document: _Document, start: int, inside: bool) -> Iterator[_Span]:
    """Where each record stands; after a broken one it goes on at the next. The last one is what must not be there."""
    text, position = document.text, document.skip(start + 1)
    while not text.startswith("]", position):
        span = _span(document, position)
        yield span
        if span.rest:
            return
        position = document.skip(span.end)
        if text.startswith(",", position):
            position = document.skip(position + 1)
        elif not text.startswith("]", position):
            yield _Span(position, len(text), "not valid JSON: the list of records is not closed here", rest=True)
            return
    end = document.skip(_object_end(document, position + 1) if inside else position + 1)
    if end < len(text):
        yield _Span(end, len(text), "text after the end of the list of records, which is not read", rest=True)


def _object_end(document: _Document, position: int) -> int:
    """Where the outermost object ends whose list ends at `position`; the position itself if it does not end well."""
    end = document.skip(position)
    try:
        if document.text.startswith(",", end):
            ends = [last for _, _, last in _members(document, end)]
            end = ends[-1] if ends else document.skip(end + 1)
    except json.JSONDecodeError:
        return position
    return end + 1 if document.text.startswith("}", end) else position


def _span(document: _Document, begin: int) -> _Span:
    """Where the record at `begin` ends, and what is wrong with it."""
    try:
        return _Span(begin, _value_end(document.text, begin))
    except json.JSONDecodeError as error:
        reason = f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        end = _broken_end(document.text, begin, error.pos)
    if end is None:
        return _Span(begin, len(document.text), f"{reason}; what follows it cannot be read", rest=True)
    return _Span(begin, end, reason)


def _broken_end(text: str, begin: int, fault: int) -> int | None:
    """Where a broken record ends: where its own brackets close and the next record or the list's end follows; or, if it
    has a line of its own, before the next line that is indented alike. None: nobody can tell."""
    if not text.startswith(("{", "["), begin):
        found = NEXT.search(text, begin, begin + LONGEST)
        return found.start() if found else None
    end = _closing(text, begin)
    if end is not None and FOLLOWS.match(text, end):
        return end
    lead = text[text.rfind("\n", 0, begin) + 1 : begin]
    if lead.strip():
        return None
    found = re.compile(rf"\}}(?=\s*,[ \t]*\r?\n{lead}\{{|\s*\]\s*\}}?\s*\Z)").search(
        text, max(begin, text.rfind("\n", 0, fault))
    )
    return found.end() if found else None


def _closing(text: str, begin: int) -> int | None:
    """Where the bracket at `begin` is closed, brackets in strings left alone."""
    depth = 0
    for token in TOKEN.finditer(text, begin, begin + LONGEST):
        depth += DEPTH.get(token.group(), 0)
        if depth == 0:
            return token.end()
    return None


PLUGIN = Json()
