"""What any metric promises. A new file in `metrics/` is tested here without an edit."""

import dataclasses
import math

import numpy as np
import pytest

from finesmith import registry
from finesmith.metrics.base import Metric
from finesmith.types import Message, Prediction

NAMES = registry.available("metrics")


def rows(shape, size=40, seed=0):
    """Targets and predictions of one of the three shapes of task, with reference scores."""
    random = np.random.default_rng(seed)
    words = ["alpha", "beta", '{"a": 1}', "delta echo", ""]
    pick = {
        "label": lambda: words[random.integers(4)],
        "labels": lambda: tuple(sorted(w for w in words[:4] if random.random() < 0.4)),
        "text": lambda: words[random.integers(5)],
    }[shape]
    targets = [Message("assistant", pick()) if shape == "text" else pick() for _ in range(size)]
    scores = [
        {"nats": random.gamma(2, 5), "tokens": int(random.integers(1, 9)), "bytes": int(random.integers(4, 40))}
        for _ in range(size)
    ]
    return targets, [Prediction(str(i), pick(), score) for i, score in enumerate(scores)]


@pytest.fixture(params=["label", "labels", "text"])
def sample(request):
    return rows(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself(name):
    metric = registry.resolve("metrics", name)
    assert isinstance(metric, Metric) and metric.__dataclass_params__.frozen
    assert metric.title and metric.kind in ("share", "ratio", "other") and metric.digits >= 0 and metric.needs
    assert metric.limits[0] < metric.limits[1]
    assert metric.kind != "share" or (metric.unit == "" and metric.limits == (0.0, 1.0))
    assert registry.summary("metrics", name).endswith(".") or ":" in registry.summary("metrics", name)


@pytest.mark.parametrize("name", NAMES)
def test_value_is_the_score_of_summed_rows_within_limits(name, sample):
    metric = registry.resolve("metrics", name)
    statistics = metric.statistics(*sample)
    assert statistics.shape[0] == 40
    value = metric.value(*sample)
    assert isinstance(value, float)
    assert metric.limits[0] <= value <= metric.limits[1]
    assert value == pytest.approx(float(metric.score(np.asarray(statistics.sum(axis=0)))))


@pytest.mark.parametrize("name", NAMES)
def test_a_resample_is_the_metric_of_the_rows_drawn(name, sample):
    metric = registry.resolve("metrics", name)
    targets, predictions = sample
    drawn = np.random.default_rng(1).integers(0, 40, (3, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in drawn]).astype(float)
    expected = [metric.value([targets[i] for i in draw], [predictions[i] for i in draw]) for draw in drawn]
    assert metric.score(weights @ metric.statistics(*sample)) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name, sample):
    metric = registry.resolve("metrics", name)
    assert metric.value(*(part[::-1] for part in sample)) == pytest.approx(metric.value(*sample))


@pytest.mark.parametrize("name", NAMES)
def test_items_give_the_value_as_a_ratio_of_sums(name, sample):
    metric = registry.resolve("metrics", name)
    items = metric.items(*sample)
    assert (items is None) == (metric.kind == "other")
    if items is not None:
        above, below = items
        assert above.shape == below.shape == (40,)
        assert above.sum() / below.sum() == pytest.approx(metric.value(*sample))
        assert metric.kind != "share" or (set(above) <= {0.0, 1.0} and set(below) == {1.0})


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_itself_scores_best(name):
    metric = registry.resolve("metrics", name)
    if metric.needs != ("output",):
        pytest.skip("scores, not answers, are judged")
    targets = [Message("assistant", "[1, 2]"), Message("assistant", '{"total": 12.5}')]
    labels = ["one", "two"]
    best = metric.limits[1] if metric.higher_is_better else metric.limits[0]
    reached = [
        metric.value(targets, [Prediction("0", "[1, 2]"), Prediction("1", '{"total": 12.5}')]),
        metric.value(labels, [Prediction("0", "one"), Prediction("1", "two")]),
    ]
    assert best in [pytest.approx(value) for value in reached]


@pytest.mark.parametrize("name", NAMES)
def test_says_which_predictions_it_can_measure(name):
    metric = registry.resolve("metrics", name)
    full = Prediction("0", "x", {"nats": 1.0, "tokens": 1, "bytes": 1})
    assert metric.measurable(full)
    assert not metric.measurable(Prediction("0", None))
    for need in metric.needs:
        if need == "output":
            assert not metric.measurable(dataclasses.replace(full, output=None))
        else:
            assert not metric.measurable(
                dataclasses.replace(full, scores={**{k: 1.0 for k in metric.needs if k != need}})
            )


@pytest.mark.parametrize("name", NAMES)
def test_digits_suffice_to_see_a_change(name):
    low, high = registry.resolve("metrics", name).limits
    span = 10.0 if math.isinf(high) else high - low
    assert 10.0 ** -registry.resolve("metrics", name).digits <= span / 100
