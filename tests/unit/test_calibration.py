"""Calibration, abstention and conformal sets against scikit-learn, scipy and draws whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, log_loss

from finesmith.cli import predict
from finesmith.evidence import calibration, ece, told
from finesmith.measurements import calibration as measured
from finesmith.types import Estimate


def drawn(n, k=5, sharp=2.0, seed=0):
    """Probabilities and truths drawn from them: perfectly calibrated."""
    random = np.random.default_rng(seed)
    logits = sharp * random.normal(size=(n, k))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return chances, (chances.cumsum(1) > random.random((n, 1))).argmax(1)


def test_the_band_of_a_group_is_wilsons_and_wider_where_rows_belong_together():
    bins = [(0.5, 0.4, 10), (0.6, 0.5, 10), (0.9, 0.9, 20)]
    alone, together = measured._grouped(bins), measured._grouped(bins, 0.25)
    for found, rows in ((alone[2], 20), (together[2], 5)):
        band = measured.stats.wilson(0.9 * rows, rows)
        assert found == pytest.approx([0.9, 0.9, 20, band.low, band.high])


@pytest.mark.parametrize("seed", range(5))
def test_proper_scores_equal_scikit_learn(seed):
    chances, truth = drawn(200, seed=seed)
    assert calibration.nll(chances, truth) == pytest.approx(log_loss(truth, chances, labels=range(5)))
    two, which = drawn(300, k=2, seed=seed)
    assert calibration.brier(two, which) == pytest.approx(2 * brier_score_loss(which, two[:, 1]))


@pytest.mark.parametrize("true", [0.2, 0.57, 1.0, 3.0, 15.0])
def test_the_temperature_that_was_applied_is_found(true):
    chances, truth = drawn(20000, sharp=2.0)
    spoilt = calibration.tempered(chances, 1 / true)
    found = calibration.temperature(spoilt, truth)
    assert found == pytest.approx(true, rel=0.05)
    logs = np.log(spoilt)
    best = minimize(lambda t: calibration.nll(calibration.tempered(np.exp(logs), math.exp(t[0])), truth), [0.0])
    assert found == pytest.approx(math.exp(best.x[0]), rel=2e-3)
    assert calibration.nll(calibration.tempered(spoilt, found), truth) <= calibration.nll(spoilt, truth)


def test_few_rows_without_an_error_do_not_make_a_model_certain():
    """As likely as can be is a temperature of 0.05, which takes 0.9 to the twentieth power."""
    chances, truth = np.tile([0.9, 0.1], (50, 1)), np.zeros(50, int)
    found = calibration.temperature(chances, truth)
    assert 0.4 < found < 0.6 and calibration.tempered(chances, found).max() < 0.99
    assert calibration.temperature(chances[:20], truth[:20]) > found, "fewer rows tell less"


@pytest.mark.parametrize("n", [20, 40, 100])
@pytest.mark.parametrize("heat", [0.8, 1.0, 1.25], ids=["not sure enough", "as sure as right", "too sure"])
def test_the_temperature_of_few_rows_hardly_spoils_a_good_model(n, heat):
    sharp = 6.0  # right in 95 of 100 rows, so that a part of the draws has no error
    others, truth = drawn(4000, sharp=sharp, seed=99)
    spoilt, least = calibration.tempered(others, 1 / heat), calibration.nll(others, truth)
    lost = []
    for seed in range(20):
        chances, told = drawn(n, sharp=sharp, seed=seed)
        found = calibration.temperature(calibration.tempered(chances, 1 / heat), told)
        lost.append(calibration.nll(calibration.tempered(spoilt, found), truth) - least)
    assert np.mean(lost) < 0.03 and max(lost) < 0.12


def by_hand(confidence, right, bins):
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return sum(len(part) * abs(right[part].mean() - confidence[part].mean()) for part in parts) / len(right)


def test_ece_counts_bins_of_equal_mass():
    random = np.random.default_rng(0)
    confidence, right = random.random(300), (random.random(300) < 0.5).astype(float)
    found = ece.ece(confidence, right)
    assert found.raw == pytest.approx(by_hand(confidence, right, 15))
    assert [rows for *_, rows in found.bins] == [20] * 15 and not found.calibrated
    assert found.raw == pytest.approx(sum(n * abs(acc - conf) for conf, acc, n in found.bins) / 300)


def test_what_chance_shows_is_taken_off():
    raw, corrected, called = [], [], 0
    for seed in range(60):
        chances, truth = drawn(200, seed=seed)
        right = (chances.argmax(1) == truth).astype(float)
        found = ece.ece(chances.max(1), right, seed=seed)
        raw.append(found.raw)
        corrected.append(found.estimate.value)
        called += found.calibrated
        assert found.estimate.low <= found.estimate.value <= found.estimate.high
    assert np.mean(raw) > 0.05 and np.mean(corrected) < 0.3 * np.mean(
        raw
    )  # 200 rows in 15 bins show 7 points where there is nothing
    assert called >= 52


def test_the_interval_of_the_corrected_error_holds_the_truth():
    hits = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        confidence = random.uniform(0.5, 1, 2000)
        right = (random.random(2000) < confidence - 0.1).astype(float)  # ten points too sure everywhere
        found = ece.ece(confidence, right, seed=seed).estimate
        hits += found.low <= 0.1 <= found.high
    assert hits >= 90


def in_fours(draw):
    """Fifty rows, each four times, as equal inputs in one group are: (confidence, right, clusters)."""
    chances, truth = drawn(50, seed=draw)
    right = (chances.argmax(1) == truth).astype(float)
    return chances.max(1).repeat(4), right.repeat(4), np.arange(50).repeat(4)


def test_rows_that_belong_together_are_drawn_together():
    rows = [in_fours(draw) for draw in range(60)]
    apart = [ece.ece(sure, right) for sure, right, _ in rows]
    together = [ece.ece(sure, right, clusters=codes) for sure, right, codes in rows]
    assert sum(found.calibrated for found in apart) <= 20, "as 200 rows of their own these look uncalibrated"
    assert sum(found.calibrated for found in together) >= 52
    sure, right, _ = rows[0]
    alone = ece.ece(sure, right, clusters=range(len(right)))
    assert alone.estimate.value == pytest.approx(ece.ece(sure, right).estimate.value)


def test_rows_told_four_times_make_the_interval_no_more_certain():
    """It holds the truth as often as that of the rows told once."""
    hits = {"once": 0, "in groups": 0, "as if alone": 0}
    for draw in range(100):
        random = np.random.default_rng(draw)
        sure = random.uniform(0.5, 1, 500)
        right = (random.random(500) < sure - 0.1).astype(float)
        rows, codes = (sure.repeat(4), right.repeat(4)), np.arange(500).repeat(4)
        for name, found in {
            "once": ece.ece(sure, right, seed=draw),
            "in groups": ece.ece(*rows, seed=draw, clusters=codes),
            "as if alone": ece.ece(*rows, seed=draw),
        }.items():
            hits[name] += found.estimate.low <= 0.1 <= found.estimate.high
    assert (
        abs(hits["in groups"] - hits["once"]) <= 3 and hits["once"] >= 92 and hits["as if alone"] <= hits["once"] - 12
    )


@pytest.mark.parametrize("heat", [0.7, 1.15, 1.5], ids=["not sure enough", "slightly too sure", "too sure"])
@pytest.mark.parametrize("n", [100, 500])
def test_the_interval_holds_an_error_that_depends_on_the_confidence(heat, n):
    level = np.random.default_rng(99).normal(2, 1.2, 100_000)
    truth, hits = np.abs(1 / (1 + np.exp(-heat * level)) - 1 / (1 + np.exp(-level))).mean(), 0
    for draw in range(60):
        random = np.random.default_rng(draw)
        level = random.normal(2, 1.2, n)
        right = (random.random(n) < 1 / (1 + np.exp(-level))).astype(float)
        found = ece.ece(1 / (1 + np.exp(-heat * level)), right, seed=draw).estimate
        hits += found.low <= truth <= found.high
    assert hits >= 54


def test_sure_and_right_every_time_still_leaves_what_so_few_rows_cannot_tell():
    found = ece.ece(np.ones(100), np.ones(100))
    assert found.calibrated and found.estimate.value == found.estimate.low == 0
    assert found.estimate.high == pytest.approx(calibration.clopper_pearson(0, 100, 0.025))


def test_classwise_error_is_small_where_the_chances_are_true():
    chances, truth = drawn(20000)
    assert ece.classwise_ece(chances, truth) < 0.01
    assert ece.classwise_ece(calibration.tempered(chances, 0.3), truth) > 0.05


def test_risk_and_coverage():
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 1.0, 0.0, 1.0])
    coverage, risk = calibration.risk_coverage(confidence, right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert calibration.aurc(confidence, right) == pytest.approx((1 / 3 + 1 / 4) / 4)
    # rows that cannot be told apart must not depend on their order
    same = np.full(4, 0.5)
    assert calibration.aurc(same, right) == calibration.aurc(same, right[::-1]) == pytest.approx(0.25)


@pytest.mark.parametrize("events, n", [(0, 20), (3, 50), (49, 50), (50, 50), (7, 1000)])
def test_clopper_pearson_equals_scipy(events, n):
    interval = binomtest(events, n).proportion_ci(confidence_level=0.9, method="exact")
    assert calibration.clopper_pearson(events, n, 0.05) == pytest.approx(interval.high)


def test_the_threshold_keeps_the_risk():
    broken = answered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        confidence = random.beta(4, 1, 400)
        found = calibration.threshold(confidence, (random.random(400) < confidence).astype(float), 0.15)
        if found is None:
            continue
        answered += 1
        others = random.beta(4, 1, 5000)
        broken += (1 - others[others >= found.least]).mean() > 0.15
        assert found.risk <= found.bound <= 0.15
        assert found.coverage == pytest.approx((confidence >= found.least).mean())
    assert answered > 150 and broken <= 10


def test_a_threshold_may_answer_everything_or_nothing():
    sure = calibration.threshold(np.linspace(0.5, 1, 500), np.ones(500), 0.05)
    assert sure is not None and sure.coverage == 1
    assert calibration.threshold(np.linspace(0.5, 1, 20), np.ones(20), 0.05) is None  # 20 rows cannot show it
    assert calibration.threshold(np.linspace(0.5, 1, 500), np.zeros(500), 0.05) is None


def risk_above(least, shape):
    """Mean of 1 - c over c >= least, where c has the beta distribution (shape, 1)."""
    return 1 - shape / (shape + 1) * (1 - least ** (shape + 1)) / (1 - least**shape)


@pytest.mark.parametrize("n", [20, 60, 90])
@pytest.mark.parametrize("shape", [4, 8])
def test_the_threshold_of_few_rows_is_as_likely_as_it_says(n, shape):
    """Taking the luckiest of all looks breaks the risk in 38 to 49 of these 120 draws (60 and 90 rows)."""
    broken = 0
    for seed in range(120):
        random = np.random.default_rng(seed)
        confidence = random.beta(shape, 1, n)
        found = calibration.likely_threshold(confidence, (random.random(n) < confidence).astype(float), 0.05)
        broken += found is not None and risk_above(found.least, shape) > 0.05
    assert broken / 120 <= 1 - calibration.LIKELY and (n > 20 or not broken)


def test_so_few_rows_that_only_luck_would_do_give_no_threshold():
    for n, risk in ((40, 0.05), (52, 0.05), (10, 0.2)):
        assert calibration.likely_threshold(np.linspace(0.4, 1, n), np.ones(n), risk) is None
    for n, risk in ((53, 0.05), (13, 0.2)):
        assert calibration.likely_threshold(np.linspace(0.4, 1, n), np.ones(n), risk).coverage == 1


def test_few_rows_give_a_threshold_that_is_likely_but_not_shown():
    confidence = np.linspace(0.4, 1, 60)
    right = (confidence > 0.6).astype(float)
    assert calibration.threshold(confidence, right, 0.05) is None
    found = calibration.likely_threshold(confidence, right, 0.05)
    assert found is not None and not found.shown and found.bound > 0.05
    assert found.least == pytest.approx(confidence[confidence > 0.6][0] - 0.6 / 59, abs=0.011)
    assert calibration.likely_threshold(confidence, np.zeros(60), 0.05) is None


def test_a_risk_that_was_not_shown_is_not_promised():
    confidence = np.linspace(0.4, 1, 60)
    held = told.Told(np.stack([confidence, 1 - confidence], axis=1), (confidence <= 0.6).astype(int))
    few = measured._abstention(held, 1.0, 0.05)
    assert few is not None and not few.shown and few.seen == 0 and 0.05 < few.bound < 0.08
    said = predict._left_out(few, [True, False, False])
    assert "at most 5 % are wrong" not in said and f"up to {100 * few.bound:.3g} % may be" in said
    assert "0 % were wrong on the 60 validation rows that set this, too few to show at most 5 %" in said
    kept, errors = measured._kept(few, held, 0.05), Estimate(0.01, 0, 0.02, 60)
    numbers = {"before": {"ece_corrected": errors}, "after": {"ece_corrected": errors}, "temperature": 1.0}
    assert f"it may be {100 * few.bound:.3g} %" in measured._says({**numbers, "abstain": kept})
    shown = predict._left_out(replace(few, shown=True), [True])
    assert "of the others at most 5 % are wrong (shown on 60 validation rows)" in shown
    older = predict._left_out(replace(few, seen=None, bound=None), [True])
    assert "was not shown: 60 validation rows are too few" in older


def test_sets_hold_the_truth_as_often_as_they_say():
    held, sizes = [], []
    for seed in range(100):
        chances, truth = drawn(300, seed=seed)
        quantile = calibration.conformal(chances[:150], truth[:150], 0.1)
        members = calibration.sets(chances[150:], quantile)
        held.append(members[np.arange(150), truth[150:]].mean())
        sizes.append(members.sum(1).mean())
    assert 0.89 <= np.mean(held) <= 0.92
    assert np.mean(sizes) < 4


def test_the_conformal_quantile_is_the_published_rank():
    chances = np.stack([np.linspace(0.01, 0.99, 99), 1 - np.linspace(0.01, 0.99, 99)], axis=1)
    truth = np.zeros(99, int)
    # ceil(100 * 0.9) = 90th smallest of 0.01, 0.02, ... 0.99
    assert calibration.conformal(chances, truth, 0.1) == pytest.approx(0.90)
    assert calibration.conformal(chances[:5], truth[:5], 0.1) == 1.0
    assert calibration.sets(chances, 1.0).all()


def several(n=4000, labels=4, heat=1.0, seed=0):
    """Probabilities that are true at temperature `heat`, and which labels hold."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 2, (n, labels))
    held = random.random((n, labels)) < 1 / (1 + np.exp(-logits))
    return told.Told(1 / (1 + np.exp(-logits * heat)), held)


