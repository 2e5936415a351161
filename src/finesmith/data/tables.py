"""Separated values written so that the CSV and TSV formats read back exactly what was there."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

MARKS = ",;\t"
"""Signs that a reader may take for the separator."""


class _Lines:
    """Ends records with a line feed. The csv module quotes only the signs of its own line end, so that with a bare line
    feed a carriage return in a cell would stand without quotes, and no reader takes that.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, record: str) -> int:
        """One record, as the csv module gives it."""
        return self.stream.write(f"{record.removesuffix(END)}\n")


END = "\r\n"


def write(stream: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, separator: str = ",") -> None:
    """Writes a header and rows (None: an empty cell) to a stream that was opened with `newline=""`."""
    unclear = any(mark in column for mark in MARKS for column in columns)
    plain = csv.writer(_Lines(stream), delimiter=separator, lineterminator=END)
    quoted = csv.writer(_Lines(stream), delimiter=separator, lineterminator=END, quoting=csv.QUOTE_ALL)
    (quoted if unclear else plain).writerow(columns)
    plain.writerows(rows)
