"""Enough test rows? The smallest gain that a test of this size can show, and how many rows smaller gains need.

Two systems answer the same rows; only rows where exactly one is right tell them apart. Power of McNemar's test after
Connor 1987 (Biometrics 43:207): n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2 rows show a gain d where a share psi
of the rows tells the systems apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from finesmith.checks.base import Checked, Progress, percent, plural
from finesmith.types import Finding

POWER, LEVEL = 0.8, 0.05
DISCORDANT = (0.05, 0.1, 0.15, 0.2, 0.3)
USUAL = 0.15
"""Share of rows where exactly one of two good systems is right, unless it is known better."""
GAINS = (0.01, 0.02, 0.03, 0.05, 0.1)
SIZES = (50, 100, 200, 300, 500, 1000, 2000, 3000)


@dataclass(frozen=True)
class TestSize:
    """The power table for this test size."""

    __test__ = False  # no test class for pytest, whatever its name
    title: str = "test size"
    tasks: tuple[str, ...] = ("classification", "generation")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding: a warning where a gain of 5 points could not be shown."""
        rows = data.counts.rows["test"]
        if not rows:
            return
        gain = detectable(rows)
        points = f"{100 * gain:.1f}" if gain < 0.0995 else f"{100 * gain:.0f}"
        score = " of a right-or-wrong score" if data.task == "generation" else ""
        yield Finding(
            "test_size",
            "warning" if gain > 0.05 else "note",
            f"With your {plural(rows, 'test row')} a gain under {points} points{score} cannot be shown "
            f"({percent(POWER)} power, where {percent(USUAL)} of the rows tell two systems apart).",
            rows,
            (),
            "A smaller gain may be there, but the interval around it will include zero.",
            f"For a gain of 5 points have {needed(0.05):,} test rows, for 3 points {needed(0.03):,}, "
            f"for 2 points {needed(0.02):,}.",
            {"rows": rows, "detectable": gain, "table": table(), "plot": _plot(rows, gain)},
        )


def needed(gain: float, discordant: float = USUAL) -> int:
    """Test rows that show a gain (0..1) with 80 % power at the two-sided level of 5 %."""
    normal = NormalDist()
    level, power = normal.inv_cdf(1 - LEVEL / 2), normal.inv_cdf(POWER)
    return math.ceil(((level * math.sqrt(discordant) + power * math.sqrt(discordant - gain**2)) / gain) ** 2)


def detectable(rows: int, discordant: float = USUAL) -> float:
    """The smallest gain (0..1) that so many rows can show; at least the systems must differ in that share of rows."""
    low, high = 1e-4, 1.0
    while high - low > 1e-5:
        gain = (low + high) / 2
        apart = max(discordant, gain)  # a gain d needs a share d of rows that tell the systems apart
        low, high = (low, gain) if needed(gain, apart) <= rows else (gain, high)
    return high


def table() -> list[dict[str, Any]]:
    """Rows needed for each gain and each share of discordant rows; None where that cannot be."""
    return [
        {"gain": gain, **{f"{share:.0%}": needed(gain, share) if share > gain else None for share in DISCORDANT}}
        for gain in GAINS
    ]


def _plot(rows: int, gain: float) -> dict[str, Any]:
    sizes = sorted({*SIZES, rows})
    return {
        "kind": "line",
        "title": "Smallest gain that can be shown",
        "x": "test rows",
        "y": "points",
        "values": [[size, 100 * detectable(size)] for size in sizes],
        "mark": [rows, 100 * gain],
    }


PLUGIN = TestSize()
