"""Shuffled labels: what chance would give, also where the test rows' labels are not those of the training rows."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith import registry
from finesmith.evidence.compare import between, estimate
from finesmith.measurements import controls
from finesmith.types import Estimate, Example, Origin, Splits

WORDS = [f"word{number}" for number in range(300)]


def rows(count, seed, draw):
    dice = random.Random(seed)
    return [
        Example(f"{seed}-{at}", " ".join(dice.choices(WORDS, k=12)), draw(dice), origin=Origin("rows.csv", at))
        for at in range(count)
    ]


def study(draw, tested, metric, seed=0):
    train, test = rows(400, seed + 1, draw), rows(300, seed + 1001, tested)
    targets, primary = {row.id: row.target for row in test}, registry.resolve("metrics", metric)
    return SimpleNamespace(
        splits=Splits(train, [], test, ""),
        recipe=SimpleNamespace(seed=seed),
        gain=lambda ours, over: between(primary, targets, ours, over, seed=seed),
        score=lambda _, answers: estimate(primary, targets, answers, seed=seed).value,
    )


def several(dice):
    return tuple(label for label in ("billing", "refund", "card") if dice.random() < 0.35)


CASES = {
    "several labels, mostly none": (several, several, "micro_f1"),
    "training balanced, test not": (
        lambda dice: dice.choice(["yes", "no"]),
        lambda dice: "yes" if dice.random() < 0.4 else "no",
        "accuracy",
    ),
}


@pytest.mark.parametrize(("low", "passed"), [(-0.01, True), (0.005, True), (0.08, False)])
def test_an_alarm_is_rarer_than_a_surprise_and_says_that_it_may_be_one(low, passed):
    asked = study(*CASES["training balanced, test not"])
    asked.gain = lambda ours, over: Estimate(0.15, low, 0.3 - low, 300)
    asked.primary = registry.resolve("metrics", "accuracy")
    found = controls._shuffled(asked)
    assert found["passed"] == passed and (found["p"] < 0.025) == (low > 0)
    said = controls._says(asked, {"shuffled": found, "overfit": {"rows": 20, "learnt": 20, "passed": True}})
    alarm = "SOMETHING MAY BE WRONG, chance alone gives this in fewer than one of 1,000 sound runs"
    assert (alarm in said and "test rows may leak" in said) == (not passed)


@pytest.mark.parametrize("case", CASES)
def test_labels_that_mean_nothing_pass_whatever_they_are(case):
    found = [controls._shuffled(study(*CASES[case], seed=seed)) for seed in range(20)]
    assert all(each["passed"] for each in found)
    assert abs(np.mean([each["above_chance"].value for each in found])) < 0.03
