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


def said(*outputs):
    return [Prediction(str(place), output) for place, output in enumerate(outputs)]


TEXTS = ("[1, 2]", '{"total": 12.5}')
REFERENCES = {  # targets, the same as answers, and answers of which each is wrong
    "texts": ([Message("assistant", text) for text in TEXTS], said(*TEXTS), said("who knows", "neither here")),
    "labels": (["one", "two"], said("one", "two"), said("two", "one")),
}


@pytest.mark.parametrize("name", [name for name in NAMES if registry.resolve("metrics", name).needs == ("output",)])
def test_the_reference_itself_scores_best_and_a_wrong_answer_worse(name):
    metric, best_of = registry.resolve("metrics", name), []
    sign = 1 if metric.higher_is_better else -1
    best = metric.limits[1] if metric.higher_is_better else metric.limits[0]
    for targets, right, wrong in REFERENCES.values():
        reached, missed = (metric.value(targets, answers) for answers in (right, wrong))
        half = metric.value(targets, [right[0], wrong[1]])
        assert sign * reached >= sign * half >= sign * missed
        if reached == pytest.approx(best):
            best_of.append(reached)
            assert sign * (reached - half) > 0 and sign * (half - missed) > 0
    assert best_of


@pytest.mark.parametrize("name", [name for name in NAMES if registry.resolve("metrics", name).needs != ("output",)])
def test_a_reference_that_costs_more_nats_is_worse(name):
    metric = registry.resolve("metrics", name)
    assert "nats" in metric.needs, "say here what makes another score worse"
    targets, cheap = rows("text")
    dear = [dataclasses.replace(row, scores={**row.scores, "nats": 2 * row.scores["nats"]}) for row in cheap]
    first, second = (metric.value(targets, predictions) for predictions in (cheap, dear))
    assert second > first if not metric.higher_is_better else second < first


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
