"""Where a name stands beside a path, so that it hides neither the path nor another name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def along(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """Places along the path, ten between two points."""
    return [
        [a + step / 10 * (b - a) for a, b in zip(start, end, strict=True)]
        for start, end in pairwise(points)
        for step in range(11)
    ]


def freest(place: Sequence[float], taken: list[list[float]], size: Sequence[float]) -> tuple[int, int]:
    """The corner (right or left, above or below) where a label is furthest from the path and from earlier labels,
    which it joins."""

    def free(corner: tuple[int, int]) -> float:
        spots = [(place[0] + corner[0] * far, place[1] + corner[1] * 0.08) for far in (0.03, 0.1, 0.17)]
        return min(math.hypot(x / size[0] - at, 2 * (y / size[1] - to)) for x, y in taken for at, to in spots)

    best = max(((1, 1), (-1, 1), (1, -1), (-1, -1)), key=free)
    taken += [
        [size[0] * (place[0] + best[0] * far), size[1] * (place[1] + best[1] * 0.08)] for far in (0.03, 0.1, 0.17)
    ]
    return best
