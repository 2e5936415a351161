"""In which order and how many at a time sequences of unequal length are read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from finesmith.types import Together


def length_order(lengths: Iterable[int]) -> list[int]:
    """Positions from the longest to the shortest: batches of like length, and memory runs out at once or never."""
    sizes = list(lengths)
    return sorted(range(len(sizes)), key=lambda position: -sizes[position])


def token_batches(
    order: Sequence[int], lengths: Sequence[int], budget: int, *, packed: bool = False, together: Together = "any"
) -> list[list[int]]:
    """Cuts `order` into batches whose size stays within `budget` tokens, one row at least.

    The size is rows x longest, or the sum of the lengths where rows are packed without padding. `together` says
    which rows a batch may hold.
    """
    batches: list[list[int]] = []
    longest = total = 0
    for position in order:
        longest, total = max(longest, lengths[position]), total + lengths[position]
        full = not batches or (total if packed else longest * (len(batches[-1]) + 1)) > budget
        if full or _strange(lengths[position], lengths[batches[-1][-1]], together):
            batches.append([])
            longest = total = lengths[position]
        batches[-1].append(position)
    return batches


def _strange(one: int, other: int, together: Together) -> bool:
    """Whether sequences of these lengths may not share a batch."""
    if together == "none" or one == other:
        return together == "none"
    return together == "equal" or (isinstance(together, int) and max(one, other) > together)
