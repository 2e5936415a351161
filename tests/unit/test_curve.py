"""Learning curves of known laws, published points, and what must never be said."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith import registry
from finesmith.evidence import claims, curve, enough
from finesmith.measurements import learning_curve
from finesmith.types import Estimate, Evidence, Example, Origin

SIZES = np.array([500, 1000, 2000, 4000])


@pytest.mark.parametrize(
    "law",
    [
        lambda n: 3 * n**-0.35,
        lambda n: 1 / (1 + np.exp(-(2.5 - 0.5 * np.log(n)))),
        lambda n: 4 * (n + 300.0) ** -0.4,
        lambda n: 5 * n**-0.6 + 0.05,
    ],
)
def test_a_curve_that_follows_a_known_law_is_continued(law):
    fitted = curve.fit(SIZES, law(SIZES))
    for times in (1, 2, 4):
        found = fitted.at(times)
        assert found.value == pytest.approx(law(4000.0 * times), abs=0.02)
        assert found.low <= law(4000.0 * times) <= found.high
    assert fitted.miss is not None and fitted.miss < 0.03


def test_the_forms_that_need_four_points_wait_for_them():
    assert list(curve.fit([100, 200, 400], [0.4, 0.3, 0.25]).forms) == ["a n^-b", "logit e = u - v log n"]
    assert curve.fit([100, 200, 400], [0.4, 0.3, 0.25]).miss is None
    straight, flattening = curve.fit(SIZES, 3 * SIZES**-0.35), curve.fit(SIZES, 5 * SIZES**-0.6 + 0.05)
    assert "a n^-b + c" not in straight.forms and "a n^-b + c" in flattening.forms
    losses = curve.fit(SIZES, 9 * SIZES**-0.1, bounded=False)
    assert "logit e = u - v log n" not in losses.forms and losses.at(4).value == pytest.approx(
        9 * 16000**-0.1, rel=0.02
    )


def test_nothing_is_said_beyond_four_times():
    fitted = curve.fit(SIZES, 3 * SIZES**-0.35)
    with pytest.raises(AssertionError, match="never beyond four times"):
        fitted.at(4.1)
    assert fitted.to_reach(0.001)[1] is None


def test_the_range_is_as_wide_as_experience_says():
    exact, rough = curve.fit(SIZES, 3 * SIZES**-0.35), curve.fit(SIZES, [0.4, 0.22, 0.25, 0.12])
    for times, half in ((2, 0.07), (4, 0.085)):
        width = exact.at(times).high - exact.at(times).low
        assert 0.999 * half <= width < 2 * half + 0.02  # the last point was foretold: down to half of the floor
        assert rough.at(times).high - rough.at(times).low >= 2 * half or rough.at(times).low == 0
    many = curve.fit(SIZES, 3 * SIZES**-0.35, few_shot=False)
    assert many.at(2).high - many.at(2).low < 0.04
    three = curve.fit(SIZES[1:], 3 * SIZES[1:] ** -0.35)
    assert three.at(2).high - three.at(2).low >= 0.14  # no check: the whole floor


def test_noise_widens_the_range():
    still, noisy = (
        curve.fit(SIZES, 3 * SIZES**-0.35, few_shot=False),
        curve.fit(SIZES, 3 * SIZES**-0.35, few_shot=False, noise=0.02),
    )
    assert noisy.at(2).high - noisy.at(2).low > still.at(2).high - still.at(2).low + 0.01


def test_the_labels_to_a_target_are_a_range():
    fitted = curve.fit(SIZES, 3 * SIZES**-0.35, few_shot=False)
    truth = (0.13 / 3) ** (-1 / 0.35)  # about 7,800
    low, high = fitted.to_reach(0.13)
    assert low < truth < high <= 16000 and low < fitted.likely(0.13) < high
    assert fitted.likely(0.13) == pytest.approx(truth, rel=0.05) and fitted.likely(0.001) is None
    assert fitted.to_reach(0.3) == (4000.0, 4000.0)


@pytest.mark.parametrize("errors", [[0.3, 0.3, 0.3, 0.3], [0.1, 0.12, 0.11, 0.13], [0.0, 0.0, 0.0, 0.0], [1, 1, 1, 1]])
def test_curves_that_do_not_fall_are_flat(errors):
    found = curve.fit(SIZES, errors).at(2)
    assert found.value == pytest.approx(np.mean(errors), abs=0.03)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_same_seed_gives_the_same_range():
    first, second = (curve.fit(SIZES, [0.5, 0.4, 0.33, 0.28], seed=3).at(4) for _ in range(2))
    assert first == second


PUBLISHED = {  # accuracy of a 7B model at n labels, from the long-context in-context learning paper's fine-tuning runs
    "banking77": ([64, 128, 512, 1024, 2048, 4096, 8192], [27.3, 42.0, 54.1, 69.1, 77.9, 87.0, 91.6]),
    "clinc150": ([512, 1024, 4096, 8192, 16384], [49.4, 62.5, 80.0, 85.0, 87.0]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_curves_are_continued_within_their_range(name):
    sizes, scores = PUBLISHED[name]
    errors = 1 - np.array(scores) / 100
    for end in range(3, len(sizes)):
        begin = max(0, end - 4)
        fitted = curve.fit(sizes[begin:end], errors[begin:end])
        times = sizes[end] / sizes[end - 1]
        found = fitted.at(times)
        assert found.low - 0.02 <= errors[end] <= found.high + 0.02


def flat_study(minimum_gain):
    accuracy = registry.resolve("metrics", "accuracy")
    evidence = Evidence("t", "accuracy", {"tuned": {"accuracy": Estimate(0.9, 0.89, 0.91, 3000)}}, {}, "", {}, {})
    return SimpleNamespace(
        primary=accuracy, task=None, minimum_gain=minimum_gain, evidence=evidence, found={}, options={},
        recipe=SimpleNamespace(seed=0),
    )  # fmt: skip


def test_a_flat_curve_says_which_gain_it_rules_out():
    points = [{"rows": rows, "score": 0.9} for rows in (1250, 2500, 5000, 10000)]

    def judged(minimum_gain):
        opened = flat_study(minimum_gain)
        numbers = {"points": points, **learning_curve.foretell(opened, points)}
        (claim,) = [
            each
            for each in claims.judge(opened.evidence, opened.primary, {"learning_curve": numbers}, {})
            if each.name == claims.LABELS
        ]
        return numbers, claim

    numbers, claim = judged(0.0)
    assert numbers["useful_gain"] == 0.01 < numbers["least_half_width"] == pytest.approx(0.035)
    assert not numbers["flat"] and claim.outcome == "inconclusive"
    assert "No range is narrower than ±0.035 here, however flat the curve" in claim.sentence
    asked = float(re.search(r"with --minimum-gain (\S+) there would be labels enough", claim.sentence)[1])
    assert judged(asked)[1].outcome == "supported" and judged(asked - 0.001)[1].outcome == "inconclusive"
    wide = {**numbers, "useful_gain": 0.05, "gain_2x": {"value": 0.01, "low": -0.04, "high": 0.06}}
    said = enough.judge(claims.LABELS, registry.resolve("metrics", "accuracy"), wide).sentence
    assert said.endswith("With --minimum-gain 0.061 there would be labels enough.") and "narrower" not in said


def test_the_check_that_leaves_the_last_point_out_is_printed():
    points = [{"rows": rows, "score": score} for rows, score in ((500, 0.5), (1000, 0.6), (2000, 0.7), (4000, 0.72))]
    opened = flat_study(0.0)
    numbers = {"points": points, **learning_curve.foretell(opened, points)}
    said = f"(the last point, left out, was missed by {numbers['left_out_miss']:.3f})"
    found = claims.judge(opened.evidence, opened.primary, {"learning_curve": numbers}, {})
    assert numbers["left_out_miss"] > 0.01 and any(said in claim.sentence for claim in found)
    assert said in learning_curve._says(opened, numbers)
    three = {"points": points[1:], **learning_curve.foretell(opened, points[1:])}
    assert "left out" not in learning_curve._says(opened, three)


def study(labels, rows=250):
    train = [Example(str(at), f"t{at}", f"l{at % labels}", Origin("f", at)) for at in range(rows)]
    parts = SimpleNamespace(train=train, test=[])
    metric = registry.resolve("metrics", "accuracy")
    recipe = SimpleNamespace(train=SimpleNamespace(max_steps=10))
    evidence = SimpleNamespace(costs={"steps": 10})
    more = {"preparing_seconds": 0.0, "step_seconds": 1.0, "planned_steps": 10, "answer_seconds": 0.0, "task": None}
    return SimpleNamespace(splits=parts, primary=metric, recipe=recipe, evidence=evidence, **more)


def test_no_part_is_trained_twice_however_many_labels():
    measurement = learning_curve.LearningCurve("learning curve")
    for labels, parts in ((2, [31, 62, 125]), (50, [50, 62, 125]), (100, [100, 125]), (150, [150]), (250, [])):
        opened = study(labels)
        assert learning_curve._parts(opened.splits.train) == parts
        why = measurement.skips(opened)
        assert bool(why) == (len(parts) < 2)
        assert not why or why.startswith("every part needs a row of each label: of 250 training rows")
        if not why:
            assert measurement.cost(opened) == pytest.approx(10 * len(parts) + 5e-3 * 250)
