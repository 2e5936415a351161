"""Intervals and tests over test rows. Pure: numbers in, numbers out; the same seed gives the same numbers.

Shares have closed forms that stay honest with few rows and near 0 or 1: Wilson for one system, Newcombe's method 10
for the difference of two systems on the same rows. A bootstrap of 24 right out of 24 says 1 to 1, these do not.
Every other metric is bootstrapped over rows. A handful of rows has too few resamples for that: their interval is joined
with Student's t, and what they agree on is not taken for certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from finesmith.evidence import calibration
from finesmith.metrics.base import Metric, Statistics
from finesmith.types import Estimate

DRAWS = 2000
FEW = 30
"""Rows (or clusters) up to which resamples alone are too few: of two rows there are three."""
JOINED = 300
"""Rows (or clusters) up to which the percentiles of resamples are joined with Student's t: alone they are too narrow
where rows are skewed. Beyond, both say nearly the same (`bench/coverage.py`)."""
FEW_OF_A_SHARE = 10
"""Rows up to which exact bounds are joined with Newcombe's method, whose published intervals begin above."""
CELLS = 4_000_000  # weights held at once, 32 MB


def wilson(successes: float, n: float, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927); `n` need not be whole."""
    z = _z(confidence)
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    # at 0 and at n one bound is exactly the share; rounding must not put the share outside
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), round(n))


def newcombe(
    right_a: np.ndarray, right_b: np.ndarray, confidence: float = 0.95, *, rows: float | None = None
) -> Estimate:
    """Share of A minus share of B on the same rows, with Newcombe's method 10 (Statistics in Medicine 17:2635, 1998).

    Wilson's bounds of both shares, combined with the continuity-corrected correlation phi of right and wrong. The
    interval has a width even where the two systems never differ. `rows` is how many independent rows these are worth,
    where they are not independent. Of ten rows or fewer it reaches 0 wherever McNemar's exact test does not exclude it.
    """
    n = len(right_a)
    worth = n if rows is None else rows
    a, b = (wilson(float(right.sum()) * (worth / n), worth, confidence) for right in (right_a, right_b))
    phi, difference = _phi(right_a, right_b), a.value - b.value
    below = _combine(a.value - a.low, b.high - b.value, phi)
    above = _combine(b.value - b.low, a.high - a.value, phi)
    ends = [difference - below, difference + above]
    if rows is None and n <= FEW_OF_A_SHARE:
        ends += _of_those_apart(right_a, right_b, confidence)
    return Estimate(difference, max(-1.0, min(ends)), min(1.0, max(ends)), n)


def _of_those_apart(right_a: np.ndarray, right_b: np.ndarray, confidence: float) -> list[float]:
    """Ends of the difference from the rows where one system alone is right: Clopper and Pearson's bounds of A's share
    of them. Newcombe's method finds two rows out of two clearly better, which happens by chance every other time."""
    ours, theirs = (float(((one == 1) & (other == 0)).sum()) for one, other in ((right_a, right_b), (right_b, right_a)))
    tail, n = (1 - confidence) / 2, ours + theirs
    low, high = 1 - calibration.clopper_pearson(theirs, n, tail), calibration.clopper_pearson(ours, n, tail)
    return [(2 * share - 1) * n / len(right_a) for share in (low, high)]


def apart(ours: Estimate, theirs: Estimate) -> tuple[float, float]:
    """Ends of our value minus theirs, where nothing ties the two: squares of the distances added (Newcombe's method 10
    without correlation; Zou and Donner 2008, Statistics in Medicine 27:1693)."""
    value = ours.value - theirs.value
    return (
        value - math.hypot(ours.value - ours.low, theirs.high - theirs.value),
        value + math.hypot(ours.high - ours.value, theirs.value - theirs.low),
    )


