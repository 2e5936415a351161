"""Comparison and verdict: alignment, what is not measured, the words."""

import json
import math

import numpy as np
import pytest

from finesmith import registry
from finesmith.evidence import stats
from finesmith.evidence.compare import compare
from finesmith.evidence.plain import as_json, from_json
from finesmith.evidence.verdict import sentence, signed
from finesmith.types import Estimate, Message, Prediction

ACCURACY = registry.resolve("metrics", "accuracy")
METRICS = {name: registry.resolve("metrics", name) for name in ("accuracy", "macro_f1")}
TARGETS = {f"row {i}": "yes" if i % 3 else "no" for i in range(60)}


def answers(wrong=(), ids=None):
    flip = {"yes": "no", "no": "yes"}
    return [
        Prediction(name, flip[TARGETS[name]] if i in wrong else TARGETS[name])
        for i, name in enumerate(TARGETS)
        if ids is None or i in ids
    ]


def classified(**changes):
    predictions = {"tuned": answers(range(3)), "base": answers(range(30)), "tfidf": answers(range(2, 6))}
    return compare(
        **{
            "task": "classification",
            "primary": "accuracy",
            "metrics": METRICS,
            "targets": TARGETS,
            "predictions": predictions,
            "opponents": ["base", "tfidf"],
            "seed": 0,
            **changes,
        }
    )


def test_systems_and_gains():
    evidence = classified(costs={"seconds": 3.0}, details={"labels": ["no", "yes"]})
    assert evidence.systems["tuned"]["accuracy"] == stats.wilson(57, 60)
    assert list(evidence.systems["base"]) == ["accuracy", "macro_f1"]
    right = [np.array([i not in wrong for i in range(60)], float) for wrong in (range(3), range(30))]
    assert evidence.gain == stats.newcombe(*right)
    assert evidence.details["mcnemar"]["base"] == pytest.approx(stats.mcnemar(*right))
    assert evidence.details["labels"] == ["no", "yes"] and evidence.costs == {"seconds": 3.0}
    assert evidence.not_measured == {}


def test_the_primary_metric_stands_first():
    assert list(classified(primary="macro_f1").systems["tuned"]) == ["macro_f1", "accuracy"]


def test_the_order_of_predictions_does_not_matter():
    shuffled = {"tuned": answers(range(3))[::-1], "base": answers(range(30))[::-1], "tfidf": answers(range(2, 6))}
    assert classified(predictions=shuffled) == classified()


def test_a_gain_is_over_the_rows_that_both_answered():
    half = {"tuned": answers(range(3)), "base": answers(range(30), ids=range(20))}
    evidence = classified(predictions=half, opponents=["base"])
    assert evidence.systems["base"]["accuracy"] == stats.wilson(0, 20)
    assert (evidence.gain.value, evidence.gain.n) == (pytest.approx(17 / 20), 20)
    assert "on the 20 rows that both answered" in evidence.verdict
    assert evidence.not_measured == {"base on 40 of 60 test rows": "it was not run on them (macro_f1)"}


def test_no_rows_in_common_is_no_gain():
    apart = {"tuned": answers(ids=range(20)), "base": answers(ids=range(20, 60))}
    assert classified(predictions=apart, opponents=["base"]).gains == {}


def test_what_cannot_be_measured_has_no_entry():
    metrics = {name: registry.resolve("metrics", name) for name in ("chrf", "bits_per_byte")}
    targets = {"a": Message("assistant", "some answer"), "b": Message("assistant", "another")}
    scores = {"nats": 9.0, "tokens": 3, "bytes": 11}
    evidence = compare(
        task="generation",
        primary="chrf",
        metrics=metrics,
        targets=targets,
        seed=0,
        opponents=["base", "nearest", "scratch"],
        predictions={
            "tuned": [Prediction("a", "some answer", scores), Prediction("b", "anther", scores)],
            "base": [Prediction("a", None, scores), Prediction("b", None, scores)],
            "nearest": [Prediction("a", "other"), Prediction("b", "other")],
        },
    )
    assert {name: list(scores) for name, scores in evidence.systems.items()} == {
        "tuned": ["chrf", "bits_per_byte"],
        "base": ["bits_per_byte"],
        "nearest": ["chrf"],
    }
    assert list(evidence.gains) == ["nearest"]
    assert evidence.not_measured == {"scratch": "it gave no answers on the test rows"}
    assert evidence.verdict.endswith("The base was not measured.")


def test_a_reason_given_wins_over_the_one_found():
    evidence = classified(opponents=["base", "scratch"], not_measured={"scratch": "no time was left"})
    assert evidence.not_measured == {"scratch": "no time was left"}


