"""The expected calibration error: how far probabilities are from the shares of right answers, with an interval.

Legend for shapes: N rows, K labels, B bins. `confidence` is the largest probability of a row [N], `right` ones and
zeros [N].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from finesmith.evidence.calibration import clopper_pearson
from finesmith.types import Estimate

BINS = 15
DRAWS = 500
LEVELS = 60
"""Errors that the interval tries."""


@dataclass(frozen=True)
class Ece:
    """Expected calibration error. `raw` is what was seen, `chance` what perfectly calibrated probabilities would show.

    `estimate` is free of the bias that few rows bring, with a 95 % interval; `calibrated` says that `raw` is not above
    what 95 % of perfectly calibrated draws show. `bins` are (confidence, accuracy, rows).
    """

    raw: float
    chance: float
    estimate: Estimate
    calibrated: bool
    bins: tuple[tuple[float, float, int], ...]


def ece(
    confidence: np.ndarray,
    right: np.ndarray,
    *,
    bins: int = BINS,
    seed: int = 0,
    clusters: Sequence[int] | None = None,
) -> Ece:
    """ECE over bins of equal mass, and what is left of it without the noise of each bin.

    The raw value is biased upwards. Drawing each bin's gap again around what was seen adds that bias once more, so it
    can be taken off (Kumar, Liang and Ma 2019, arXiv 1909.10155); where perfect probabilities would show as much, it is
    what they show that is taken off. The interval holds every error under which the raw value would be no surprise.

    Args:
        clusters: of rows that belong together. They err together, so that chance shows more than as many rows alone
            would: all spreads grow by the root of what clusters add within bins (Kish's design effect).
    """
    order = np.argsort(confidence, kind="stable")
    confidence, right = confidence[order], right[order].astype(float)
    edges, n, effect = _edges(len(right), bins), len(right), 1.0
    if clusters is not None:
        effect = _design_effect(right - confidence, np.asarray(clusters)[order], edges)
    gaps = np.add.reduceat(right - confidence, edges[:-1]) / n
    raw = float(np.abs(gaps).sum())
    noise = np.random.default_rng(seed).normal(scale=math.sqrt(effect), size=(DRAWS, len(gaps)))
    expected = np.sqrt(np.add.reduceat(confidence * (1 - confidence), edges[:-1])) / n
    perfect = np.abs(expected * noise).sum(axis=1)
    again = np.abs(gaps + _spread(right - confidence, edges) * noise).sum(axis=1)
    calibrated = bool(raw <= np.quantile(perfect, 0.95))
    value = max(0.0, raw - float(perfect.mean() if calibrated else again.mean() - raw))
    low, high = _interval(confidence, gaps, edges, noise)
    high = min(1.0, max(value, high, _of_the_mean(confidence.mean(), right.mean(), n / effect)))
    estimate = Estimate(value, 0.0 if calibrated else min(value, low), high, n)
    return Ece(raw, float(perfect.mean()), estimate, calibrated, _table(confidence, right, edges))


def classwise_ece(chances: np.ndarray, truth: np.ndarray, *, bins: int = BINS) -> float:
    """The mean over labels of the ECE of each label's probability (Kull et al. 2019, arXiv 1910.12656); `truth` may be
    [N, K] where several labels hold."""
    edges, found = _edges(len(truth), bins), []
    for label in range(chances.shape[1]):
        order = np.argsort(chances[:, label], kind="stable")
        holds = truth[order] == label if truth.ndim == 1 else truth[order, label]
        gaps = np.add.reduceat(holds - chances[order, label], edges[:-1])
        found.append(np.abs(gaps).sum() / len(truth))
    return float(np.mean(found))


def _interval(confidence: np.ndarray, gaps: np.ndarray, edges: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """The errors under which the raw value lies between the 2.5th and the 97.5th percentile of what would be seen.

    How an error is spread over the bins is not known, and changes what is seen: the widest of three ways is taken. As
    it was seen; only where more was seen than noise brings; by the noise of each bin.

    Args:
        noise: [draws, B], standard normal but for the design effect.
    """
    sizes, n = np.diff(edges), edges[-1]
    sure, doubt = (np.add.reduceat(each, edges[:-1]) for each in (confidence, confidence * (1 - confidence)))
    alone = sure * (1 - sure / sizes)  # were all rows of a bin as sure as their mean
    within = np.divide(doubt, alone, out=np.ones_like(doubt), where=alone > 1e-12).clip(0, 1)
    raw, signs = np.abs(gaps).sum(), np.where(gaps < 0, -1.0, 1.0)
    levels, found = np.linspace(0, min(1.0, 2 * raw + 0.05), LEVELS), []
    for shape in (np.abs(gaps), np.maximum(0, np.abs(gaps) - 2 * np.sqrt(doubt) / n), np.sqrt(doubt) / n):
        if not shape.any():
            continue
        way = signs * shape / shape.sum()
        shares = ((sure + n * levels[:, None] * way) / sizes).clip(0, 1)
        spreads = np.sqrt(within * sizes * shares * (1 - shares)) / n  # [LEVELS, B]
        seen = [np.abs(level * way + spread * noise).sum(axis=1) for level, spread in zip(levels, spreads, strict=True)]
        few, many = np.maximum.accumulate(np.quantile(seen, [0.025, 0.975], axis=1), axis=1)
        found.append((np.interp(raw, many, levels), np.interp(raw, few, levels)))
    lows, highs = zip(*found or [(0.0, 0.0)], strict=True)
    return float(min(lows)), float(max(highs))


def _of_the_mean(sure: float, right: float, n: float) -> float:
    """An upper bound of how far the mean confidence is from the true share of right answers; the error is no less."""
    bounds = (clopper_pearson(share * n, n, 0.025) - mean for share, mean in ((right, sure), (1 - right, 1 - sure)))
    return max(bounds)


def _edges(n: int, bins: int) -> np.ndarray:
    return np.unique(np.linspace(0, n, min(bins, n) + 1).round().astype(int))


def _spread(differences: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Standard error of each bin's share of the sum of differences."""
    parts = [differences[a:b] for a, b in pairwise(edges)]
    return np.array([math.sqrt(len(part) * float(part.var())) for part in parts]) / len(differences)


def _design_effect(differences: np.ndarray, codes: np.ndarray, edges: np.ndarray) -> float:
    """How many times the variance of the bins' sums is what it would be if no rows belonged together; 1 at least."""
    together = alone = 0.0
    for a, b in pairwise(edges):
        part = differences[a:b] - differences[a:b].mean()
        _, places = np.unique(codes[a:b], return_inverse=True)
        together += float((np.bincount(places, part) ** 2).sum())
        alone += float((part**2).sum())
    return max(1.0, together / alone) if alone else 1.0


def _table(confidence: np.ndarray, right: np.ndarray, edges: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    return tuple((float(confidence[a:b].mean()), float(right[a:b].mean()), int(b - a)) for a, b in pairwise(edges))
