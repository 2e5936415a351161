"""Are the probabilities true, and which answers should be left to a person? Pure: numbers in, numbers out.

Legend for shapes: N rows, K labels. `chances` are probabilities [N, K], `truth` the label's column [N], `confidence`
the largest probability of a row [N], `right` ones and zeros [N].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TINY = 1e-300
SPREAD = 0.5
"""Deviation of log T: a temperature below 0.4 or above 2.7 is believed only of rows enough."""
LIKELY = 0.8
"""How sure a threshold is that few rows give; `threshold` is sure with 0.95."""
FIRST = 0.6
"""The largest share of the rows that its first look may take: of all rows only luck would be given one."""


def temperature(chances: np.ndarray, truth: np.ndarray) -> float:
    """The T, 0.05 to 20, that makes softmax(log p / T) least surprised by the truth (Guo et al. 2017, 1706.04599).

    Few rows without an error would make T as small as it may be and every answer certain, so log T is believed to be
    normal around 0 with deviation `SPREAD` before any row is seen; hundreds of rows outweigh that.
    """
    from scipy.optimize import minimize_scalar

    logs, belief = np.log(np.maximum(chances, TINY)), 2 * SPREAD**2 * len(truth)
    found = minimize_scalar(
        lambda t: nll(_softmax(logs / math.exp(t)), truth) + t * t / belief,
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
    """Mean squared distance between probabilities and the truth, summed over labels (Brier 1950): 0 to 2,
    and with several labels (`truth` [N, K]) up to their number."""
    wanted = truth if truth.ndim == 2 else truth[:, None] == np.arange(chances.shape[1])
    return float(((chances - wanted) ** 2).sum(axis=1).mean())


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

    `shown` says that the risk was shown to be as low as asked, not only seen; `bound` is its upper bound.
    """

    least: float
    coverage: float
    risk: float
    bound: float
    shown: bool = True


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


def likely_threshold(
    confidence: np.ndarray, right: np.ndarray, risk: float, *, sure: float = LIKELY
) -> Threshold | None:
    """As `threshold` for rows too few to show it: less sure, and the looks follow one another from the surest rows on.

    The first look is at the fewest rows that could be enough if none were wrong, the last where the first bound is
    above `risk`: such looks need not share what `sure` leaves open (fixed sequence testing; Angelopoulos et al. 2021,
    arXiv 2110.01052). `bound` is 95 % sure.
    """
    fewest, found = math.log(1 - sure) / math.log(1 - risk), None
    if fewest > FIRST * len(right):
        return None
    for least in np.unique(confidence)[::-1]:
        chosen = confidence >= least
        errors, n = int((1 - right[chosen]).sum()), int(chosen.sum())
        if n >= fewest - 1e-9:
            if clopper_pearson(errors, n, 1 - sure) > risk:
                break
            found = Threshold(float(least), n / len(right), errors / n, clopper_pearson(errors, n, 0.05), shown=False)
    return found


def clopper_pearson(events: float, n: float, alpha: float) -> float:
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


def controlled(chances: np.ndarray, truth: np.ndarray, alpha: float) -> float:
    """As `conformal` where several labels hold (`truth` [N, K]): in the mean, sets miss a share `alpha` of a row's
    labels at most (conformal risk control, Angelopoulos et al. 2022, arXiv 2208.02814). 1 for too few rows."""
    n, apart = len(truth), 1.0 - chances
    many = np.maximum(1, truth.sum(axis=1))

    def kept(quantile: float) -> bool:
        missed = (truth & (apart > quantile + 1e-12)).sum(axis=1) / many
        return bool((missed.sum() + 1) / (n + 1) <= alpha)

    levels = np.unique(apart[truth])
    at, end, found = 0, len(levels) - 1, 1.0
    while at <= end:
        middle = (at + end) // 2
        if kept(float(levels[middle])):
            found, end = float(levels[middle]), middle - 1
        else:
            at = middle + 1
    return found


def sets(chances: np.ndarray, quantile: float) -> np.ndarray:
    """[N, K]: which labels stand in each row's set."""
    return 1.0 - chances <= quantile + 1e-12


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
