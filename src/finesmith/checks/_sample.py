"""Which rows the checks look at in data that is too large for all: some evenly spread, and every one that may leak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.data.duplicates import exact_key
from finesmith.types import Example

ORDER = ("train", "validation", "test")
Name = bytes | str | None
"""What two rows may share: the key of their content, or their group."""


@dataclass(frozen=True)
class Sample:
    """The rows of each part to look at, how that came about (empty: they are all), and the ids of the test rows that,
    over all rows, are equal to a row of an earlier part or of its group."""

    parts: Mapping[str, Sequence[Example]]
    note: str
    leaked: tuple[str, ...]


def sample(parts: Mapping[str, Sequence[Example]], most: int) -> Sample:
    """At most so many rows of each part, evenly spread, and besides of an earlier part the first row that shares its
    content or its group with a row of a later one: near leaks are estimated, all others are found.
    """
    total = sum(map(len, parts.values()))
    if all(len(rows) <= most for rows in parts.values()):
        return Sample(parts, "", ())
    names = {part: [(exact_key(row.input), row.group) for row in rows] for part, rows in parts.items()}
    taken: dict[str, Sequence[Example]] = {}
    later: set[Name] = set()
    for part in sorted(parts, key=(*reversed(ORDER), "all").index):
        rows = parts[part]
        taken[part] = rows if len(rows) <= most else [rows[place] for place in _places(names[part], later, most)]
        later.update(name for row in names[part] for name in row)
    looked = sum(map(len, taken.values()))
    note = f"{looked:,} of {total:,} rows were looked at: evenly spread, and those that leak into a later part."
    return Sample({part: taken[part] for part in parts}, note, _leaked(parts, names))


def _places(names: Sequence[tuple[Name, Name]], later: set[Name], most: int) -> list[int]:
    spread = np.linspace(0, len(names) - 1, most).astype(int).tolist()
    first: dict[Name, int] = {}
    for place, row in enumerate(names):
        for name in row:
            if name is not None and name in later:
                first.setdefault(name, place)
    return sorted({*spread, *first.values()})


def _leaked(
    parts: Mapping[str, Sequence[Example]], names: Mapping[str, Sequence[tuple[Name, Name]]]
) -> tuple[str, ...]:
    trained = {name for part in ("train", "validation") for row in names.get(part, ()) for name in row} - {None}
    test = zip(parts.get("test", ()), names.get("test", ()), strict=True)
    return tuple(row.id for row, shared in test if not trained.isdisjoint(shared))
