"""Intervals where rows are not all there is to chance: several seeds of training, rows that come in clusters.

Legend for shapes: N rows, S statistics a row, k seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith.evidence import stats
from finesmith.metrics.base import Metric, Statistics
from finesmith.types import Estimate

GRID = 199
"""Quantiles of each part of a sum, whose combinations stand for its distribution."""


@dataclass(frozen=True)
class Seeds:
    """The mean over seeds with an interval for another seed's training and other rows; what each seed gave.

    `sd` is the standard deviation between seeds, `rows_sd` what resampling the rows alone moves the mean by.
    """

    estimate: Estimate
    values: tuple[float, ...]
    sd: float
    rows_sd: float


def two_level(
    metric: Metric,
    ours: Sequence[Statistics],
    theirs: Statistics | None = None,
    *,
    seed: int,
    draws: int = stats.DRAWS,
    confidence: float = 0.95,
) -> Seeds:
    """The mean over seeds of a metric, or of its gain over another system, with an interval over seeds and rows.

    Rows are resampled, all seeds on the same rows (`ours` [N, S] for each of k >= 2 seeds); the covariance of two
    seeds' draws is the variance that rows bring. Drawing three seeds out of three would find only two thirds of the
    variance between seeds, so that is taken as it is, and `_half` makes the interval of both.
    """
    k, n = len(ours), ours[0].shape[0]
    assert k >= 2, "one seed says nothing about others"
    sign = 1.0 if metric.higher_is_better else -1.0

    def scores(weights: np.ndarray) -> np.ndarray:
        found = np.stack([metric.score(weights @ each) for each in ours], axis=-1)  # [..., k]
        return found if theirs is None else sign * (found - metric.score(weights @ theirs)[..., None])

    values = scores(np.ones((1, n)))[0]
    drawn = np.concatenate([scores(weights) for weights in stats.resamples(n, draws, seed)])
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    rows, between = _from_rows(drawn, n), float(np.var(values, ddof=1)) / k
    half = _half(rows, between, n, k, confidence) or stats.unseen(n, metric.limits[1] - metric.limits[0], confidence)
    low, high = _limits(metric, theirs is not None)
    value = float(values.mean())
    return Seeds(
        Estimate(value, max(low, value - half), min(high, value + half), n),
        tuple(values.tolist()),
        math.sqrt(between * k),
        math.sqrt(rows),
    )


def _from_rows(drawn: np.ndarray, n: int) -> float:
    """The variance of the mean that rows bring to all seeds alike: the mean covariance between two seeds' draws."""
    covariance = np.cov(drawn.T) * n / max(1, n - 1)
    k = len(covariance)
    return max(0.0, float(covariance.sum() - np.trace(covariance)) / (k * (k - 1)))


def cluster_bootstrap(
    metric: Metric,
    ours: Statistics,
    clusters: Sequence[Any],
    theirs: Statistics | None = None,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Estimate:
    """The interval over resampled clusters (documents, customers, prompts) instead of rows; paired with `theirs`.

    The statistics add up, so a cluster is a row whose statistics are the sums over its rows.
    """
    _, codes = np.unique(np.asarray(list(map(str, clusters))), return_inverse=True)
    sums = _gather(codes)
    if theirs is None:
        found = stats.bootstrap(metric, sums @ ours, seed=seed, confidence=confidence)
    else:
        found = stats.paired_bootstrap(metric, sums @ ours, sums @ theirs, seed=seed, confidence=confidence)
    return Estimate(found.value, found.low, found.high, len(codes))


def _gather(codes: np.ndarray) -> Any:
    """[clusters, N] of ones where a row belongs to a cluster."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))


def _half(rows: float, between: float, n: int, k: int, confidence: float) -> float:
    """Half the interval of a sum whose parts have these variances, estimated with n - 1 and k - 1 degrees of freedom.

    Satterthwaite's t (1946, Biometrics Bulletin 2:110) covers down to 92 % with three seeds, the distribution of the
    sum of a t for each part (Behrens and Fisher) up to 98 %. Between the two, by the share that seeds have in the
    variance, it is 94.3 to 95.8 %.
    """
    from scipy.special import stdtrit

    if (total := rows + between) == 0:
        return 0.0
    freedom = total**2 / (between**2 / (k - 1) + rows**2 / max(1, n - 1))
    middle = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(total)
    places = (np.arange(GRID) + 0.5) / GRID
    parts = math.sqrt(rows) * stdtrit(max(1, n - 1), places)[:, None] + math.sqrt(between) * stdtrit(k - 1, places)
    return middle + between / total * (float(np.quantile(np.abs(parts), confidence)) - middle)


def _limits(metric: Metric, difference: bool) -> tuple[float, float]:
    if not difference:
        return metric.limits
    scale = metric.limits[1] - metric.limits[0]
    return -scale, scale
