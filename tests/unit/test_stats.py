"""Intervals and tests against statsmodels and scipy, published examples, and their coverage."""

import math
from functools import partial

import numpy as np
import pytest
from bench import coverage
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from finesmith import registry
from finesmith.evidence import stats

LOSS = registry.resolve("metrics", "held_out_loss")
ACCURACY = registry.resolve("metrics", "accuracy")
CHRF = registry.resolve("metrics", "chrf")


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_statsmodels(confidence):
    for successes, n in [(0, 1), (1, 1), (0, 24), (24, 24), (7, 31), (873, 1000), (1, 3080)]:
        low, high = proportion_confint(successes, n, 1 - confidence, method="wilson")
        estimate = stats.wilson(successes, n, confidence)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
        assert estimate.low <= estimate.value <= estimate.high
        assert (estimate.value, estimate.n) == (successes / n, n)


def columns(both, a_only, b_only, neither):
    return (
        np.repeat([1.0, 1.0, 0.0, 0.0], [both, a_only, b_only, neither]),
        np.repeat([1.0, 0.0, 1.0, 0.0], [both, a_only, b_only, neither]),
    )


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, method 10
        ((1, 1, 7, 12), -0.5069, -0.0256),  # Bentur et al. 2009, square-and-add in Fagerland et al. 2014
    ],
)
def test_newcombe_gives_the_published_intervals(table, low, high):
    estimate = stats.newcombe(*columns(*table))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


def test_newcombe_is_never_certain_and_mirrors():
    for table in [(24, 0, 0, 0), (0, 0, 0, 24), (12, 0, 0, 12), (0, 24, 0, 0), (1, 0, 0, 0), (5, 0, 1, 0)]:
        a, b = columns(*table)
        forth, back = stats.newcombe(a, b), stats.newcombe(b, a)
        assert forth.high - forth.low > 0.01 and -1 <= forth.low <= forth.value <= forth.high <= 1
        assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


def test_newcombe_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits, truth = 0, 0.12  # A alone right 0.20, B alone 0.08
    for cells in random.multinomial(40, [0.6, 0.2, 0.08, 0.12], size=2000):
        estimate = stats.newcombe(*columns(*cells))
        hits += estimate.low <= truth <= estimate.high
    assert 0.935 <= hits / 2000 <= 0.985


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_equals_statsmodels(seed):
    a, b = (np.random.default_rng(seed).random((2, 60)) < [[0.8], [0.65]]).astype(float)
    table = [[int(((a == i) & (b == j)).sum()) for j in (1, 0)] for i in (1, 0)]
    assert stats.mcnemar(a, b) == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert stats.mcnemar(a, a) == 1.0


def losses(random, n, mean=2.0):
    tokens = random.integers(5, 50, n).astype(float)
    return np.stack([tokens * random.gamma(4, mean / 4, n), tokens], axis=-1)


def test_bootstrap_agrees_with_scipy():
    rows = losses(np.random.default_rng(1), 400)
    ours = stats.bootstrap(LOSS, rows, seed=0, draws=4000)
    theirs = scipy_bootstrap(
        (rows[:, 0], rows[:, 1]),
        lambda x, y, axis=-1: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(rows[:, 0].sum() / rows[:, 1].sum())
    assert abs(ours.low - theirs.low) < 0.06 * width and abs(ours.high - theirs.high) < 0.06 * width


def test_the_same_seed_gives_the_same_interval_in_pieces_or_not(monkeypatch):
    rows = losses(np.random.default_rng(1), stats.JOINED + 10)
    once = stats.bootstrap(LOSS, rows, seed=5, draws=300)
    assert once == stats.bootstrap(LOSS, rows, seed=5, draws=300)
    assert once != stats.bootstrap(LOSS, rows, seed=6, draws=300)
    monkeypatch.setattr(stats, "CELLS", 1000)
    assert once.low == pytest.approx(stats.bootstrap(LOSS, rows, seed=5, draws=300).low)


@pytest.mark.parametrize("n", [6, 40])
def test_bootstrap_covers_the_truth_about_as_often_as_it_says(n):
    random = np.random.default_rng(0)
    estimates = [stats.bootstrap(LOSS, losses(random, n), seed=i, draws=400) for i in range(400)]
    hits = sum(estimate.low <= 2.0 <= estimate.high for estimate in estimates)
    assert 0.91 <= hits / 400 <= 0.985


def test_paired_bootstrap_is_positive_when_ours_is_better_whatever_better_means():
    random = np.random.default_rng(0)
    theirs = losses(random, 100)
    ours = theirs * [0.9, 1.0]
    gain = stats.paired_bootstrap(LOSS, ours, theirs, seed=0)
    assert gain.value == pytest.approx(0.1 * theirs[:, 0].sum() / theirs[:, 1].sum())
    assert 0 < gain.low < gain.value < gain.high and gain.n == 100
    back = stats.paired_bootstrap(LOSS, theirs, ours, seed=0)
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low))


