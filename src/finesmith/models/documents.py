"""Where documents stand in a packed row, and the ways from the row to groups of like length and back.

Both ways read, forwards and backwards: every token has one place in the groups, so a gradient is gathered by the other
way's places instead of being added up place by place, which PyTorch does on one core.

Legend for shapes: N tokens of a packed row, P places in its groups, W numbers for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHORT = 64  # tokens: up to here attention is little work, and few groups are worth more than little padding
WASTE, SHORT_WASTE = 1.15, 2.0  # a group may be padded to so many times its tokens; the second up to SHORT tokens


@dataclass(frozen=True)
class Documents:
    """Where documents stand in a packed row of N tokens, in groups of like length.

    `groups` has for each group its documents n, its length T and, for attention in both directions, the bias `[n, T]`
    that hides what is behind a document's end (None where nothing is). `places` `[P]` is the token at each place of the
    groups, one after another; behind a document's end it is that of its last token: a causal document never looks
    there, and its answer is not read. `back` `[N]` is the place of each token, `behind` the places behind an end.
    Where nothing is padded, places and tokens are the same and all three are None.
    Groups of at most `blocked` tokens are computed in blocks.
    """

    groups: tuple[tuple[int, int, Tensor | None], ...]
    places: Tensor | None = None
    back: Tensor | None = None
    behind: Tensor | None = None
    blocked: int = 0

    @property
    def sizes(self) -> list[int]:
        """Places of each group; their sum is P."""
        return [count * length for count, length, _ in self.groups]


def documents(lengths: Sequence[int], device: Any = "cpu", *, blocked: int = 0) -> Documents:
    """The layout of documents that follow one another, longest first.

    Args:
        lengths: tokens of each document.
    """
    groups, places, ends, start = [], [], [], 0
    for members in _alike(lengths):
        steps, sizes = np.arange(members[0]), np.array(members)
        starts = start + sizes.cumsum() - sizes
        behind = sizes[:, None] <= steps  # [n, T]
        places.append((starts[:, None] + np.minimum(steps, sizes[:, None] - 1)).ravel())
        ends.append(behind.ravel())
        bias = np.where(behind, -np.inf, 0.0).astype(np.float32)
        groups.append((len(members), members[0], torch.from_numpy(bias).to(device) if behind.any() else None))
        start += sum(members)
    hides = np.concatenate(ends)
    if not hides.any():
        return Documents(tuple(groups), blocked=blocked)
    indices = (np.concatenate(places), np.flatnonzero(~hides), np.flatnonzero(hides))
    there, back, nobody = (torch.from_numpy(where).to(device) for where in indices)
    return Documents(tuple(groups), there, back, nobody, blocked)


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Runs of lengths that may be padded to the first of them."""
    members: list[int] = []
    for size in lengths:
        waste = SHORT_WASTE if members and members[0] <= SHORT else WASTE
        if members and members[0] * (len(members) + 1) > waste * (sum(members) + size):
            yield members
            members = []
        members.append(size)
    if members:
        yield members


def spread(tokens: Tensor, layout: Documents) -> Tensor:
    """What tokens `[N, W]` bring to the places of the groups, `[P, W]`."""
    if layout.places is None or layout.back is None:
        return tokens
    return _Read.apply(tokens, layout.places, layout.back, None)


def collect(groups: Sequence[Tensor], layout: Documents) -> Tensor:
    """What stands at each token's place, `[N, W]`, of the groups `[n * T, W]`."""
    whole = groups[0] if len(groups) == 1 else torch.cat(list(groups))
    if layout.places is None or layout.back is None:
        return whole
    return _Read.apply(whole, layout.back, layout.places, layout.behind)


class _Read(torch.autograd.Function):
    """Rows `there` of a tensor; its gradient are rows `back` of the result's, and 0 at the rows that `nobody` reads.

    On the way to the groups the last token of a padded document is read more than once. Only its first place counts:
    what stands behind an end is seen by nobody, so its gradient is 0 anyway.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor, nobody: Tensor | None) -> Tensor:
        ctx.back, ctx.nobody = back, nobody
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        found = gradient.index_select(0, ctx.back)
        return found if ctx.nobody is None else found.index_fill_(0, ctx.nobody, 0.0), None, None, None