def _phi(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Correlation of two 0/1 columns, moved towards 0 by n / 2 where it is positive; 0 where a column is constant."""
    n, a, b = len(right_a), right_a.sum(), right_b.sum()
    margins = float(a * (n - a) * b * (n - b))
    both, neither = (right_a * right_b).sum(), ((1 - right_a) * (1 - right_b)).sum()
    product = float(both * neither - (a - both) * (b - both))
    corrected = max(product - n / 2, 0.0) if product > 0 else product
    return corrected / math.sqrt(margins) if margins else 0.0


def _combine(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test: of the rows where one system is right, is it as often A as B?"""
    from scipy.stats import binom

    a_only = int(((right_a == 1) & (right_b == 0)).sum())
    b_only = int(((right_a == 0) & (right_b == 1)).sum())
    return min(1.0, 2 * float(binom.cdf(min(a_only, b_only), a_only + b_only, 0.5)))


def bootstrap(
    metric: Metric, statistics: Statistics, *, seed: int, draws: int = DRAWS, confidence: float = 0.95
) -> Estimate:
    """A metric with the percentile interval over resampled rows.

    The percentiles are expanded for few rows (Hesterberg 2015, The American Statistician 69:371): plain ones are too
    narrow by sqrt((n - 1) / n) and by the difference of normal and t quantiles.
    """
    (counting,) = _counting(statistics)
    value, (low, high) = _bootstrap(
        lambda weights: metric.score(weights @ counting),
        counting.shape[0],
        metric.limits,
        seed=seed,
        draws=draws,
        confidence=confidence,
    )
    return Estimate(value, low, high, statistics.shape[0])


def paired_bootstrap(
    metric: Metric,
    ours: Statistics,
    theirs: Statistics,
    *,
    seed: int,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> Estimate:
    """Our value minus theirs, both on the same resampled rows, signed so that positive is better for us.

    `ours` and `theirs` are the statistics of the same rows in the same order.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    scale = metric.limits[1] - metric.limits[0]
    one, other = _counting(ours, theirs)

    def difference(weights: np.ndarray) -> np.ndarray:
        return sign * (metric.score(weights @ one) - metric.score(weights @ other))

    value, (low, high) = _bootstrap(
        difference, one.shape[0], (-scale, scale), seed=seed, draws=draws, confidence=confidence
    )
    return Estimate(value, low, high, ours.shape[0])


def _counting(*tables: Statistics) -> tuple[Statistics, ...]:
    """The rows that count for anything in one of the tables: others are no evidence, however many they are. All rows
    where none counts."""
    counts = np.any([np.asarray(abs(table).sum(axis=1)).ravel() != 0 for table in tables], axis=0)
    return tables if counts.all() or not counts.any() else tuple(table[counts] for table in tables)


def _bootstrap(
    score: Callable[[np.ndarray], np.ndarray],
    n: int,
    limits: tuple[float, float],
    *,
    seed: int,
    draws: int,
    confidence: float,
) -> tuple[float, tuple[float, float]]:
    """The value with every row once, and its percentile interval within the limits; up to `JOINED` rows joined."""
    value = float(score(np.ones((1, n)))[0])
    if math.isnan(value):
        return value, (value, value)
    drawn = np.concatenate([score(weights) for weights in resamples(n, draws, seed)])
    tail = _tail(n, confidence)
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    if high - low <= 1e-12 * max(1.0, abs(value)):
        low, high = unseen(value, limits, n, confidence)
    elif n <= JOINED:
        ends = _joined(score, value, drawn, n, confidence)
        low, high = min(low, ends[0]), max(high, ends[1])
    return value, (max(limits[0], min(value, float(low))), min(limits[1], max(value, float(high))))


def _joined(
    score: Callable[[np.ndarray], np.ndarray], value: float, drawn: np.ndarray, n: int, confidence: float
) -> tuple[float, float]:
    """Ends to join: Student's t on the jackknife, and the draws' own ends moved out as far as t lies beyond the normal
    quantile (Hesterberg 2015). The first holds for normal rows, the second follows a skew; `bench/coverage.py` says how
    often both together do. Open where one of few rows holds all there is to a value."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    without = score(1 - np.eye(n))
    half = quantile * math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    if math.isnan(half):
        return (-math.inf, math.inf) if n <= FEW else (float(low), float(high))
    wider = math.sqrt(n / (n - 1)) * quantile / _z(confidence)
    return value - max(half, wider * (value - float(low))), value + max(half, wider * (float(high) - value))


def resamples(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, [d, N] at a time, `draws` in all; rows with replacement."""
    random = np.random.default_rng(seed)
    size = max(1, CELLS // n)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        cells = random.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(cells.ravel(), minlength=count * n).reshape(count, n).astype(float)


def _tail(n: int, confidence: float) -> float:
    """The share of draws beyond each end of the interval, expanded for few rows."""
    from scipy.special import stdtrit

    if n < 2:
        return 0.0
    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * quantile)


def unseen(value: float, limits: tuple[float, float], n: int, confidence: float) -> tuple[float, float]:
    """Ends of what `n` rows that agree leave open: rows unlike them, as far off as the limits, may be so many among all
    as Wilson's bound for 0 out of n says, z^2 / (n + z^2); of few rows Clopper and Pearson's, where that is more.
    Without limits the value stands. One row tells nothing about others."""
    low, high = limits
    if n < 2:
        return low, high
    if math.isinf(high - low):
        return value, value
    z = _z(confidence)
    share = z * z / (n + z * z)
    if n <= FEW:
        share = max(share, 1 - ((1 - confidence) / 2) ** (1 / n))
    return value - share * (value - low), value + share * (high - value)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def over_rows(
    score: Callable[[np.ndarray], np.ndarray],
    statistics: np.ndarray,
    *,
    seed: int,
    limits: tuple[float, float] = (-math.inf, math.inf),
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> Estimate:
    """Any function of sums over rows with its percentile interval: paired where a row holds both systems' numbers.

    Rows that belong together (one customer, one prompt) are summed to one row before: then these are drawn together.

    Args:
        score: [D, S] sums to [D] values.
        statistics: [N, S].
        limits: the smallest and the largest possible value.
    """
    (rows,) = _counting(statistics)
    value, (low, high) = _bootstrap(
        lambda weights: score(weights @ rows), len(rows), limits, seed=seed, draws=draws, confidence=confidence
    )
    return Estimate(value, low, high, len(rows))
