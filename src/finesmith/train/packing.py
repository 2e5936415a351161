"""Several short sequences in one row of the batch, which cannot see one another.

Each keeps its own positions and attends to itself alone (`tasks/_language.py`), so a packed step has the loss and the
gradient of the same sequences apart; what is saved is the padding, and steps hold like numbers of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from finesmith.tasks.base import Encoded

OPEN = 64
"""Rows that are filled at a time: enough to find a good fit, few enough to stream."""


def pack(sequences: Iterable[Encoded], limit: int) -> Iterator[Encoded]:
    """Rows of at most `limit` tokens: each sequence goes into the fullest open row that has room (best fit).

    The order is a function of the sequences alone.
    """
    rows: list[list[Encoded]] = []
    sizes: list[int] = []
    for sequence in sequences:
        size = len(sequence.tokens)
        fitting = [place for place, taken in enumerate(sizes) if taken + size <= limit]
        if fitting:
            place = max(fitting, key=lambda place: sizes[place])
            rows[place].append(sequence)
            sizes[place] += size
        else:
            rows.append([sequence])
            sizes.append(size)
        if len(rows) > OPEN or (sizes and max(sizes) >= limit):
            fullest = max(range(len(rows)), key=lambda place: sizes[place])
            sizes.pop(fullest)
            yield joined(rows.pop(fullest))
    yield from (joined(row) for row in rows)


def joined(row: list[Encoded]) -> Encoded:
    """One sequence from several; `row` is that of the first, `others` are those of the rest."""
    if len(row) == 1:
        return row[0]
    return Encoded(
        row[0].row,
        np.concatenate([sequence.tokens for sequence in row]),
        np.concatenate([_weights(sequence) for sequence in row]),
        segments=np.array([len(sequence.tokens) for sequence in row], np.int32),
        others=tuple(sequence.row for sequence in row[1:]),
    )


def _weights(sequence: Encoded) -> np.ndarray:
    assert sequence.weights is not None, "only token losses can be packed"
    weights = sequence.weights.copy()
    weights[0] = 0.0  # nothing stands before it in its own row either
    return weights
