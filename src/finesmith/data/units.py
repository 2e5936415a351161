"""What may be parted: rows of one input or group form one unit, and a conversation with its own beginnings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesmith.data.duplicates import content_key, turn_keys
from finesmith.types import Example

FORMULA = 50
"""A turn that more conversations hold is no beginning of them but a formula (a greeting)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What splitting needs of an example. `labels` is None where the target is no label."""

    content: bytes
    group: str | None
    labels: tuple[str, ...] | None
    label: str | None
    """The one label, for stratifying; None for several labels and for texts."""
    turns: tuple[bytes, ...] = ()
    """Of a conversation: its answers behind what stands before them, the one that is measured last."""


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
    return Row(content_key(example.input), example.group, labels, label, turn_keys(example, exact=False))


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
    last = {row.turns[-1]: index for index, row in enumerate(rows) if row.turns}
    held = Counter(turn for row in rows for turn in row.turns[:-1])
    for index, row in enumerate(rows):
        for turn in row.turns[:-1]:
            if turn in last and held[turn] <= FORMULA:
                parent[root(index)] = root(last[turn])
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
