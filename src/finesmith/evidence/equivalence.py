"""As good as, no worse than, and several claims at once. Pure: numbers in, numbers out.

"No significant difference" shows nothing. Two systems are equivalent where the 90 % interval of their difference lies
within a margin: two one-sided tests at 5 % each (TOST; Schuirmann 1987, J. Pharmacokin. Biopharm. 15:657).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from finesmith.evidence import stats
from finesmith.metrics.base import Metric, Statistics
from finesmith.types import Estimate


@dataclass(frozen=True)
class Equivalence:
    """A difference with its 90 % interval, whether that lies within the margin, and the p-value of the two tests."""

    value: float
    low: float
    high: float
    margin: float
    p: float
    n: int

    @property
    def holds(self) -> bool:
        """Whether the difference was shown to be smaller than the margin."""
        return -self.margin < self.low and self.high < self.margin


def tost(differences: np.ndarray, margin: float) -> Equivalence:
    """Two one-sided paired t-tests on the differences of rows [N], two at least."""
    from scipy.stats import t

    n, value = len(differences), float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    half = float(t.ppf(0.95, n - 1)) * error
    p = max(_beyond(value + margin, error, n - 1), _beyond(margin - value, error, n - 1))
    return Equivalence(value, value - half, value + half, margin, p, n)


def no_worse(differences: np.ndarray, margin: float) -> float:
    """One-sided p-value of a paired t-test: the mean of the differences [N] (positive is better) is above -margin."""
    n, value = len(differences), float(np.mean(differences))
    return _beyond(value + margin, float(np.std(differences, ddof=1)) / math.sqrt(n), n - 1)


def equivalent(metric: Metric, ours: Statistics, theirs: Statistics, margin: float, *, seed: int) -> Equivalence:
    """TOST on any metric: Newcombe's interval at 90 % for a share, the paired bootstrap's for another.

    `ours` and `theirs` are the statistics of the same rows in the same order.
    """
    if metric.kind == "share":
        found = stats.newcombe(ours[:, 0], theirs[:, 0], 0.90)
    else:
        found = stats.paired_bootstrap(metric, ours, theirs, seed=seed, confidence=0.90)
    p = max(above(found, -margin, 0.90), above(-found, -margin, 0.90))
    return Equivalence(found.value, found.low, found.high, margin, p, found.n)


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


def _beyond(distance: float, error: float, freedom: int) -> float:
    """P(T > distance / error)."""
    from scipy.stats import t

    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(t.sf(distance / error, freedom))
