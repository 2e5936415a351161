"""What may be parted: rows that share their input or their group form one unit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesmith.data.duplicates import content_key
from finesmith.types import Example


@dataclass(frozen=True, slots=True)
class Row:
    """What splitting needs of an example. `labels` is None where the target is no label."""

    content: bytes
    group: str | None
    labels: tuple[str, ...] | None
    label: str | None
    """The one label, for stratifying; None for several labels and for texts."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Row numbers that stay together. `order` is a hash of the seed and their content, not of their places."""

    rows: tuple[int, ...]
    stratum: str
    order: bytes


def row_of(example: Example) -> Row:
    """The part of an example that splitting looks at."""
    target = example.target
    label = target if isinstance(target, str) else None
    labels = (label,) if label is not None else target if isinstance(target, tuple) else None
    return Row(content_key(example.input), example.group, labels, label)


def gather(rows: Sequence[Row], *, seed: int, stratify: bool) -> list[Unit]:
    """The units of the rows, by union-find over contents and groups."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, bytes | str], int] = {}
    for index, row in enumerate(rows):
        parent[root(index)] = root(first.setdefault(("content", row.content), index))
        if row.group is not None:
            parent[root(index)] = root(first.setdefault(("group", row.group), index))
    members: dict[int, list[int]] = {}
    for index in range(len(rows)):
        members.setdefault(root(index), []).append(index)
    return [_unit(rows, indices, seed=seed, stratify=stratify) for indices in members.values()]


def _unit(rows: Sequence[Row], indices: Sequence[int], *, seed: int, stratify: bool) -> Unit:
    least = min(rows[index].content for index in indices)  # no other unit has this content
    order = hashlib.sha256(f"{seed}:".encode() + least).digest()
    counts = Counter(label for index in indices if (label := rows[index].label) is not None)
    majority = min(counts, key=lambda label: (-counts[label], label)) if stratify and counts else ""
    return Unit(tuple(indices), majority, order)
