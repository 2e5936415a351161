"""A row on its way from a file to an example: what was read, or why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from finesmith.types import Origin

Row = dict[str, Any]
"""Column name to value, as the file has it."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be read. `reason` is a clause for people, `text` the row as it stands in the file.

    `rest`: nobody knows how many more rows are lost with it, so that it cannot be accepted as one.
    """

    reason: str
    text: str = ""
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out, with its place; `run.py` writes each one to rejected.jsonl."""

    origin: Origin
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class Fault(ValueError):
    """Why one row cannot become an example. Raised by converters and caught by `read`, which knows the place."""


class Format(Protocol):
    """What a plug-in in `data/formats` offers."""

    suffixes: tuple[str, ...]

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (line number from 1, row or Bad). `name` is used in errors about the whole file.

        Raises:
            DataError: the file as a whole cannot be read.
        """
        ...


KINDS: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a decimal number",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "nothing",
    bytes: "bytes",
}


def kind(value: Any) -> str:
    """The type of a value in words: `a whole number`, `a list`."""
    return KINDS.get(type(value), type(value).__name__)


def without_nulls(value: Any) -> Any:
    """A value whose objects have no keys for null. Arrow gives every object of a column the keys of all others: of the
    arguments `{"city": "Paris"}` it makes `{"city": "Paris", "amount": null}`, which nobody wrote.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def absent(value: Any) -> bool:
    """Whether a cell holds nothing: null, or the not-a-number that spreadsheets and pandas write for it."""
    return value is None or (isinstance(value, float) and value != value)
