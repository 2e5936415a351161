"""The same or nearly the same input with different labels or answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.checks.base import SHOWN, Checked, Progress, label_of, plural
from finesmith.data.duplicates import normalised
from finesmith.types import Finding, Message


@dataclass(frozen=True)
class Contradictions:
    """Rows of one part of the data that cannot both be right, or that only a fine reading tells apart."""

    title: str = "contradictions"
    tasks: tuple[str, ...] = ("classification", "generation")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding for equal inputs, one for near pairs of labelled rows."""
        targets = [_target(data, place) for place in range(len(data.rows))]
        groups = _different(data, targets)
        what = "label" if data.task == "classification" else "answer"
        if groups:
            found = sorted(place for group in groups for place in group)
            lost = sum(len(g) - Counter(targets[p] for p in g).most_common(1)[0][1] for g in groups)
            yield Finding(
                "contradictions",
                "warning",
                f"{plural(len(groups), 'input')} stand with more than one {what} ({len(found):,} rows).",
                len(groups),
                data.origins(found),
                f"Whatever the model answers is wrong for some of them: {plural(lost, 'row')} can never be right.",
                f"Decide on one {what} for each input, or add to the input what tells them apart.",
                {"inputs": [_group(data, group) for group in groups[:SHOWN]], "never_right": lost},
            )
        if data.task == "classification":
            yield from self._near(data, targets, progress)

    def _near(self, data: Checked, targets: list[Any], progress: Progress) -> Iterator[Finding]:
        pairs = cross_pairs(data, targets, progress)
        if len(pairs):
            found = sorted({int(place) for pair in pairs for place in pair})
            shown = [[data.sample(int(first)), data.sample(int(second))] for first, second in pairs[:SHOWN]]
            yield Finding(
                "contradictions",
                "warning" if len(pairs) >= 0.01 * len(data.rows) else "note",
                f"{plural(len(pairs), 'pair')} of nearly equal inputs have different labels.",
                len(pairs),
                data.origins(found),
                "Often one label of such a pair is wrong; where both are right, a few words decide.",
                "Read them side by side and correct those that are wrong.",
                {"pairs": shown},
            )


def cross_pairs(data: Checked, targets: list[Any], progress: Progress) -> np.ndarray:
    """Pairs of rows of one given part whose contents are near, not equal, and whose targets differ: [P, 2]."""
    rows: dict[int, list[int]] = {}
    near = data.near(progress).places
    wanted = set(near.ravel().tolist())
    for place, name in enumerate(data.unique.tolist()):
        if name in wanted:
            rows.setdefault(name, []).append(place)
    found = [
        (first, second)
        for left, right in near.tolist()
        for first in rows[left]
        for second in rows[right]
        if targets[first] != targets[second] and data.given[first] == data.given[second]
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _different(data: Checked, targets: list[Any]) -> list[list[int]]:
    """Groups of rows of one given part with one content and more than one target."""
    names = np.flatnonzero(np.bincount(data.unique) > 1)
    repeated = set(names.tolist())
    groups: dict[tuple[int, str], list[int]] = {}
    for place, name in enumerate(data.unique.tolist()):
        if name in repeated:
            groups.setdefault((name, str(data.given[place])), []).append(place)
    return [group for group in groups.values() if len({targets[place] for place in group}) > 1]


def _target(data: Checked, place: int) -> Any:
    target = data.rows[place].target
    return normalised(target.text) if isinstance(target, Message) else label_of(data.rows[place])


def _group(data: Checked, group: list[int]) -> list[dict[str, Any]]:
    return [data.sample(place) for place in group[:6]]


PLUGIN = Contradictions()
