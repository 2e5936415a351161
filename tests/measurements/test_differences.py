"""Which system a reported difference is for: unequal arms, whose order is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith import registry, run
from finesmith.evidence import claims
from finesmith.measurements import _kept, calibration, learning_curve, lora_or_full, scratch, seeds
from finesmith.measurements.base import Study
from finesmith.runfolder import RunFolder
from finesmith.types import Estimate, Evidence, Example, Origin, Prediction, Splits
from finesmith.watch import Watcher

ROWS = 200


def study(groups=None, **right):
    """A run whose systems answer the first so many rows right; `groups` names the group of each row."""
    rows = [
        Example(f"row {at}", f"text {at}", "yes", Origin("rows.csv", at), groups[at] if groups else None)
        for at in range(ROWS)
    ]
    metrics = {"accuracy": registry.resolve("metrics", "accuracy")}
    return Study(
        folder=None,
        recipe=SimpleNamespace(seed=0),
        splits=Splits((), (), rows, ""),
        task=SimpleNamespace(primary="accuracy"),
        metrics=metrics,
        evidence=Evidence("classification", "accuracy", {}, {}, "", {}, {}),
        predictions={name: answers(count) for name, count in right.items()},
        train_seconds=1.0,
        answer_seconds=0.0,
    )


def answers(right):
    return [Prediction(f"row {at}", "yes" if at < right else "no") for at in range(ROWS)]


def arms(**right):
    names = ("trainable_parameters", "total_parameters", "kept_bytes", "peak_memory_bytes", "seconds", "steps")
    costs = dict.fromkeys(names, 1.0)
    return lambda study, watcher, method: lora_or_full._Arm(1e-3, {1e-3: 0.5}, answers(right[method]), costs)


def test_a_gain_is_of_the_first_over_the_second():
    gain = study(tuned=150).gain
    assert gain(answers(100)).value == pytest.approx(0.25)
    assert gain(answers(120), over=answers(100)).value == pytest.approx(0.1)


@pytest.mark.parametrize(("lora", "full", "outcome"), [(100, 160, "not supported"), (160, 100, "inconclusive")])
def test_full_minus_adapters_has_the_sign_of_its_interval(monkeypatch, lora, full, outcome):
    monkeypatch.setattr(lora_or_full, "_sweep", arms(lora=lora, full=full))
    found = lora_or_full.PLUGIN(study(tuned=150), Watcher())
    gap, numbers = found.numbers["difference"], found.numbers
    assert gap.value == pytest.approx((full - lora) / ROWS)
    assert gap.low <= numbers["low90"] <= gap.value <= numbers["high90"] <= gap.high
    claim = claims._lora(registry.resolve("metrics", "accuracy"), numbers)
    assert claim.outcome == outcome and ("Adapters are better here" in claim.sentence) == (lora > full)


def test_the_control_of_training_from_scratch_is_what_scratch_gains_over_it():
    found = scratch._control(study(tuned=150, tfidf=140), answers(100))
    assert found["control"] == "tfidf" and found["over_control"].value == pytest.approx(-0.2)


def test_scratch_takes_in_a_learning_curve_that_came_later(tmp_path):
    opened = study(tuned=150)
    opened.folder = RunFolder.create(tmp_path / "run")
    rows = run.prediction_rows(answers(120), opened.splits.test)
    opened.folder.write_lines("predictions/scratch.jsonl", rows)
    opened.splits = replace(opened.splits, train=range(800))
    values = {"says": "accuracy 0.600", "numbers": {"gap": 0.15, "label_multiplier_at_most": 1.0}, "plots": []}
    opened.found["learning_curve"] = {
        "points": [{"rows": 100, "score": 0.5}, {"rows": 200, "score": 0.6}, {"rows": 800, "score": 0.75}]
    }
    told = scratch.PLUGIN.retold(opened, values)
    assert told.says == values["says"] and told.numbers == {"gap": 0.15, "label_multiplier": pytest.approx(4.0)}
    opened.found.clear()
    assert scratch.PLUGIN.retold(opened, values).numbers == {"gap": 0.15}


def test_gains_draw_whole_groups():
    alone, grouped = study(tuned=150), study(groups=[f"customer {at // 10}" for at in range(ROWS)], tuned=150)
    assert alone.clusters == {} and len(set(grouped.clusters.values())) == ROWS // 10
    one, other = (each.gain(answers(100)) for each in (alone, grouped))
    assert one.value == other.value and other.groups == ROWS // 10
    assert other.high - other.low > 2 * (one.high - one.low)
    many = [answers(150), answers(140), answers(160)]
    over = [seeds._two_level(each, many, answers(100)).estimate for each in (alone, grouped)]
    assert [each.groups for each in over] == [None, ROWS // 10] and {each.n for each in over} == {ROWS}
    assert over[1].high - over[1].low > 1.5 * (over[0].high - over[0].low)


def test_a_curve_is_told_anew_for_another_target_without_a_training():
    opened = study(tuned=150)
    opened.evidence = Evidence(
        "classification", "accuracy", {"tuned": {"accuracy": Estimate(0.75, 0.7, 0.8, ROWS)}}, {}, "", {}, {}
    )
    scores = zip((100, 200, 400, 800), (0.55, 0.62, 0.69, 0.75), strict=True)
    values = {"numbers": {"points": [{"rows": n, "score": score, "steps": 9} for n, score in scores], "free": {}}}
    plain = learning_curve.PLUGIN.retold(opened, values).numbers
    assert "target" not in plain and plain["useful_gain"] == 0.01
    opened.options, opened.minimum_gain = {"target": 0.76}, 0.04
    asked = learning_curve.PLUGIN.retold(opened, values).numbers
    assert asked["target"] == 0.76 and asked["more_labels"]["low"] >= 0 and asked["useful_gain"] == 0.04
    assert asked["points"] == plain["points"] and asked["x2"] == plain["x2"]
    assert "labels_to_beat" not in asked, "there is nothing cheaper to beat"


def test_a_curve_knows_the_spread_of_seeds_where_it_is_measured_and_does_not_wait_for_it():
    opened = study(tuned=150)
    opened.evidence = Evidence(
        "classification", "accuracy", {"tuned": {"accuracy": Estimate(0.75, 0.7, 0.8, ROWS)}}, {}, "", {}, {}
    )
    scores = zip((100, 200, 400, 800), (0.55, 0.62, 0.69, 0.75), strict=True)
    values = {"numbers": {"points": [{"rows": n, "score": score, "steps": 9} for n, score in scores], "free": {}}}
    rows = 0.1 / (2 * 1.96)
    assert learning_curve._noise(opened) == pytest.approx(rows)
    alone = learning_curve.PLUGIN.retold(opened, values).numbers["x4"]
    opened.found["seeds"] = {"sd": 0.1}
    assert learning_curve._noise(opened) == pytest.approx(np.hypot(rows, 0.1))
    known = learning_curve.PLUGIN.retold(opened, values).numbers["x4"]
    assert known["high"] - known["low"] > alone["high"] - alone["low"]
    opened.found["seeds"] = {"sd": None}
    assert learning_curve._noise(opened) == pytest.approx(rows)
    assert _kept._unknown("learning_curve", {"learning_curve": {"knew": []}, "seeds": {}}) == []


def test_the_labels_that_beat_the_rival_are_not_those_that_reach_the_target():
    opened = study(tuned=150)
    gains = {"base": Estimate(0.3, 0.2, 0.4, ROWS), "tfidf": Estimate(-0.02, -0.04, 0.0, ROWS)}
    gains["full"] = Estimate(-0.2, -0.3, -0.1, ROWS)
    systems = {name: {"accuracy": Estimate(0.75, 0.7, 0.8, ROWS)} for name in ("tuned", *gains)}
    opened.evidence = Evidence("classification", "accuracy", systems, gains, "", {}, {})
    scores = zip((100, 200, 400, 800), (0.55, 0.62, 0.69, 0.75), strict=True)
    values = {"numbers": {"points": [{"rows": n, "score": score, "steps": 9} for n, score in scores], "free": {}}}
    alone = learning_curve.PLUGIN.retold(opened, values).numbers
    assert "target" not in alone and "more_labels" not in alone, "nobody gave one"
    opened.options = {"target": 0.77}
    assert learning_curve.PLUGIN.retold(opened, values).numbers["more_labels"] == alone["labels_to_beat"]
    opened.options = {"target": 0.6}
    asked = learning_curve.PLUGIN.retold(opened, values).numbers
    assert asked["more_labels"]["low"] == 0 and asked["labels_to_beat"] == alone["labels_to_beat"]


def test_a_threshold_is_set_on_rows_that_are_independent():
    alone = list(study(tuned=150).splits.test)
    order = np.random.default_rng(3).permutation(ROWS)
    assert calibration._alone(alone, 3) == [alone[place] for place in order], "nothing changes"
    grouped = list(study(groups=[at // 10 for at in range(ROWS)], tuned=150).splits.test)
    drawn = calibration._alone(grouped, 3)
    assert sorted(row.group for row in drawn) == list(range(ROWS // 10))
    assert drawn[0] == grouped[order[0]]