def test_a_value_that_is_not_a_number_is_not_reported():
    metrics = {"bits_per_byte": registry.resolve("metrics", "bits_per_byte")}
    rows = [Prediction("a", None, {"nats": 1.0, "bytes": 0})]
    evidence = compare(
        task="text",
        primary="bits_per_byte",
        metrics=metrics,
        targets={"a": None},
        seed=0,
        predictions={"tuned": rows},
        opponents=[],
    )
    assert evidence.systems == {}
    assert evidence.verdict == "Not measured: there is no bits per byte of the tuned model."


def test_wrong_ids_are_our_own_mistake():
    with pytest.raises(AssertionError, match="answered twice"):
        classified(predictions={"tuned": answers() + answers(), "base": answers()})
    with pytest.raises(AssertionError, match="not in the test set"):
        classified(predictions={"tuned": [Prediction("elsewhere", "yes")]})


def test_text_needs_no_targets():
    metric = registry.resolve("metrics", "bits_per_byte")
    rows = {
        name: [Prediction(str(i), None, {"nats": factor * (5 + i), "bytes": 10}) for i in range(30)]
        for name, factor in (("tuned", 1.0), ("base", 1.3))
    }
    evidence = compare(
        task="text",
        primary="bits_per_byte",
        metrics={"bits_per_byte": metric},
        seed=0,
        targets={str(i): None for i in range(30)},
        predictions=rows,
        opponents=["base"],
    )
    assert evidence.gain.low > 0
    assert evidence.verdict.startswith("Clear gain: 2.813 bits per byte against 3.657 for the base (gain +0.844, ")


def at(value, n=128):
    return Estimate(value, value - 0.05, value + 0.05, n)


SYSTEMS = {"tuned": at(0.873), "base": at(0.652), "tfidf": at(0.861), "majority": at(0.1)}
TITLES = {"tfidf": "TF-IDF + linear SVM", "majority": "the most frequent label"}


def gains(base=(0.221, 0.14, 0.3), tfidf=None, majority=None):
    given = {"base": base, "tfidf": tfidf, "majority": majority}
    return {name: Estimate(*numbers, 128) for name, numbers in given.items() if numbers}


def said(found, **changes):
    return sentence(ACCURACY, SYSTEMS, found, titles=TITLES, **changes)


def test_a_clear_gain_and_an_opponent_not_beaten():
    assert said(gains(tfidf=(0.012, -0.03, 0.05), majority=(0.7, 0.6, 0.8))) == (
        "Clear gain: accuracy 0.873 against 0.652 for the base (+0.221, 95 % interval +0.140 to +0.300, n = 128). "
        "TF-IDF + linear SVM reaches 0.861: no clear difference (+0.012, 95 % interval -0.030 to +0.050, n = 128); "
        "consider shipping that instead (no GPU needed)."
    )


def test_no_clear_gain_worse_and_too_small():
    assert said(gains(base=(0.02, -0.01, 0.05))).startswith(
        "No clear gain: accuracy 0.873 against 0.652 for the base ("
    )
    assert said(gains(base=(0.02, 0.0, 0.05))).startswith("No clear gain")
    assert said(gains(base=(-0.1, -0.2, -0.05))).startswith("Worse: accuracy")
    assert said(gains(), minimum_gain=0.3).startswith("Clear gain, but below the 0.300 asked for: accuracy")


def test_opponents_beaten_or_better():
    assert "The most frequent label reaches 0.100: clearly beaten (+0.700, " in said(gains(majority=(0.7, 0.6, 0.8)))
    better = said(gains(tfidf=(-0.1, -0.2, -0.05)))
    assert "reaches 0.861: clearly better (-0.100, " in better
    assert better.endswith("; ship that instead (no GPU needed).")


def test_a_frozen_head_that_is_better_names_the_command():
    found = gains(tfidf=(-0.1, -0.2, -0.05))
    assert said(found, ways={"tfidf": "train it with --method head"}).endswith(
        "reaches 0.861: clearly better (-0.100, 95 % interval -0.200 to -0.050, n = 128); "
        "ship that instead (train it with --method head)."
    )
    assert said(found, ways={"tfidf": ""}).endswith("-0.050, n = 128).")


def generated(tuned_nats, base_nats, matches=(), primary="exact_match"):
    """Answers to 40 rows, right in `matches` only; nats of the references around the given ones."""
    names = ("exact_match", "held_out_loss")

    def rows(nats, right):
        scores = [{"nats": nats + row % 5, "tokens": 10} for row in range(40)]
        return [Prediction(str(row), "yes" if row in right else "no", scores[row]) for row in range(40)]

    return compare(
        task="generation",
        primary=primary,
        metrics={name: registry.resolve("metrics", name) for name in names},
        targets={str(row): Message("assistant", "yes") for row in range(40)},
        predictions={"tuned": rows(tuned_nats, matches), "base": rows(base_nats, ())},
        opponents=["base"],
        seed=0,
    )


