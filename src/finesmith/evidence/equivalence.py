"""P-values that agree with intervals, and several claims at once. Pure: numbers in, numbers out.

"No significant difference" shows nothing. Two systems are equivalent where the 90 % interval of their difference lies
within a margin: two one-sided tests at 5 % each (TOST; Schuirmann 1987, J. Pharmacokin. Biopharm. 15:657). The larger
of `above(difference, -margin, 0.90)` and `above(-difference, -margin, 0.90)` is their p-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from finesmith.evidence import stats
from finesmith.types import Estimate


def above(estimate: Estimate, border: float = 0.0, confidence: float = 0.95) -> float:
    """One-sided p-value that the true value is above a border, from an interval alone.

    The error is taken from the side of the interval that faces the border, so that p < (1 - confidence) / 2 exactly
    where the interval lies above it. Few rows (or groups) have Student's t, as their interval has.
    """
    from scipy.special import stdtr, stdtrit

    distance = estimate.value - border
    side = estimate.value - estimate.low if distance > 0 else estimate.high - estimate.value
    if not math.isfinite(side):
        return 0.5
    if side <= 0:
        return 0.0 if distance > 0 else 1.0
    upper, freedom = 0.5 + confidence / 2, (estimate.n if estimate.groups is None else estimate.groups) - 1
    if 0 < freedom < stats.FEW:
        return float(stdtr(freedom, -distance / side * stdtrit(freedom, upper)))
    return NormalDist().cdf(-distance / side * NormalDist().inv_cdf(upper))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: below 5 % for all claims that hold together (Holm 1979, Scand. J. Statistics 6:65)."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        least = max(least, min(1.0, (len(p) - place) * p[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p}
