"""The batches of an evaluation: halved where memory does not suffice for one, down to a single row."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from finesmith.errors import RowError
from finesmith.tasks._order import length_order, token_batches
from finesmith.types import Together

if TYPE_CHECKING:
    from torch import nn

MOST_TOKENS = 8192
"""Of a batch, padding included."""
WRITTEN, CACHED, SHORT = 32_768, 1 << 29, 2048
"""Tokens of a batch whose answers are written one token after the other: each such step costs much the same for few
rows as for many. So many at most, where they leave so many bytes of keys and values and no row is longer than this."""
_halved: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Tokens of a batch that fitted, of models for which the usual number did not: the next evaluation begins with them."""


def in_batches(
    model: nn.Module,
    lengths: Sequence[int],
    compute: Callable[[list[int]], None],
    *,
    packed: bool = False,
    kinds: Sequence[int] = (),
    writing: bool = False,
) -> None:
    """Calls `compute(positions)` for all sequences in batches of like length, the longest first.

    Where memory runs out, that batch and all later ones are halved. No sequence stands beside one that would
    change what the model says of it.

    Args:
        packed: sequences stand one behind the other, and nothing is padded.
        kinds: of each sequence; those of a batch are of one kind (no answer is cut short for a neighbour's prompt).
        writing: sequences are prompts, padded before they begin.

    Raises:
        RowError: one row alone does not fit.
    """
    from finesmith.models import together

    company: Together = "any"
    if not packed and len(lengths) > 1:
        company = together.writing(model) if writing else together.reading(model)

    def batches(positions: Sequence[int]) -> list[list[int]]:
        usual = _written(model, lengths) if writing else MOST_TOKENS
        most = min(usual, _halved.get(model, usual))
        of_kind = {
            kind: [place for place in positions if not kinds or kinds[place] == kind] for kind in {*kinds} or {0}
        }
        cut = partial(token_batches, lengths=lengths, budget=most, packed=packed, together=company)
        return [batch for kind in sorted(of_kind) for batch in cut(of_kind[kind])]

    waiting = batches(length_order(lengths))
    while waiting:
        if not _fits(compute, waiting[0]):
            sizes = [lengths[position] for position in waiting[0]]
            _halved[model] = max(1, (sum(sizes) if packed else len(sizes) * max(sizes)) // 2)
            waiting = batches([position for batch in waiting for position in batch])
        else:
            waiting = waiting[1:]


def notes(model: nn.Module) -> tuple[str, ...]:
    """Says that evaluations of this model ran out of memory, and with what they went on."""
    if model not in _halved:
        return ()
    return (f"memory is too small to evaluate as many rows at a time as usual: {_halved[model]:,} tokens fit",)


def _written(model: Any, lengths: Sequence[int]) -> int:
    """Tokens of a batch of prompts with their answers."""
    from finesmith.models import context, fast

    left = context.cached_bytes(fast.inner(model))
    if not left or max(lengths, default=0) > SHORT:
        return MOST_TOKENS
    return max(MOST_TOKENS, min(WRITTEN, CACHED // left))


def _fits(compute: Callable[[list[int]], None], positions: list[int]) -> bool:
    import torch

    from finesmith.models.device import is_out_of_memory

    try:
        compute(positions)
        return True
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(positions) == 1:
            raise RowError(positions[0]) from error
    gc.collect()  # what the failed batch has left is given back before it is tried again
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
