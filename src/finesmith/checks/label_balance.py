"""How many rows each class has: imbalance, classes too small to learn or to test, labels that are no classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from finesmith.checks.base import Checked, Progress, bars, labels_of, plural
from finesmith.types import Finding

TRAIN, TEST = 10, 5
"""Fewer rows of a class than these are too few to learn it or to test it (science: table 5.1)."""
SKEW = 10.0
"""The largest class over the smallest from which on accuracy hides the small classes."""


@dataclass(frozen=True)
class LabelBalance:
    """Counts by class and part."""

    title: str = "class sizes"
    tasks: tuple[str, ...] = ("classification",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """Labels that look like ids block; tiny classes warn; the counts are a note."""
        counts = {part: data.counts.labels.get(part, Counter[str]()) for part in ("train", "validation", "test")}
        where: dict[str, list[int]] = {}
        for place, row in enumerate(data.rows):
            for label in labels_of(row):
                where.setdefault(label, []).append(place)
        everything = sum(counts.values(), Counter[str]())
        if not everything:
            return
        yield self._sizes(everything)
        if len(everything) > max(20, 0.5 * everything.total()):
            yield self._ids(everything, data.counts.rows.total())
            return
        for part, least, verb in (("train", TRAIN, "learnt"), ("test", TEST, "tested")):
            tiny = sorted(label for label in everything if counts[part][label] < least)
            if tiny and (counts[part] or part == "train"):
                yield _tiny(data, tiny, part, least, verb, counts[part], where)

    def _sizes(self, counts: Counter[str]) -> Finding:
        sizes = sorted(counts.values())
        shares = [size / sum(sizes) for size in sizes]
        effective = math.exp(-sum(share * math.log(share) for share in shares))
        skewed = sizes[-1] >= SKEW * sizes[0] and len(sizes) > 1
        numbers = f"{sizes[0]:,} / {median(sizes):,.0f} / {sizes[-1]:,} rows"
        return Finding(
            "label_balance",
            "warning" if skewed else "note",
            f"{plural(len(sizes), 'class', 'classes')}: {numbers} (smallest / median / largest)"
            + (f", the largest {sizes[-1] / sizes[0]:.0f} times the smallest." if skewed else "."),
            len(sizes),
            (),
            "With unequal classes accuracy is mostly that of the large ones."
            if skewed
            else "Equal classes make accuracy a fair summary.",
            "Look at macro-F1, and add rows of the small classes." if skewed else "Nothing to do.",
            {
                "counts": dict(counts.most_common()),
                "effective_classes": effective,
                "plot": bars("Rows by class", counts, "rows"),
            },
        )

    def _ids(self, counts: Counter[str], rows: int) -> Finding:
        return Finding(
            "label_balance",
            "blocking",
            f"{plural(len(counts), 'different label')} in {rows:,} rows: nearly every row has its own.",
            len(counts),
            (),
            "Such a column is an id or a text, not a class; nothing can be learnt from it.",
            "Say which column is the label: data.columns={text: ..., label: ...}; or use a generation task.",
            {"labels": [label for label, _ in counts.most_common(20)]},
        )


def _tiny(
    data: Checked, tiny: list[str], part: str, least: int, verb: str, counts: Counter[str], where: dict[str, list[int]]
) -> Finding:
    shown = ", ".join(f"'{label}' ({counts[label]})" for label in tiny[:5]) + (", ..." if len(tiny) > 5 else "")
    found = sorted(place for label in tiny for place in where.get(label, ()) if data.parts[place] == part)
    return Finding(
        "label_balance",
        "warning",
        f"{plural(len(tiny), 'class', 'classes')} with fewer than {least} {part} rows, too few to be {verb}: {shown}.",
        len(tiny),
        data.origins(found),
        f"A class with so few rows is hardly {verb}, whatever the total score says.",
        "Collect more rows of them, or join classes that mean nearly the same.",
        {"part": part, "classes": {label: counts[label] for label in tiny}},
    )


PLUGIN = LabelBalance()
