"""What measurements that train anew plan to take, beside runs whose seconds are known."""

from types import SimpleNamespace

import pytest

from finesmith import recipe
from finesmith.measurements import lora_or_full, scratch
from finesmith.measurements.base import Study
from finesmith.types import Evidence, Splits

FORWARD = 0.01
"""Seconds that a model takes to read a row; back through all weights twice as much, through adapters as much again."""
PREPARING, ROWS, BATCH = 20.0, 100, 16
STEP = {"full": 3 * BATCH * FORWARD, "lora": 2 * BATCH * FORWARD, "head": 0.02, "last_layers": 0.06}


def study(method="lora", *, made=400, planned=400, step=None, writes=False, **settings):
    """A run of `made` steps; of `writes` an answer takes five times as long as reading one."""
    asked = recipe.make({"data": {"path": "a"}, "method": method, "train": {"batch_size": BATCH}, **settings})
    task = SimpleNamespace(kind="causal-lm", prompt=None) if writes else SimpleNamespace(kind="sequence-classification")
    return Study(
        folder=SimpleNamespace(read_lines=lambda name: [{"of": planned}]),
        recipe=asked,
        splits=Splits([None] * 1000, [None] * ROWS, [None] * ROWS, ""),
        task=task,
        metrics={},
        evidence=Evidence("classification", "accuracy", {}, {}, "", {}, {"steps": made}),
        predictions={},
        train_seconds=PREPARING + made * (step or STEP[method]),
        preparing_seconds=PREPARING,
        answer_seconds=FORWARD * (5 if writes else 1),
    )


def taken(steps, *methods, answer=FORWARD):
    """Three trainings of each method, and what the models answer at most."""
    return sum(3 * (PREPARING + steps * STEP[method] + 2 * ROWS * answer) for method in methods)


CASES = [
    ({"method": "full"}, 400),
    ({"method": "lora"}, 400),
    ({"method": "head"}, 400),
    ({"method": "last_layers"}, 400),
    ({"method": "lora", "step": 0.05, "lora": {"last_layers": 1}}, 400),
    ({"method": "head", "writes": True}, 400),
    ({"method": "lora", "made": 100, "planned": 400}, 400),
    ({"method": "head", "made": 100, "planned": 400}, 400),
]


@pytest.mark.parametrize(("run", "steps"), CASES)
def test_six_trainings_take_what_they_are_planned_with(run, steps):
    opened = study(**run)
    methods = ["full"] if "lora" in run else ["lora", "full"]  # adapters in the last layers stay there
    known = 0.0 if "lora" not in run else 3 * (PREPARING + steps * 0.05 + 2 * ROWS * FORWARD)
    known += taken(steps, *methods, answer=opened.answer_seconds)
    assert known * 0.999 <= lora_or_full.PLUGIN.cost(opened) <= 1.25 * known


@pytest.mark.parametrize(("run", "steps"), CASES)
def test_from_scratch_too(run, steps):
    opened = study(**run)
    known = taken(run.get("made", steps), "full", answer=opened.answer_seconds)  # as many steps as the run made
    assert known * 0.999 <= scratch.PLUGIN.cost(opened) <= 1.25 * known
