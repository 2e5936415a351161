"""What comes on stdin: lines that are texts, or rows where they are JSON objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from finesmith.data import strict_json
from finesmith.data.inputs import ASKED, Asked, answerable, gathered, noted, of_records, own_name, unwrapped
from finesmith.data.rows import Bad, Row
from finesmith.data.shapes import Plan
from finesmith.errors import DataError, RecipeError, counted
from finesmith.types import Input, Origin

SPOKEN = Plan("messages", {"messages": "messages"})
"""How a line on its own with messages is read."""
Given = Sequence[tuple[str, str]]
"""Lines, each with its place."""


def lines(
    texts: Iterable[str],
    *,
    spoken: bool,
    columns: Mapping[str, str] | None = None,
    column: str | None = None,
    skip: bool = False,
) -> Asked:
    """Lines that stand by themselves, each an input whose id is its number; empty ones are left out.

    Where all of them are JSON objects they are rows as in a file, if one column of theirs is known as the input (or is
    `column`). Else, where the model writes answers (`spoken`), a line that is a JSON object with `messages` is a row.

    Raises:
        DataError: rows that cannot be answered, with their numbers.
        RecipeError: `column`, and the lines are no rows.
    """
    given = [(f"line {number}", text.rstrip("\r\n")) for number, text in enumerate(texts, 1) if text.strip()]
    rows = _as_rows(given, columns or {}, column, skip=skip)
    if rows is not None:
        return rows
    if column:
        raise RecipeError(
            "--column has no effect: stdin is read as one text a line, without columns.",
            hint="Lines of JSON objects have columns, and so has a table: --format csv.",
        )
    return _alone(given, spoken=spoken, columns=columns or {}, skip=skip)


def _as_rows(given: Given, columns: Mapping[str, str], column: str | None, *, skip: bool) -> Asked | None:
    """The lines as the rows of a file, where each begins as an object, the first is one, and their input is known."""
    whole = bool(given) and all(text.lstrip().startswith("{") for _, text in given)
    if not whole or isinstance(strict_json.row(given[0][1]), Bad):
        return None
    unused: dict[str, None] = {}
    records = [(name, unwrapped(strict_json.row(text), unused)) for name, text in given]
    try:
        return of_records("stdin", records, columns, column, unused, skip=skip)
    except DataError as error:
        if error.problems or column:
            raise
    return None


def _alone(given: Given, *, spoken: bool, columns: Mapping[str, str], skip: bool) -> Asked:
    """Each line as a text, or as the messages that it holds."""
    unused: dict[str, None] = {}
    records = [(place, (_spoken_row(text, unused) if spoken else None) or text) for place, text in given]

    def read_one(place: Origin | str, row: Any) -> tuple[str, Input]:
        return (own_name(place), row) if isinstance(row, str) else answerable(place, row, SPOKEN)

    found = gathered(records, read_one, "line", skip=skip)
    literal = [row for _, row in records if isinstance(row, str)]
    return replace(found, note=noted(_taken_literally(literal, columns), unused))


def _taken_literally(texts: Sequence[str], columns: Mapping[str, str]) -> str:
    """What is said of lines that look like rows and are answered as they stand."""
    objects = sum(text.lstrip().startswith("{") and not isinstance(strict_json.row(text), Bad) for text in texts)
    if objects:
        return (
            f"{objects:,} of {counted(len(texts), 'line')} are JSON objects and are answered as they stand, as texts; "
            "where all lines are objects --column takes one column of them"
        )
    known = {columns[word] for word in ASKED if word in columns} or {*ASKED}
    cells = [cell.strip().strip('"') for cell in re.split("[,;\t]", texts[0])] if texts else []
    if known.isdisjoint(cells):
        return ""
    head = f"the first line, '{texts[0][:60]}', looks like the head of a table"
    return f"{head} and is answered as a text like the others; --format csv reads a table"


def decoded(stream: IO[str]) -> Iterator[str]:
    """The lines of stdin as UTF-8, whatever the locale says.

    Raises:
        DataError: a line is not, or holds half a character.
    """
    for number, line in enumerate(getattr(stream, "buffer", stream), 1):
        try:
            text = line if isinstance(line, str) else line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"Line {number} of stdin is not UTF-8.", hint="Convert it, or give a file.") from error
        if half := strict_json.half_character(text):
            raise DataError(f"Line {number} of stdin {half}.")
        yield text


def _spoken_row(line: str, unused: dict[str, None]) -> Row | None:
    """The row that a line is, where it is a JSON object with messages."""
    try:
        row = json.loads(line) if line.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    row = unwrapped(row, unused)
    return row if isinstance(row, dict) and "messages" in row else None
