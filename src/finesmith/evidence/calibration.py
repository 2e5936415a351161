"""Are the probabilities true, and which answers should be left to a person? Pure: numbers in, numbers out.

Legend for shapes: N rows, K labels. `chances` are probabilities [N, K], `truth` the label's column [N], `confidence`
the largest probability of a row [N], `right` ones and zeros [N].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from finesmith.types import Estimate

BINS = 15
DRAWS = 500
TINY = 1e-12


def temperature(chances: np.ndarray, truth: np.ndarray) -> float:
    """The T, 0.05 to 20, that makes softmax(log p / T) least surprised by the truth (Guo et al. 2017, 1706.04599)."""
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(chances, TINY))
    found = minimize_scalar(
        lambda t: nll(_softmax(logs / math.exp(t)), truth),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def tempered(chances: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T): flatter above 1, sharper below."""
    return _softmax(np.log(np.maximum(chances, TINY)) / temperature)


def nll(chances: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative log probability of the truth, in nats."""
    return float(-np.log(np.maximum(chances[np.arange(len(truth)), truth], TINY)).mean())


def brier(chances: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared distance between probabilities and the truth, summed over labels: 0 to 2 (Brier 1950)."""
    wanted = np.zeros_like(chances)
    wanted[np.arange(len(truth)), truth] = 1.0
    return float(((chances - wanted) ** 2).sum(axis=1).mean())


@dataclass(frozen=True)
class Ece:
    """Expected calibration error. `raw` is what was seen, `chance` what perfectly calibrated probabilities would show.

    `corrected` is raw minus chance (0 at least) with a bootstrap interval; `calibrated` says that raw is not above
    what 95 % of perfectly calibrated draws show. `bins` are (confidence, accuracy, rows).
    """

    raw: float
    chance: float
    corrected: Estimate
    calibrated: bool
    bins: tuple[tuple[float, float, int], ...]


def ece(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS, seed: int = 0) -> Ece:
    """ECE over bins of equal mass. The raw value is biased upwards with few rows, so what chance shows is taken off."""
    order = np.argsort(confidence, kind="stable")
    confidence, right = confidence[order], right[order].astype(float)
    raw = _ece(confidence, right[None], bins)[0]
    random = np.random.default_rng(seed)
    perfect = _ece(confidence, (random.random((DRAWS, len(right))) < confidence).astype(float), bins)
    chance = float(perfect.mean())
    spread = _ece_bootstrap(confidence, right, bins, random)
    corrected = max(0.0, raw - chance)
    # a resample's ECE has the bias twice: once from the rows, once from drawing them again
    low, high = np.quantile(spread - spread.mean(), [0.025, 0.975])
    estimate = Estimate(corrected, max(0.0, corrected + float(low)), min(1.0, corrected + float(high)), len(right))
    return Ece(float(raw), chance, estimate, bool(raw <= np.quantile(perfect, 0.95)), _table(confidence, right, bins))


def classwise_ece(chances: np.ndarray, truth: np.ndarray, *, bins: int = BINS) -> float:
    """The mean over labels of the ECE of each label's probability (Kull et al. 2019, arXiv 1910.12656)."""
    found = []
    for label in range(chances.shape[1]):
        order = np.argsort(chances[:, label], kind="stable")
        found.append(_ece(chances[order, label], (truth[order] == label).astype(float)[None], bins)[0])
    return float(np.mean(found))


def _edges(n: int, bins: int) -> np.ndarray:
    return np.unique(np.linspace(0, n, min(bins, n) + 1).round().astype(int))


def _ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """[D] errors of [D, N] outcomes, confidence sorted: |sum of (right - confidence)| over each bin, over N."""
    edges = _edges(len(confidence), bins)
    gaps = np.add.reduceat(right - confidence, edges[:-1], axis=1)
    return np.abs(gaps).sum(axis=1) / len(confidence)


def _ece_bootstrap(confidence: np.ndarray, right: np.ndarray, bins: int, random: np.random.Generator) -> np.ndarray:
    found = []
    for _ in range(DRAWS):
        drawn = np.sort(random.integers(0, len(right), len(right)))  # sorted rows: confidence stays sorted
        found.append(_ece(confidence[drawn], right[drawn][None], bins)[0])
    return np.asarray(found)


def _table(confidence: np.ndarray, right: np.ndarray, bins: int) -> tuple[tuple[float, float, int], ...]:
    edges = _edges(len(confidence), bins)
    return tuple((float(confidence[a:b].mean()), float(right[a:b].mean()), int(b - a)) for a, b in pairwise(edges))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of rows answered and share of wrong ones among them [N], the most confident first; ties by mean risk.

    Rows of one confidence cannot be told apart, so each of them counts with the mean of all.
    """
    levels, inverse, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(inverse, weights=1.0 - right, minlength=len(levels)) / counts
    n = np.arange(1, len(right) + 1)
    return n / len(right), np.cumsum(np.repeat(wrong, counts)) / n


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019, arXiv 1805.08206)."""
    return float(risk_coverage(confidence, right)[1].mean())


@dataclass(frozen=True)
class Threshold:
    """Answer where the confidence is at least `least`: that is `coverage` of the rows, `risk` of them wrong.

    `bound` is the upper bound of the risk that held when it was chosen, with all looks at the rows paid for.
    """

    least: float
    coverage: float
    risk: float
    bound: float


def threshold(confidence: np.ndarray, right: np.ndarray, risk: float, *, sure: float = 0.95) -> Threshold | None:
    """The lowest confidence at which at most a share `risk` of the answers is wrong, with probability `sure`.

    A binary search over coverages, each looked at with Clopper and Pearson's upper bound at (1 - sure) over the number
    of looks (Geifman and El-Yaniv 2017, arXiv 1705.08500). None where no coverage is known to be as good.
    """
    levels = np.unique(confidence)
    looks = max(1, math.ceil(math.log2(len(levels) + 1)))
    at, end, found = 0, len(levels) - 1, None  # level 0 answers everything
    while at <= end:
        middle = (at + end) // 2
        chosen = confidence >= levels[middle]
        errors, n = int((1 - right[chosen]).sum()), int(chosen.sum())
        bound = clopper_pearson(errors, n, (1 - sure) / looks)
        if bound <= risk:
            found, end = Threshold(float(levels[middle]), n / len(right), errors / n, bound), middle - 1
        else:
            at = middle + 1
    return found


def clopper_pearson(events: int, n: int, alpha: float) -> float:
    """The exact one-sided upper bound of a share, wrong with probability `alpha` at most (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if events >= n else float(beta.ppf(1 - alpha, events + 1, n - events))


def conformal(chances: np.ndarray, truth: np.ndarray, alpha: float) -> float:
    """How far from 1 a label's probability may be for it to stand in the set: split conformal, LAC.

    The ceil((n + 1)(1 - alpha))-th smallest of 1 - p(truth) over held-out rows: sets hold the truth with probability
    1 - alpha at least, if new rows are like these (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451). 1 (all labels)
    where there are too few rows.
    """
    scores = np.sort(1.0 - chances[np.arange(len(truth)), truth])
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(scores[rank - 1]) if rank <= len(scores) else 1.0


def sets(chances: np.ndarray, quantile: float) -> np.ndarray:
    """[N, K]: which labels stand in each row's set."""
    return 1.0 - chances <= quantile + 1e-12


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
