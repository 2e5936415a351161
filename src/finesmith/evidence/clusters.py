"""Rows that are not independent: those of one group or of equal inputs, just as the split keeps them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from finesmith.data import units
from finesmith.types import Example

Clusters = Mapping[str, int]
"""The cluster of each row by its id; empty where every row stands alone."""


def of(rows: Sequence[Example]) -> Clusters:
    """The clusters of rows, by their groups and inputs."""
    found = units.gather([units.row_of(row) for row in rows], seed=0, stratify=False)
    if len(found) == len(rows):
        return {}
    return {rows[place].id: number for number, unit in enumerate(found) for place in unit.rows}


def codes(ids: Iterable[str], clusters: Clusters) -> list[int] | None:
    """The cluster of each of these rows; None where no two of them share one: then rows are what is drawn."""
    found = [clusters[name] for name in ids] if clusters else []
    return found if len(set(found)) < len(found) else None
