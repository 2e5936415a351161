"""From rows to training sequences, and which rows are longer than the model's context: listed, never cut unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from finesmith.errors import DataError
from finesmith.tasks.base import Encoded, Task
from finesmith.train.batches import EncodedSet
from finesmith.train.packing import pack
from finesmith.types import Example

Policy = Literal["error", "drop", "truncate"]
TOGETHER = 512
"""Rows that are encoded at a time."""


def training_set(
    task: Task,
    tokenizer: Any,
    rows: Sequence[Example],
    *,
    limit: int,
    policy: Policy,
    progress: Callable[[int], None],
    packing: bool = False,
) -> tuple[EncodedSet, list[str]]:
    """All training sequences, and the origins of the rows that are longer than `limit` tokens.

    Such a row is left out, or cut at its end where the policy is `truncate`. With `packing`, short ones share rows.

    Raises:
        DataError: no row is left.
    """
    over: list[str] = []

    def sequences() -> Iterator[Encoded]:
        for place, example, found in _encoded(task, tokenizer, rows, limit + task.spare):
            progress(1)
            if too_long(found, limit):
                over.append(str(example.origin))
                found = task.encode(example, place, tokenizer, limit) if policy == "truncate" else []
            yield from (piece for piece in found if piece.supervised)

    encoded = EncodedSet(pack(sequences(), limit) if packing else sequences())
    if not len(encoded) and policy != "error":
        raise DataError(f"No training row is left: all are longer than {limit} tokens.")
    return encoded, over


def _encoded(
    task: Task, tokenizer: Any, rows: Sequence[Example], limit: int
) -> Iterator[tuple[int, Example, list[Encoded]]]:
    """Place, row and sequences of every row; many at a time where the task can, which uses all cores."""
    many = getattr(task, "encode_many", None)
    for start in range(0, len(rows), TOGETHER):
        chunk = list(rows[start : start + TOGETHER])
        if many is None:
            found = [task.encode(example, start + place, tokenizer, limit) for place, example in enumerate(chunk)]
        else:
            found = many(chunk, start, tokenizer, limit)
        yield from zip(range(start, start + len(chunk)), chunk, found, strict=True)


def held_out(
    task: Task, tokenizer: Any, rows: Sequence[Example], *, limit: int, policy: Policy
) -> tuple[Sequence[Example], list[str]]:
    """The validation or test rows that can be measured, and the origins of those that are longer than `limit` tokens.

    A classifier reads the beginning of a long row where the policy is `truncate`; a generator cannot be measured on a
    row whose answer does not fit, so that row is left out.
    """
    long = {
        place
        for place, example in enumerate(rows)
        if too_long(task.encode(example, place, tokenizer, limit + task.spare, final_only=True), limit)
    }
    cut = policy == "truncate" and task.kind == "sequence-classification"
    kept = rows if cut or not long else [example for place, example in enumerate(rows) if place not in long]
    return kept, [str(rows[place].origin) for place in sorted(long)]


def too_long(sequences: Sequence[Encoded], limit: int) -> bool:
    """Whether a sequence, encoded with one token to spare, goes over the limit."""
    return any(len(piece.tokens) > limit for piece in sequences)


def refuse(over: Sequence[str], limit: int) -> None:
    """Stops on rows that are too long.

    Raises:
        DataError: with every such row.
    """
    if over:
        raise DataError(
            f"{len(over)} rows are longer than {limit} tokens (the model's context, or train.max_length):",
            problems=over,
            hint="Set data.over_length to drop or truncate; every such row is then counted.",
        )
