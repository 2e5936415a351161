"""The same input more than once, after folding case and what is no word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from finesmith.checks.base import SHOWN, Checked, Mend, Progress, share
from finesmith.types import Finding, Message, Target


@dataclass(frozen=True)
class ExactDuplicates:
    """Rows whose input stands already in an earlier row of the same part of the data."""

    title: str = "exact duplicates"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a part that came with the data."""
        for part in dict.fromkeys(data.given.tolist()):
            rows = np.flatnonzero(data.given == part)
            repeated = repeats(data.unique[rows])
            if not len(repeated):
                continue
            found = rows[repeated].tolist()
            where = "" if part == "all" else f" in {part}"
            sizes = Counter(data.unique[found].tolist())
            samples = [
                {**data.sample(int(data.first_rows[name])), "times": count + 1}
                for name, count in sizes.most_common(SHOWN)
            ]
            yield Finding(
                "exact_duplicates",
                "warning" if len(found) >= 0.01 * len(rows) or part == "test" else "note",
                f"{share(len(found), len(rows))} rows{where} repeat the input of an earlier one.",
                len(found),
                data.origins(found),
                "A repeated row counts more than the others in training, and makes a test set look larger than it is.",
                "Keep one of each, unless the repetition is meant as a weight (--fix keeps the first).",
                {"part": part, "samples": samples},
            )

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Leaves out later rows with the same input and the same target, never test rows."""
        named = set(finding.rows)
        seen: set[tuple[int, str, str]] = set()
        drop = []
        for place, row in enumerate(data.rows):
            key = (int(data.unique[place]), str(data.given[place]), _whole(row.target))
            if key in seen and str(row.origin) in named and data.given[place] != "test":
                drop.append(str(row.origin))
            seen.add(key)
        return Mend(drop=drop)


def _whole(target: Target) -> str:
    """All that is learnt of a target: of a message its tool calls, too."""
    return (
        json.dumps(target.as_dict(), sort_keys=True) + str(target.weight)
        if isinstance(target, Message)
        else str(target)
    )


def repeats(names: np.ndarray) -> np.ndarray:
    """Positions whose value has stood before."""
    first = np.unique(names, return_index=True)[1]
    return np.setdiff1d(np.arange(len(names)), first)


PLUGIN = ExactDuplicates()
