"""Do the intervals that say 95 % hold the truth in 95 %? A large simulation, run by hand.

    python bench/coverage.py [--runs 4000] [--only calibration]

Rows, seeds and clusters are drawn from known distributions, the interval is made, and hits are counted. The standard
error of a coverage near 95 % over 4,000 runs is 0.34 points.
"""

import argparse
from collections.abc import Callable

import numpy as np

from finesmith import registry
from finesmith.evidence import calibration, ece, levels, stats

LOSS = registry.resolve("metrics", "held_out_loss")
ACCURACY = registry.resolve("metrics", "accuracy")
BITS, MACRO_F1 = registry.resolve("metrics", "bits_per_byte"), registry.resolve("metrics", "macro_f1")
BELIEVED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as sure as right": lambda level: level,
    "slightly too sure": lambda level: 1.15 * level,
    "too sure": lambda level: 1.5 * level,
    "not sure enough": lambda level: 0.7 * level,
    "wrong only where it is surest": lambda level: np.where(level > 3, level + 2.5, level),
}
"""Log-odds that a model believes it is right with, by the true ones, which are normal with mean 2 and deviation 1.2."""
Hit = Callable[[np.random.Generator, int], float]
"""Whether one draw's interval holds the truth; nan where the draw does not count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    runs = options.runs
    print("| interval | truth drawn from | coverage |\n|---|---|---|")
    for name, what, hit in cases():
        if options.only not in name:
            continue
        random = np.random.default_rng(0)
        found = np.nanmean([hit(random, run) for run in range(runs)])
        print(f"| {name} | {what} | {found:.2%} |", flush=True)


def cases() -> list[tuple[str, str, Hit]]:
    ratios = [(0.0, 1.0, 0.5), (0.02, 1.0, 0.5), (0.05, 1.0, 0.3), (0.1, 1.0, 0.3), (0.2, 1.0, 0.3), (0.5, 0.5, 0.5)]
    found: list[tuple[str, str, Hit]] = []
    for k in (3, 5):
        for seed, row, noise in ratios:
            what = f"{k} seeds, 200 rows, sd {seed:g} of seeds, {row:g} of rows, {noise:g} of both"
            found.append(("seeds and rows, loss", what, seeds(k, 200, seed, row, noise)))
    for drift in (0.0, 0.3, 0.8):
        found.append(
            ("seeds and rows, accuracy", f"3 seeds, 300 rows, seeds' skill sd {drift:g}", skills(3, 300, drift))
        )
    for count, size in ((20, 8), (50, 8), (200, 3)):
        found.append(("clusters, loss", f"{count} clusters of {size}", clusters(count, size)))
    for count, size, level in ((40, 8, 0.5), (20, 8, 0.5), (40, 8, 2.5), (100, 3, 1.0)):
        what = f"{count} clusters of {size}, two systems as good, level {level:g}"
        found.append(("clusters, difference of shares", what, shares(count, size, level)))
        found.append(("the same by rows, as if independent", what, shares(count, size, level, by_rows=True)))
    found.append(("clusters and seeds, loss", "3 seeds, 40 clusters of 5", clustered_seeds(3, 40, 5)))
    few = (2, 3, 4, 5, 7, 10, 11, 15, 20, 25, 30, 31)
    for n in (*few, 60, 100, 200, 300):
        found += [
            ("few rows, gain in bits per byte", f"{n} rows, two systems as good", bits(n)),
            ("few rows, gain in bits per byte, skewed", f"{n} rows, two systems as good", bits(n, skewed=True)),
            ("few groups, gain in macro-F1", f"{n} groups of 20 rows, two systems as good", macro_f1(n, 20)),
        ]
    for n in few:
        found += [
            ("few rows, gain in accuracy", f"{n} rows, always one of two right", alternately(n, 1.0)),
            ("few rows, gain in accuracy", f"{n} rows, one of two right in half", alternately(n, 0.5)),
        ]
    for n in (30, 31, 300):
        found += [
            ("90 % for equivalence, difference of shares", f"{n} rows, as good", alternately(n, 0.3, 0.90)),
            ("90 % for equivalence, bits per byte", f"{n} rows, as good", bits(n, confidence=0.90)),
        ]
    found += [
        ("Clopper-Pearson, upper 95 %", f"{share:g} of {n}", exact(share, n)) for share, n in ((0.05, 60), (0.1, 300))
    ]
    found.append(("threshold's risk of 10 %", "400 rows, confidence as true as it says", risk(400, 0.1)))
    for n in (60, 90):
        for shape in (4, 8, 20):
            what = f"{n} rows, confidence as true as it says, {shape / (shape + 1):.0%} right"
            found += [(f"few rows' threshold of 5 %, {name}", what, few_rows(n, shape, name)) for name in FEW_ROWS]
    for what, believed in BELIEVED.items():
        found += [("calibration error", f"{what}, {n} rows", calibration_error(n, believed)) for n in (100, 500, 2000)]
    found.append(("conformal sets, 90 %", "200 rows to calibrate, 200 others: mean share held", conformal(200, 0.1)))
    return found


def seeds(k: int, n: int, seed_sd: float, row_sd: float, noise_sd: float) -> Hit:
    def hit(random: np.random.Generator, run: int) -> bool:
        values = (
            random.normal(0, seed_sd, k)[:, None] + random.normal(0, row_sd, n) + random.normal(0, noise_sd, (k, n))
        )
        rows = [np.stack([5 + each, np.ones(n)], axis=1) for each in values]
        found = levels.two_level(LOSS, rows, seed=run, draws=300).estimate
        return found.low <= 5 <= found.high

    return hit


def skills(k: int, n: int, drift: float) -> Hit:
    """Rows have a difficulty, seeds a skill; the truth is the mean accuracy over all seeds and rows."""
    many = np.random.default_rng(1)
    level = 1.5 + drift * many.normal(size=20000)[:, None] + 1.5 * many.normal(size=(20000, 50))
    truth = float((1 / (1 + np.exp(-level))).mean())

    def hit(random: np.random.Generator, run: int) -> bool:
        level = 1.5 + drift * random.normal(size=k)[:, None] + 1.5 * random.normal(size=n)
        right = (random.random((k, n)) < 1 / (1 + np.exp(-level))).astype(float)
        rows = [np.stack([each, np.ones(n)], axis=1) for each in right]
        found = levels.two_level(ACCURACY, rows, seed=run, draws=300).estimate
        return found.low <= truth <= found.high

    return hit


def clusters(count: int, size: int) -> Hit:
    def hit(random: np.random.Generator, run: int) -> bool:
        names = np.repeat(np.arange(count), size)
        values = 5 + np.repeat(random.normal(0, 1, count), size) + random.normal(0, 1, count * size)
        rows = np.stack([values, np.ones(len(values))], axis=1)
        found = levels.cluster_bootstrap(LOSS, rows, names, seed=run)
        return found.low <= 5 <= found.high

    return hit


def shares(count: int, size: int, level: float, *, by_rows: bool = False) -> Hit:
    """Two systems with the same true accuracy, each good at other clusters; about `size` rows in each."""

    def hit(random: np.random.Generator, run: int) -> bool:
        names = np.repeat(np.arange(count), random.poisson(size - 1, count) + 1)
        both, own = random.normal(0, 1, count), random.normal(0, 1.5, (2, count))
        chances = 1 / (1 + np.exp(-(level + both + own)[:, names]))
        ours, theirs = (random.random(chances.shape) < chances).astype(float)
        found = stats.newcombe(ours, theirs) if by_rows else levels.newcombe(ours, theirs, names)
        return found.low <= 0 <= found.high

    return hit


def clustered_seeds(k: int, count: int, size: int) -> Hit:
    def hit(random: np.random.Generator, run: int) -> bool:
        names = np.repeat(np.arange(count), size)
        n = len(names)
        shared = random.normal(0, 1, count)[names] + random.normal(0, 1, n)
        values = random.normal(0, 0.1, k)[:, None] + shared + random.normal(0, 0.5, (k, n))
        rows = [np.stack([5 + each, np.ones(n)], axis=1) for each in values]
        found = levels.two_level(LOSS, rows, clusters=names, seed=run, draws=300).estimate
        return found.low <= 5 <= found.high

    return hit


def bits(n: int, *, skewed: bool = False, confidence: float = 0.95) -> Hit:
    """Texts of unequal length, each as hard for both systems; what each adds to that is normal, or exponential."""

    def hit(random: np.random.Generator, run: int) -> bool:
        size, hard = random.gamma(2, 100, n) + 20, 1.5 + random.normal(0, 0.3, n)
        own = random.exponential(0.15, (2, n)) if skewed else random.normal(0, 0.1, (2, n))
        ours, theirs = (np.stack([size * (hard + each), size], axis=1) for each in own)
        found = stats.paired_bootstrap(BITS, ours, theirs, seed=run, draws=1000, confidence=confidence)
        return found.low <= 0 <= found.high

    return hit


def macro_f1(count: int, size: int) -> Hit:
    """Five classes; each group has its own mix of them, and each system its own skill in it."""

    def hit(random: np.random.Generator, run: int) -> bool:
        names = np.repeat(np.arange(count), size)
        mixes = random.dirichlet(np.ones(5), count)
        truth = (mixes.cumsum(axis=1)[names] > random.random((len(names), 1))).argmax(axis=1)
        skill = 0.6 + random.normal(0, 0.15, (2, count))
        answers = [
            np.where(random.random(len(names)) < each[names], truth, random.integers(0, 5, len(names)))
            for each in skill
        ]
        target, *outputs = (np.eye(5)[each] for each in (truth, *answers))
        ours, theirs = (np.hstack([target * output, target + output]) for output in outputs)
        found = levels.cluster_bootstrap(MACRO_F1, ours, names, theirs, seed=run)
        return found.low <= 0 <= found.high

    return hit


def alternately(n: int, differ: float, confidence: float = 0.95) -> Hit:
    """Of the rows a share in which one of two systems is right, each as often; in the others both are or neither."""

    def hit(random: np.random.Generator, run: int) -> bool:
        one, both = random.random((2, n)) < 0.5
        ours, theirs = (np.where(random.random(n) < differ, [one, ~one], both)).astype(float)
        found = stats.newcombe(ours, theirs, confidence)
        return found.low <= 0 <= found.high

    return hit


def exact(share: float, n: int) -> Hit:
    return lambda random, run: share <= calibration.clopper_pearson(int(random.binomial(n, share)), n, 0.05)


def risk(n: int, wanted: float) -> Hit:
    """Whether the true risk above the threshold is as low as was asked (nothing found counts as kept)."""

    def hit(random: np.random.Generator, run: int) -> bool:
        confidence = random.beta(4, 1, n)
        found = calibration.threshold(confidence, (random.random(n) < confidence).astype(float), wanted)
        if found is None:
            return True
        others = random.beta(4, 1, 20000)
        return float((1 - others[others >= found.least]).mean()) <= wanted

    return hit


FEW_ROWS: dict[str, Callable[[calibration.Threshold | None, float], float]] = {
    "given": lambda found, true: found is not None,
    "none given or kept": lambda found, true: found is None or true <= 0.05,
    "kept where given": lambda found, true: true <= 0.05 if found else np.nan,
    "within its bound where given": lambda found, true: true <= found.bound if found else np.nan,
}
"""What is counted of a threshold and the true risk above it."""


def few_rows(n: int, shape: int, counted: str) -> Hit:
    """Confidences have a beta distribution (shape, 1) and are as true as they say."""

    def hit(random: np.random.Generator, run: int) -> float:
        sure = random.beta(shape, 1, n)
        found = calibration.likely_threshold(sure, (random.random(n) < sure).astype(float), 0.05)
        least = found.least if found else 0.0
        right = shape / (shape + 1) * (1 - least ** (shape + 1)) / (1 - least**shape)  # mean of those above
        return FEW_ROWS[counted](found, 1 - right)

    return hit


def calibration_error(n: int, believed: Callable[[np.ndarray], np.ndarray]) -> Hit:
    def drawn(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        level = random.normal(2, 1.2, n)
        chances, sure = (1 / (1 + np.exp(-each)) for each in (level, believed(level)))
        return sure, chances

    sure, chances = drawn(np.random.default_rng(1), 400_000)
    truth = float(np.abs(sure - chances).mean())

    def hit(random: np.random.Generator, run: int) -> bool:
        sure, chances = drawn(random, n)
        found = ece.ece(sure, (random.random(n) < chances).astype(float), seed=run).estimate
        return found.low <= truth <= found.high

    return hit


def conformal(n: int, alpha: float) -> Hit:
    def hit(random: np.random.Generator, run: int) -> bool:
        chances = random.dirichlet(np.full(6, 0.4), 2 * n)
        truth = (chances.cumsum(axis=1) > random.random((2 * n, 1))).argmax(axis=1)
        quantile = calibration.conformal(chances[:n], truth[:n], alpha)
        return calibration.sets(chances[n:], quantile)[np.arange(n), truth[n:]].mean()

    return hit


if __name__ == "__main__":
    main()
