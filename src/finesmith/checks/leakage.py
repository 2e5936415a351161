"""Test rows that were trained on: the same input, nearly the same one, the same group, or a turn of a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.checks.base import SHOWN, Checked, Mend, Progress, label_of, plural, share
from finesmith.types import Finding, Severity

SPOILT = 0.1
"""From this share of equal test rows on, or of rows of trained groups, the test score means little: `tune` stops."""
WHY = "The score on rows that were trained on says what the model remembers, not what it can do."
EARLIER = {"validation": ("train",), "test": ("train", "validation")}


@dataclass(frozen=True)
class Leak:
    """Positions of the leaked rows of one part, and the row each is like."""

    exact: dict[int, int]
    near: dict[int, int]
    group: dict[int, int]
    turn: dict[int, int]


@dataclass(frozen=True)
class Leakage:
    """What leaks from training (and validation) into test, and from training into validation."""

    title: str = "leakage"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a part and a kind of leak."""
        for part in EARLIER:
            total = int((data.parts == part).sum())
            leak = leaks(data, part, progress)
            for kind, what in (
                ("exact", "the input of"),
                ("near", "the input, or nearly the input, of"),
                ("group", "the group of"),
                ("turn", "the input and the answer of an earlier turn of"),
            ):
                pairs: dict[int, int] = getattr(leak, kind)
                if pairs:
                    yield _finding(data, part, kind, what, pairs, total)

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Leaves the training or validation rows out; the test stays as it is.

        Only where the part came with the data: one that `tune` cuts is cut anew from the copy.
        """
        if not _came(data, finding.detail["part"]):
            return Mend()
        leak = leaks(data, finding.detail["part"])
        kind = finding.detail["kind"]
        found = set(getattr(leak, kind)) if kind in ("group", "turn") else {*leak.exact, *leak.near, *leak.group}
        earlier = np.isin(data.parts, EARLIER[finding.detail["part"]])
        return Mend(drop=data.origins(np.flatnonzero(earlier & _twins(data, found, kind)).tolist()))


def leaks(data: Checked, part: str, progress: Progress = lambda done: None) -> Leak:
    """The leaked rows of `part`; equal ones count as near too."""
    here, there = (
        np.flatnonzero(data.parts == part).tolist(),
        np.flatnonzero(np.isin(data.parts, EARLIER[part])).tolist(),
    )
    owners: dict[str, int] = {}
    for place in there:
        if (group := data.rows[place].group) is not None:
            owners.setdefault(group, place)
    learnt: dict[bytes, int] = {}
    for place in there:
        for key in data.turns[place][:-1]:
            learnt.setdefault(key, place)
    known = np.full(int(data.unique.max(initial=-1)) + 1, -1)
    known[data.unique[there[::-1]]] = there[::-1]  # the first row of each content
    alike = _alike(known, data.near(progress).places)
    names = data.unique[here].tolist()
    return Leak(
        {place: int(known[name]) for place, name in zip(here, names, strict=True) if known[name] >= 0},
        {place: int(alike[name]) for place, name in zip(here, names, strict=True) if alike[name] >= 0},
        {place: owners[group] for place in here if (group := data.rows[place].group) in owners},
        {place: learnt[keys[-1]] for place in here if (keys := data.turns[place]) and keys[-1] in learnt},
    )


def _alike(known: np.ndarray, places: np.ndarray) -> np.ndarray:
    """For each content a row that `known` has for it or for a near one, else -1: [U]."""
    ends = np.concatenate([places, places[:, ::-1]])
    ends = ends[(known[ends[:, 1]] >= 0) & (known[ends[:, 0]] < 0)]
    names, first = np.unique(ends[:, 0], return_index=True)
    alike = known.copy()
    alike[names] = known[ends[first, 1]]
    return alike


def leaked_ids(data: Checked, part: str = "test") -> list[str]:
    """Ids of the rows of `part` that are equal or near to a row of an earlier part or a turn in it, or of its group."""
    leak = leaks(data, part)
    return [data.rows[place].id for place in sorted({*leak.exact, *leak.near, *leak.group, *leak.turn})]


def _finding(data: Checked, part: str, kind: str, what: str, pairs: dict[int, int], total: int) -> Finding:
    source = " or ".join(EARLIER[part])
    found = sorted(pairs)
    other = _other_label(data, pairs)
    result = "; the result of a run is given with and without them." if part == "test" else "."
    contrary = f"; {plural(other, 'row')} with another label" if kind == "exact" and other else ""
    return Finding(
        "leakage",
        _severity(part, kind, len(found) / max(total, 1)),
        f"{share(len(found), total)} {part} rows have {what} a {source} row{contrary}.",
        len(found),
        data.origins(found),
        WHY,
        f"Take the rows out of {source}, not out of {part} (--fix does){result}"
        if _came(data, part)
        else f"Give rows of one origin the same group (a column group): they are never parted{result}",
        {"part": part, "kind": kind, "other_label": other, "samples": _samples(data, pairs, found)},
    )


def _came(data: Checked, part: str) -> bool:
    """Whether a part came with the data and is not cut by `tune`."""
    return bool((data.given == part).any())


def _severity(part: str, kind: str, leaked: float) -> Severity:
    if part == "test" and kind != "near" and leaked >= SPOILT:
        return "blocking"
    return "warning" if part == "test" or leaked >= SPOILT else "note"


def _other_label(data: Checked, pairs: dict[int, int]) -> int:
    if data.task != "classification":
        return 0
    return sum(label_of(data.rows[place]) != label_of(data.rows[like]) for place, like in pairs.items())


def _samples(data: Checked, pairs: dict[int, int], found: Sequence[int]) -> list[list[dict[str, Any]]]:
    return [[data.sample(place), data.sample(pairs[place])] for place in found[:SHOWN]]


def _twins(data: Checked, places: set[int], kind: str) -> np.ndarray:
    """Which rows are equal or near to (or of the group of) the rows at `places`."""
    if kind == "group":
        groups = {data.rows[place].group for place in places}
        return np.array([row.group in groups for row in data.rows])
    if kind == "turn":
        asked = {data.turns[place][-1] for place in places}
        return np.array([not asked.isdisjoint(keys[:-1]) for keys in data.turns])
    names = {int(data.unique[place]) for place in places}
    if kind == "near":
        places_near = data.near().places
        met = np.isin(places_near, list(names))
        names |= set(places_near[met[:, ::-1]].tolist())
    return np.isin(data.unique, list(names))


PLUGIN = Leakage()
