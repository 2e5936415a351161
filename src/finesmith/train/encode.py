"""From rows to training sequences, and which rows are longer than the model's context: listed, never cut unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from finesmith.data.store import Examples
from finesmith.errors import DataError, ProofError, counted
from finesmith.tasks.base import Encoded, Task
from finesmith.train.batches import EncodedSet
from finesmith.train.packing import pack
from finesmith.types import Example

Policy = Literal["error", "drop", "truncate"]
SHOWN = 5
FAULTS = 10
"""Rows that an error names."""
TOGETHER = 512
"""Rows that are encoded at a time."""
WIDEST = 1 << 20
"""More tokens than any row has."""
LONGER = "Name a model with a longer context (--model)"
"""What helps where rows are too long and nothing of them is to be lost."""


@dataclass(frozen=True)
class Long:
    """The origins of rows longer than `limit` tokens: those that are left out, and those that are cut at their end."""

    limit: int
    left_out: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()

    def __add__(self, other: Long) -> Long:
        return Long(self.limit, self.left_out + other.left_out, self.cut + other.cut)

    def __len__(self) -> int:
        return len(self.left_out) + len(self.cut)

    def reasons(self) -> dict[str, str]:
        """Origin to what happened to the row, as rejected.jsonl says it."""
        fates = ((self.left_out, "left out"), (self.cut, "cut at its end"))
        return {origin: f"longer than {self.limit} tokens: {fate}" for rows, fate in fates for origin in rows}

    def notes(self) -> tuple[str, ...]:
        """A sentence for each kind that there is, with the first rows."""
        kinds = ((self.left_out, "left out"), (self.cut, "cut at the end"))
        return tuple(
            f"{counted(len(rows), 'row')} longer than {self.limit:,} tokens {fate}: {', '.join(rows[:SHOWN])}"
            + (", ... (all in rejected.jsonl)" if len(rows) > SHOWN else "")
            for rows, fate in kinds
            if rows
        )


def training_set(
    task: Task,
    tokenizer: Any,
    rows: Sequence[Example],
    *,
    limit: int,
    policy: Policy,
    progress: Callable[[int], None],
    packing: bool = False,
) -> tuple[EncodedSet, Sequence[Example], Long]:
    """All training sequences, the rows that they come from, and those that are longer than `limit` tokens.

    Such a row is left out, or cut at its end where the policy is `truncate` and something to learn is left of it.
    With `packing`, short ones share rows of the batch.

    Raises:
        DataError: no row is left.
    """
    kept: list[int] = []
    left_out: list[str] = []
    cut: list[str] = []

    def sequences() -> Iterator[Encoded]:
        for place, example, found in _encoded(task, tokenizer, rows, limit + task.spare):
            progress(1)
            if too_long(found, limit):
                short = task.encode(example, place, tokenizer, limit) if policy == "truncate" else []
                found = short if any(piece.supervised for piece in short) else []
                (cut if found else left_out).append(str(example.origin))
                if not found:
                    continue
            row = len(kept)
            kept.append(place)
            yield from (replace(piece, row=row) for piece in found if piece.supervised)

    encoded = EncodedSet(pack(sequences(), limit) if packing else sequences())
    if not len(encoded) and policy != "error":
        raise DataError(f"No training row is left: all are longer than {limit} tokens.", hint=f"{LONGER}.")
    return encoded, _taken(rows, kept), Long(limit, tuple(left_out), tuple(cut))


def _encoded(
    task: Task, tokenizer: Any, rows: Sequence[Example], limit: int
) -> Iterator[tuple[int, Example, list[Encoded]]]:
    """Place, row and sequences of every row; many at a time where the task can, which uses all cores."""
    many = getattr(task, "encode_many", None)
    for start in range(0, len(rows), TOGETHER):
        chunk = list(rows[start : start + TOGETHER])
        found = _each(task, tokenizer, chunk, start, limit) if many is None else many(chunk, start, tokenizer, limit)
        yield from zip(range(start, start + len(chunk)), chunk, found, strict=True)


def _each(task: Task, tokenizer: Any, rows: Sequence[Example], start: int, limit: int) -> list[list[Encoded]]:
    """The sequences of each row.

    Raises:
        ProofError: with all of these rows of which the template makes no right text.
    """
    found: list[list[Encoded]] = []
    failed: list[ProofError] = []
    for place, example in enumerate(rows, start):
        try:
            found.append(task.encode(example, place, tokenizer, limit))
        except ProofError as error:
            failed.append(error)
    if len(failed) > 1:
        problems = [error.message for error in failed[:FAULTS]]
        more = "" if len(failed) <= FAULTS else f" (the first {FAULTS})"
        raise ProofError(f"{len(failed)} rows cannot be trained on{more}:", problems=problems, hint=failed[0].hint)
    if failed:
        raise failed[0]
    return found


def held_out(
    task: Task, tokenizer: Any, rows: Sequence[Example], *, limit: int, policy: Policy
) -> tuple[Sequence[Example], Long]:
    """The validation or test rows that can be measured, and those that are longer than `limit` tokens.

    A classifier reads the beginning of a long row where the policy is `truncate`; a generator cannot be measured on a
    row whose answer does not fit, so that row is left out.
    """
    long = {
        place: str(example.origin)
        for place, example in enumerate(rows)
        if too_long(task.encode(example, place, tokenizer, limit + task.spare, final_only=True), limit)
    }
    if policy == "truncate" and task.kind == "sequence-classification":
        return rows, Long(limit, cut=tuple(long.values()))
    kept = [place for place in range(len(rows)) if place not in long]
    return _taken(rows, kept), Long(limit, left_out=tuple(long.values()))


def too_long(sequences: Sequence[Encoded], limit: int) -> bool:
    """Whether a sequence, encoded with one token to spare, goes over the limit."""
    return any(len(piece.tokens) > limit for piece in sequences)


def refuse(long: Long) -> None:
    """Stops on rows that are too long.

    Raises:
        DataError: with every such row.
    """
    if long:
        raise DataError(
            f"{counted(len(long), 'row')} longer than {long.limit} tokens (the model's context, or train.max_length):",
            problems=[*long.left_out, *long.cut],
            hint=f"{LONGER}, or set data.over_length to drop or truncate; every such row is then counted.",
        )


def _taken(rows: Sequence[Example], kept: Sequence[int]) -> Sequence[Example]:
    """The rows at these places; a view where the rows may be larger than memory."""
    if len(kept) == len(rows):
        return rows
    return rows.take(kept) if isinstance(rows, Examples) else [rows[place] for place in kept]
