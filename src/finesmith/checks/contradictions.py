"""The same or nearly the same input with different labels or answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from finesmith.checks.base import SHOWN, Checked, Progress, label_of, plural
from finesmith.data.duplicates import answer
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
        crossing = crossings(data, targets, progress)
        count = crossing.counts.total()
        if count:
            yield Finding(
                "contradictions",
                "warning" if count >= 0.01 * len(data.rows) else "note",
                f"{plural(count, 'pair')} of nearly equal inputs have different labels.",
                count,
                data.origins(sorted(crossing.rows)),
                "Often one label of such a pair is wrong; where both are right, a few words decide.",
                "Read them side by side and correct those that are wrong.",
                {"pairs": [[data.sample(first), data.sample(second)] for first, second in crossing.shown]},
            )


@dataclass(frozen=True)
class Crossings:
    """Pairs of rows of one given part, of near contents and with different targets: how many in each part, the rows in
    them, and the first few pairs."""

    counts: Counter[str]
    rows: set[int]
    shown: list[tuple[int, int]]


def crossings(data: Checked, targets: Sequence[Any], progress: Progress) -> Crossings:
    """Counted by content and target, as n copies of two near texts are n^2 pairs."""
    places = data.near(progress).places
    wanted = set(places.ravel().tolist())
    cells: dict[int, dict[str, dict[Any, list[int]]]] = {}  # content, given part, target: rows
    for place, name in enumerate(data.unique.tolist()):
        if name in wanted:
            cell = cells.setdefault(name, {}).setdefault(str(data.given[place]), {})
            cell.setdefault(targets[place], []).append(place)
    found = Crossings(Counter(), set(), [])
    for pair in places:
        left, right = (cells[name] for name in pair.tolist())
        for part in left.keys() & right.keys():
            _cross(found, part, left[part], right[part])
    return found


def _cross(found: Crossings, part: str, left: dict[Any, list[int]], right: dict[Any, list[int]]) -> None:
    """Adds the pairs between the rows of two contents."""
    for target, rows in left.items():
        others = [place for other, places in right.items() if other != target for place in places]
        if others:
            found.counts[part] += len(rows) * len(others)
            found.rows.update(rows, others)
            pairs = ((first, second) for first in rows for second in others)
            found.shown.extend(islice(pairs, SHOWN - len(found.shown)))


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
    return answer(target) if isinstance(target, Message) else label_of(data.rows[place])


def _group(data: Checked, group: list[int]) -> list[dict[str, Any]]:
    return [data.sample(place) for place in group[:6]]


PLUGIN = Contradictions()