def test_one_temperature_makes_several_labels_true():
    sharp = several(heat=2.0)
    assert sharp.temperature() == pytest.approx(2.0, rel=0.05)
    even = sharp.tempered(2.0)
    np.testing.assert_allclose(even.chances, several().chances, atol=1e-9)
    assert even.nll() < sharp.nll() and even.brier() < sharp.brier()
    assert ece.classwise_ece(even.chances, even.truth) < ece.classwise_ece(sharp.chances, sharp.truth)


def test_an_answer_of_several_labels_is_right_and_sure_as_a_whole():
    chances, held = np.array([[0.9, 0.2], [0.6, 0.7]]), np.array([[True, False], [True, False]])
    found = told.Told(chances, held)
    assert found.right.tolist() == [1, 0] and found.confidence == pytest.approx([0.72, 0.42])
    assert several().right.mean() == pytest.approx(several().confidence.mean(), abs=0.02), "they are independent here"
    single = told.Told(np.array([[0.7, 0.2, 0.1]]), np.array([0]))
    assert single.confidence == [0.7] and single.right == [1] and single.held.tolist() == [[True, False, False]]


def test_sets_where_no_test_row_has_a_label():
    chances, several = drawn(30, k=2)[0], np.random.default_rng(1).random((30, 2)) > 0.5
    held, test = told.Told(chances, several), told.Told(chances[:3], np.zeros((3, 2), bool))
    found = measured._sets(held, test, 0.1)
    assert found["worst_class"] is None and found["holds"] == 1.0


def test_sets_of_several_labels_hold_the_wanted_share():
    missed = []
    for seed in range(30):
        quantile = several(200, seed=seed).quantile(0.1)
        fresh = several(2000, seed=1000 + seed)
        gone = fresh.truth & ~calibration.sets(fresh.chances, quantile)
        missed.append((gone.sum(axis=1) / np.maximum(1, fresh.truth.sum(axis=1))).mean())
    assert 0.085 < np.mean(missed) <= 0.103
    assert several(5).quantile(0.1) == 1.0, "too few rows: all labels"