def test_a_loss_that_fell_is_said_where_the_primary_metric_is_blind():
    evidence = generated(10.0, 20.0)
    gain = evidence.details["held_out_loss_gain"]
    assert gain.value == pytest.approx(1.0) and gain.low > 0
    assert evidence.verdict == (
        "No clear gain: exact match 0.000 against 0.000 for the base (0.000, 95 % interval -0.088 to +0.088, n = 40). "
        "But the held-out loss clearly fell, from 2.200 to 1.200 nats per token "
        f"(gain +1.000, 95 % interval {signed(ACCURACY, gain.low)} to {signed(ACCURACY, gain.high)}, n = 40): "
        "it learnt something that exact match does not show."
    )


def test_nothing_is_said_of_the_loss_where_it_did_not_fall_or_the_metric_sees_the_gain():
    assert "clearly fell" not in generated(20.0, 20.0).verdict
    assert "clearly fell" not in generated(21.0, 20.0).verdict
    seen = generated(10.0, 20.0, matches=range(30)).verdict
    assert seen.startswith("Clear gain: exact match") and "clearly fell" not in seen
    assert "clearly fell" not in generated(10.0, 20.0, primary="held_out_loss").verdict


def test_without_a_base_the_strongest_opponent_leads():
    text = said(gains(base=None, tfidf=(0.012, -0.03, 0.05), majority=(0.7, 0.6, 0.8)))
    assert text == (
        "No clear gain: accuracy 0.873 against 0.861 for TF-IDF + linear SVM (+0.012, 95 % interval -0.030 to +0.050, "
        "n = 128); consider shipping that instead (no GPU needed). The base was not measured."
    )


def test_nothing_to_compare_with():
    assert said({}) == (
        "Nothing to compare with: accuracy 0.873 (95 % interval 0.823 to 0.923, n = 128); "
        "whether that is a gain is not known."
    )


def test_units_and_lower_is_better():
    loss = registry.resolve("metrics", "held_out_loss")
    systems = {"tuned": at(1.92), "base": at(2.31)}
    found = {"base": Estimate(0.39, 0.3, 0.48, 128)}
    assert sentence(loss, systems, found, titles={}) == (
        "Clear gain: held-out loss 1.920 against 2.310 nats per token for the base "
        "(gain +0.390, 95 % interval +0.300 to +0.480, n = 128)."
    )
    unknown = {"base": Estimate(0.39, -math.inf, math.inf, 1)}
    assert "No clear gain" in sentence(loss, systems, unknown, titles={})
    assert "95 % interval unknown to unknown" in sentence(loss, systems, unknown, titles={})


def test_a_rounded_zero_has_no_sign():
    assert [signed(ACCURACY, value) for value in (0.0, -0.0001, 0.0004, -0.02)] == ["0.000", "0.000", "0.000", "-0.020"]


def test_json_round_trip():
    evidence = classified(details={"per_class": [{"label": "no", "f1": 0.5}]}, costs={"seconds": 1.5})
    text = json.dumps(as_json(evidence), allow_nan=False)
    assert from_json(json.loads(text)) == evidence


def test_json_of_open_intervals_and_array_values():
    metric = registry.resolve("metrics", "held_out_loss")
    rows = {name: [Prediction("a", None, {"nats": 3.0, "tokens": 2})] for name in ("tuned", "base")}
    evidence = compare(
        task="text",
        primary="held_out_loss",
        metrics={"held_out_loss": metric},
        targets={"a": None},
        seed=0,
        predictions=rows,
        opponents=["base"],
        details={"x": np.arange(2), "y": (np.float64(1.5), math.nan)},
    )
    plain = as_json(evidence)
    assert plain["gains"]["base"] == {"value": 0.0, "low": None, "high": None, "n": 1}
    assert plain["details"] == {"x": [0, 1], "y": [1.5, None]}
    assert from_json(json.loads(json.dumps(plain, allow_nan=False))).gains == evidence.gains


def test_a_base_that_had_to_be_trained_to_answer_is_called_what_it_is():
    answers = [Prediction(str(n), "a" if n % 4 else "b") for n in range(40)]
    worse = [Prediction(str(n), "a" if n % 2 else "b") for n in range(40)]
    evidence = compare(
        task="classification", primary="accuracy", metrics={"accuracy": ACCURACY}, seed=0,
        targets={str(n): "a" for n in range(40)}, predictions={"tuned": answers, "base": worse}, opponents=["base"],
        not_measured={"zero-shot": "the base is an encoder, which cannot answer without training"},
    )  # fmt: skip
    assert "against 0.500 for a linear head on the base's frozen features (" in evidence.verdict
