"""Intervals where rows are not all there is to chance: several seeds of training, rows that come in clusters.

Legend for shapes: N rows, S statistics a row, k seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    clusters: Sequence[Any] | None = None,
    seed: int,
    draws: int = stats.DRAWS,
    confidence: float = 0.95,
) -> Seeds:
    """The mean over seeds of a metric, or of its gain over another system, with an interval over seeds and rows.

    Rows are resampled, all seeds on the same rows (`ours` [N, S] for each of k >= 2 seeds); the covariance of two
    seeds' draws is the variance that rows bring. Drawing three seeds out of three would find only two thirds of the
    variance between seeds, so that is taken as it is, and `_half` makes the interval of both. With `clusters`, whole
    clusters are resampled.
    """
    number, groups = ours[0].shape[0], None
    if clusters is not None:
        gathered = _gather(_codes(clusters))
        groups, ours = gathered.shape[0], [gathered @ each for each in ours]
        theirs = None if theirs is None else gathered @ theirs
    n = ours[0].shape[0]
    assert len(ours) >= 2, "one seed says nothing about others"
    sign = 1.0 if metric.higher_is_better else -1.0

    def scores(weights: np.ndarray) -> np.ndarray:
        found = np.stack([metric.score(weights @ each) for each in ours], axis=-1)  # [..., k]
        return found if theirs is None else sign * (found - metric.score(weights @ theirs)[..., None])

    found = over_seeds(scores, n, _limits(metric, theirs is not None), seed=seed, draws=draws, confidence=confidence)
    return replace(found, estimate=replace(found.estimate, n=number, groups=groups))


def over_seeds(
    scores: Callable[[np.ndarray], np.ndarray],
    n: int,
    limits: tuple[float, float],
    *,
    seed: int,
    draws: int = stats.DRAWS,
    confidence: float = 0.95,
) -> Seeds:
    """`two_level` of any value: `scores` gives those of all k seeds [D, k] under weights [D, n] of the rows."""
    values = scores(np.ones((1, n)))[0]
    k, (low, high), value = len(values), limits, float(values.mean())
    drawn = np.concatenate([scores(weights) for weights in stats.resamples(n, draws, seed)])
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    rows, between = _from_rows(drawn, n), float(np.var(values, ddof=1)) / k
    half = _half(rows, between, n, k, confidence)
    ends = (value - half, value + half) if half else stats.unseen(value, limits, n, confidence)
    return Seeds(
        Estimate(value, max(low, ends[0]), min(high, ends[1]), n),
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
    gathered = _gather(_codes(clusters))
    if theirs is None:
        found = stats.bootstrap(metric, gathered @ ours, seed=seed, confidence=confidence)
    else:
        found = stats.paired_bootstrap(metric, gathered @ ours, gathered @ theirs, seed=seed, confidence=confidence)
    return replace(found, n=gathered.shape[1], groups=gathered.shape[0])


def over_clusters(
    metric: Metric,
    ours: Statistics,
    clusters: Sequence[Any],
    theirs: Statistics | None = None,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Estimate:
    """A metric, or its gain over another system (positive is better), with an interval over clusters.

    Shares keep Wilson's and Newcombe's intervals, with as many rows as these are worth; near 0 and 1 they cover better
    than a bootstrap of few clusters. Every other metric is bootstrapped over clusters.
    """
    if metric.kind != "share":
        return cluster_bootstrap(metric, ours, clusters, theirs, seed=seed, confidence=confidence)
    if theirs is not None:
        gain = newcombe(ours[:, 0], theirs[:, 0], clusters, confidence)
        return gain if metric.higher_is_better else -gain
    codes, share = _codes(clusters), float(ours[:, 0].mean())
    worth = _worth(ours[:, 0], codes, confidence)
    return replace(stats.wilson(share * worth, worth, confidence), n=len(codes), groups=int(codes.max()) + 1)


def newcombe(right_a: np.ndarray, right_b: np.ndarray, clusters: Sequence[Any], confidence: float = 0.95) -> Estimate:
    """`stats.newcombe` of rows in clusters [N], with as many rows as these are worth."""
    codes = _codes(clusters)
    found = stats.newcombe(right_a, right_b, confidence, rows=_worth(right_a - right_b, codes, confidence))
    return replace(found, groups=int(codes.max()) + 1)


def sums(rows: np.ndarray, clusters: Sequence[Any]) -> np.ndarray:
    """[clusters, S]: rows [N, S] summed over each cluster, which then count as rows."""
    return _gather(_codes(clusters)) @ rows


def _worth(values: np.ndarray, codes: np.ndarray, confidence: float) -> float:
    """How many independent rows these are worth: their number over the design effect, the variance of the mean over
    clusters to that over rows (1 at least), and for the t quantile of few clusters (Korn and Graubard 1998, Survey
    Methodology 24:193)."""
    from scipy.special import ndtri, stdtrit

    n, count = len(codes), int(codes.max()) + 1
    if count < 2:
        return 1e-6  # one cluster tells nothing about others
    away = values - values.mean()
    rows, between = float((away**2).sum()), float((np.bincount(codes, weights=away) ** 2).sum())
    effect = max(1.0, count / (count - 1) * between / rows) if rows > 0 else n / count
    upper = 0.5 + confidence / 2
    return n / effect * float(ndtri(upper) / stdtrit(count - 1, upper)) ** 2


def _codes(clusters: Sequence[Any]) -> np.ndarray:
    """[N]: the number of each row's cluster, from 0 on."""
    return np.unique(np.asarray(list(map(str, clusters))), return_inverse=True)[1]


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

    if n < 2:
        return math.inf  # one row or cluster tells nothing about others
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
