"""Nearly the same input more than once: MinHash on character 4-grams, verified Jaccard similarity of 0.7 or more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.checks.base import SHOWN, Checked, Progress, plural, share
from finesmith.data import near
from finesmith.types import Finding

MEMBERS = 6
"""Rows that are shown of a cluster."""


@dataclass(frozen=True)
class NearDuplicates:
    """Rows that resemble an earlier row of the same part of the data; equal ones count too."""

    title: str = "near duplicates"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a part that came with the data, with its clusters."""
        pairs = data.near(progress).places
        for part in dict.fromkeys(data.given.tolist()):
            rows = np.flatnonzero(data.given == part)
            later, groups = within(data.unique[rows], pairs)
            if not len(later) or not groups:
                continue
            found = rows[later].tolist()
            where = "" if part == "all" else f" in {part}"
            sizes = [len(group) for group in groups]
            yield Finding(
                "near_duplicates",
                "warning" if len(found) >= 0.02 * len(rows) else "note",
                f"{share(len(found), len(rows))} rows{where} resemble an earlier one "
                f"({plural(len(groups), 'cluster')}, the largest of {max(sizes):,}).",
                len(found),
                data.origins(found),
                "They add little that is new, and where some are trained and some tested the score is too good.",
                "Keep a few of each cluster, never none; give rows of one origin the same group.",
                {
                    "part": part,
                    "clusters": [_cluster(data, rows[group]) for group in groups[:SHOWN]],
                    "sizes": sizes[:1000],
                },
            )


def within(names: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Positions of a part with an equal or near one before them, and the clusters of near ones, largest first.

    Args:
        names: content number of each row of the part.
        pairs: near pairs of content numbers, [P, 2], first < second.
    """
    present = np.full(max(int(names.max(initial=0)), int(pairs.max(initial=0))) + 1, -1)
    distinct, first = np.unique(names, return_index=True)
    present[distinct] = first
    inside = present[pairs[(present[pairs] >= 0).all(axis=1)]]
    later = np.zeros(len(names), bool)
    later[inside.max(axis=1)] = True
    later[np.setdiff1d(np.arange(len(names)), first)] = True
    clusters = near.clusters(np.sort(inside, axis=1), len(names))
    copies: dict[int, list[int]] = {}
    for position, name in enumerate(names.tolist()):
        copies.setdefault(name, []).append(position)
    groups = [np.array(sorted(p for member in group for p in copies[int(names[member])])) for group in clusters]
    return np.flatnonzero(later), sorted(groups, key=len, reverse=True)


def _cluster(data: Checked, rows: np.ndarray) -> dict[str, Any]:
    return {"size": len(rows), "rows": [data.sample(int(place)) for place in rows[:MEMBERS]]}


PLUGIN = NearDuplicates()