def test_pairing_gives_a_narrower_interval_than_two_single_ones():
    random = np.random.default_rng(0)
    theirs = losses(random, 100)
    gain = stats.paired_bootstrap(LOSS, theirs * [0.97, 1.0], theirs, seed=0)
    alone = stats.bootstrap(LOSS, theirs, seed=0)
    assert gain.high - gain.low < 0.2 * (alone.high - alone.low)


def test_paired_bootstrap_and_newcombe_agree_on_many_rows():
    random = np.random.default_rng(3)
    a, b = (random.random((2, 2000)) < [[0.8], [0.7]]).astype(float)
    ones = np.ones(2000)
    drawn = stats.paired_bootstrap(ACCURACY, np.stack([a, ones], 1), np.stack([b, ones], 1), seed=0)
    closed = stats.newcombe(a, b)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.004)


def test_identical_rows_do_not_make_an_interval_of_no_width():
    perfect = np.tile([10.0, 9, 8, 7, 6, 5] * 3, (24, 1))
    alone = stats.bootstrap(CHRF, perfect, seed=0, draws=50)
    assert alone.value == alone.high == pytest.approx(100) and 85 < alone.low < 95
    same = stats.paired_bootstrap(CHRF, perfect, perfect, seed=0, draws=50)
    assert same.value == 0 and -15 < same.low < 0 < same.high < 15


def test_one_row_of_a_metric_without_limits_tells_nothing_about_others():
    one, other = np.array([[4.0, 2.0]]), np.array([[5.0, 2.0]])
    gain = stats.paired_bootstrap(LOSS, one, other, seed=0, draws=20)
    assert (gain.value, gain.low, gain.high, gain.n) == (0.5, -math.inf, math.inf, 1)
    assert stats.bootstrap(LOSS, one, seed=0, draws=20).low == 0.0


def test_one_row_leaves_a_metric_with_limits_open_too():
    row = np.array([[10.0, 9, 8, 7, 6, 5] * 3])
    assert stats.bootstrap(CHRF, row, seed=0, draws=20).low == 0
    gain = stats.paired_bootstrap(CHRF, row, 0 * row, seed=0, draws=20)
    assert (gain.value, gain.low, gain.high) == (pytest.approx(100), -100, 100)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows_that_agree_are_no_certainty(n):
    perfect = np.tile([10.0, 9, 8, 7, 6, 5] * 3, (n, 1))
    gain = stats.paired_bootstrap(CHRF, perfect, perfect * ([1] * 12 + [0] * 6), seed=0, draws=50)
    assert gain.value == pytest.approx(100) and gain.low < 0, (
        "as often by chance as McNemar's test of so many rows says"
    )
    ones = np.ones(n)
    assert stats.newcombe(ones, 0 * ones).low < 0 < stats.mcnemar(ones, 0 * ones) - 0.05


@pytest.mark.parametrize("n", [6, 8, 10])
def test_of_few_rows_newcombe_and_mcnemar_say_the_same_or_more(n):
    for wins in range(n + 1):
        ours = (np.arange(n) < wins).astype(float)
        found = stats.newcombe(ours, 1 - ours)
        assert (found.low > 0 or found.high < 0) <= (stats.mcnemar(ours, 1 - ours) < 0.05)


@pytest.mark.parametrize(
    "case", [coverage.bits, partial(coverage.bits, skewed=True), partial(coverage.macro_f1, size=20)]
)
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_two_systems_as_good_are_seldom_clearly_apart_on_few_rows(case, n):
    hit, random = case(n), np.random.default_rng(0)
    assert np.mean([hit(random, run) for run in range(200)]) >= 0.92  # the large simulation is in evidence.md


def test_many_rows_have_the_interval_that_they_had():
    n = stats.JOINED + 1
    rows = losses(np.random.default_rng(1), n)
    found = stats.bootstrap(LOSS, rows, seed=5)
    drawn = np.concatenate([LOSS.score(weights @ rows) for weights in stats.resamples(len(rows), stats.DRAWS, 5)])
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [tail, 1 - tail]), abs=0)


def test_any_function_of_sums_over_rows_has_an_interval():
    random = np.random.default_rng(0)
    pairs = np.stack([random.uniform(1, 2, 300), random.uniform(1, 2, 300)], axis=1)
    found = stats.over_rows(lambda sums: sums[..., 1] / sums[..., 0] - 1, pairs, seed=0)
    assert found.value == pytest.approx(pairs[:, 1].sum() / pairs[:, 0].sum() - 1)
    assert found.low < found.value < found.high and found.n == 300
    spread = np.std(pairs[:, 1] - pairs[:, 0] * (1 + found.value)) / 300**0.5 / pairs[:, 0].mean()
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.15), "the delta method"
