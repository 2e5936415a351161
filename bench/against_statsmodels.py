"""The statistics of the evidence beside statsmodels' on random inputs: python bench/against_statsmodels.py [DRAWS].

Prints the largest difference of each quantity that both have. tests/unit/test_against_statsmodels.py asks for 1e-9.
"""

import gc
import sys
from collections.abc import Callable, Sequence

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from finesmith.evidence import calibration, equivalence, stats
from finesmith.types import Estimate

Pair = tuple[Sequence[float], Sequence[float]]
"""Our numbers and theirs."""


def main(draws: int = 2_000) -> None:
    print(f"largest difference from statsmodels over {draws:,} random inputs")
    for name, check in CHECKS.items():
        print(f"{name:<42}{largest(check, draws):.1e}")


def largest(check: Callable[[np.random.Generator], Pair], draws: int, seed: int = 0) -> float:
    """The largest absolute difference over so many random inputs."""
    random, worst = np.random.default_rng(seed), 0.0
    gc.freeze()  # multipletests collects garbage at every call
    try:
        for _ in range(draws):
            ours, theirs = check(random)
            worst = max(worst, float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)))))
    finally:
        gc.unfreeze()
    return worst


def wilson(random: np.random.Generator) -> Pair:
    n, confidence = _rows(random), random.uniform(0.5, 0.999)
    right = int(random.integers(0, n + 1))
    found = stats.wilson(right, n, confidence)
    return (found.low, found.high), proportion_confint(right, n, 1 - confidence, method="wilson")


def clopper_pearson(random: np.random.Generator) -> Pair:
    """One-sided at alpha: the upper end of the two-sided one at twice that."""
    n, alpha = _rows(random), random.uniform(0.001, 0.2)
    wrong = int(random.integers(0, n))
    return [calibration.clopper_pearson(wrong, n, alpha)], [proportion_confint(wrong, n, 2 * alpha, method="beta")[1]]


def newcombe_uncorrelated(random: np.random.Generator) -> Pair:
    """Pairs whose corrected correlation is 0: then method 10 is the interval for two samples, which statsmodels has."""
    while True:
        a, b = _answers(random)
        n, product = len(a), _product(a, b)
        if 0 <= product <= n / 2:
            confidence = _confidence(random)
            found = stats.newcombe(a, b, confidence)
            ends = confint_proportions_2indep(a.sum(), n, b.sum(), n, method="newcomb", alpha=1 - confidence)
            return (found.low, found.high), _of_few(a, b, ends, confidence)


def newcombe_paired(random: np.random.Generator) -> Pair:
    """Any pairs: method 10 written out, from statsmodels' Wilson intervals and numpy's correlation."""
    a, b = _answers(random)
    n, gap, product = len(a), a.mean() - b.mean(), _product(a, b)
    phi = 0.0
    if 0 < a.mean() < 1 and 0 < b.mean() < 1 and product != 0:
        phi = float(np.corrcoef(a, b)[0, 1])
        phi *= max(product - n / 2, 0.0) / product if product > 0 else 1.0
    confidence = _confidence(random)
    (low_a, high_a), (low_b, high_b) = (proportion_confint(x.sum(), n, 1 - confidence, method="wilson") for x in (a, b))
    down, up = (a.mean() - low_a, high_b - b.mean()), (high_a - a.mean(), b.mean() - low_b)
    below, above = (np.sqrt(max(0.0, x**2 - 2 * phi * x * y + y**2)) for x, y in (down, up))
    found = stats.newcombe(a, b, confidence)
    return (found.low, found.high), _of_few(a, b, (max(-1.0, gap - below), min(1.0, gap + above)), confidence)


def _confidence(random: np.random.Generator) -> float:
    """Of gains, and of equivalence."""
    return float(random.choice([0.95, 0.90]))


def _of_few(a: np.ndarray, b: np.ndarray, ends: tuple[float, float], confidence: float) -> tuple[float, float]:
    """Of few rows the interval is joined with Clopper and Pearson's of the rows where one system alone is right."""
    n, ours, either = len(a), int((a > b).sum()), int((a != b).sum())
    if n > stats.FEW_OF_A_SHARE or not either:
        return ends
    low, high = ((2 * end - 1) * either / n for end in proportion_confint(ours, either, 1 - confidence, "beta"))
    return min(ends[0], low), max(ends[1], high)


def exact_mcnemar(random: np.random.Generator) -> Pair:
    a, b = _answers(random)
    table = [[int(((a == i) & (b == j)).sum()) for j in (1, 0)] for i in (1, 0)]
    return [stats.mcnemar(a, b)], [mcnemar(table, exact=True).pvalue]


def tost(random: np.random.Generator) -> Pair:
    """The p-value that is made of a 90 % interval, where that is Student's and few rows have Student's p-value too."""
    ours, theirs, margin = _paired(random)
    low, high = DescrStatsW(ours - theirs).tconfint_mean(alpha=0.1)
    found = Estimate(float((ours - theirs).mean()), float(low), float(high), len(ours))
    p = max(equivalence.above(each, -margin, 0.90) for each in (found, -found))
    return [p], [ttost_paired(ours, theirs, -margin, margin)[0]]


def holm(random: np.random.Generator) -> Pair:
    p = {str(place): float(value) for place, value in enumerate(random.uniform(0, 0.3, random.integers(1, 12)))}
    return list(equivalence.holm(p).values()), multipletests(list(p.values()), method="holm")[1]


def _rows(random: np.random.Generator) -> int:
    return int(10 ** random.uniform(0, 4))


def _answers(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong of two systems on the same rows, alike to some degree."""
    n, rates, same = int(random.integers(1, 400)), random.random((2, 1)), random.random()
    a, b = (random.random((2, n)) < rates).astype(float)
    return a, np.where(random.random(n) < same, a, b)


def _product(a: np.ndarray, b: np.ndarray) -> float:
    """Both right times both wrong, less one right times the other."""
    return float((a * b).sum() * ((1 - a) * (1 - b)).sum() - (a * (1 - b)).sum() * ((1 - a) * b).sum())


def _paired(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    n = int(random.integers(3, stats.FEW + 1))
    return random.normal(random.uniform(-0.3, 0.3), 1, n), random.normal(0, 1, n), float(random.uniform(0.02, 0.6))


CHECKS: dict[str, Callable[[np.random.Generator], Pair]] = {
    "Wilson's interval": wilson,
    "Clopper and Pearson's upper bound": clopper_pearson,
    "Newcombe's difference, no correlation": newcombe_uncorrelated,
    "Newcombe's difference, any pairs": newcombe_paired,
    "McNemar's exact p-value": exact_mcnemar,
    "TOST: p-value of a 90 % interval": tost,
    "Holm's adjusted p-values": holm,
}

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
