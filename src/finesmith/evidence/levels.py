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
    variance between seeds, and no t quantile: that variance is taken as it is, and Student's t gets Satterthwaite's
    degrees of freedom (1946, Biometrics Bulletin 2:110). With few seeds that disagree the interval is wide.
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
    rows, between = _components(drawn, n), float(np.var(values, ddof=1)) / k
    total = rows + between
    if total == 0:
        half = stats.unseen(n, metric.limits[1] - metric.limits[0], confidence)
    else:
        freedom = total**2 / (between**2 / (k - 1) + rows**2 / max(1, n - 1))
        half = _t(freedom, confidence) * math.sqrt(total)
    low, high = _limits(metric, theirs is not None)
    value = float(values.mean())
    return Seeds(
        Estimate(value, max(low, value - half), min(high, value + half), n),
        tuple(values.tolist()),
        math.sqrt(between * k),
        math.sqrt(rows),
    )


def _components(drawn: np.ndarray, n: int) -> float:
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


def _t(freedom: float, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _limits(metric: Metric, difference: bool) -> tuple[float, float]:
    if not difference:
        return metric.limits
    scale = metric.limits[1] - metric.limits[0]
    return -scale, scale
