"""From rows to training sequences, and which rows are longer than the model's context: listed, never cut unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from finesmith.errors import DataError
from finesmith.tasks.base import Encoded, Task
from finesmith.train.batches import EncodedSet
from finesmith.types import Example

Policy = Literal["error", "drop", "truncate"]


def training_set(
    task: Task, tokenizer: Any, rows: Sequence[Example], *, limit: int, policy: Policy, progress: Callable[[int], None]
) -> tuple[EncodedSet, list[str]]:
    """All training sequences, and the origins of the rows that are longer than `limit` tokens.

    Such a row is left out, or cut at its end where the policy is `truncate`.

    Raises:
        DataError: no row is left.
    """
    over: list[str] = []

    def sequences() -> Iterator[Encoded]:
        for place, example in enumerate(rows):
            found = task.encode(example, place, tokenizer, limit + task.spare)
            progress(1)
            if too_long(found, limit):
                over.append(str(example.origin))
                found = task.encode(example, place, tokenizer, limit) if policy == "truncate" else []
            yield from (piece for piece in found if piece.supervised)

    encoded = EncodedSet(sequences())
    if not len(encoded) and policy != "error":
        raise DataError(f"No training row is left: all are longer than {limit} tokens.")
    return encoded, over


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
