"""What measurements that train anew plan to take, beside runs whose seconds are known."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from finesmith import recipe
from finesmith.measurements import _general, learning_curve, lora_or_full, scratch
from finesmith.measurements.base import Study
from finesmith.tasks.classification import Classification, ClassificationSettings
from finesmith.types import Evidence, Example, Origin, Splits
from finesmith.watch import Watcher

FORWARD = 0.01
"""Seconds that a model takes to read a row; back through all weights twice as much, through adapters as much again."""
PREPARING, ROWS, BATCH = 20.0, 100, 16
STEP = {"full": 3 * BATCH * FORWARD, "lora": 2 * BATCH * FORWARD, "head": 0.02, "last_layers": 0.06}


def study(method="lora", *, made=400, planned=400, step=None, writes=False, sequences=1000, **settings):
    """A run of `made` steps; of `writes` an answer takes five times as long as reading one."""
    asked = recipe.make({"data": {"path": "a"}, "method": method, "train": {"batch_size": BATCH}, **settings})
    task = SimpleNamespace(kind="causal-lm", prompt=None) if writes else SimpleNamespace(kind="sequence-classification")
    return Study(
        folder=SimpleNamespace(
            read_lines=lambda name: [{"of": planned}], read_json=lambda name: {"sequences": sequences}
        ),
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
    known += 7 * _general.READING[opened.task.kind] * opened.answer_seconds  # the passages, by six models and the base
    assert known * 0.999 <= lora_or_full.PLUGIN.cost(opened) <= 1.25 * known


@pytest.mark.parametrize("sequences", [250, 4000])
@pytest.mark.parametrize("method", ["head", "last_layers"])
def test_a_step_of_packed_rows_has_more_of_them_and_one_of_long_documents_fewer(sequences, method):
    opened = study(method, sequences=sequences)
    rows = BATCH * 1000 / sequences
    known = 3 * (PREPARING + 400 * 3 * rows * FORWARD + 2 * ROWS * FORWARD)
    assert known * 0.999 <= scratch.PLUGIN.cost(opened) <= known + 3 * 400 * STEP[method] + 1e-6


@pytest.mark.parametrize(("run", "steps"), CASES)
def test_from_scratch_too(run, steps):
    opened = study(**run)
    known = taken(run.get("made", steps), "full", answer=opened.answer_seconds)  # as many steps as the run made
    assert known * 0.999 <= scratch.PLUGIN.cost(opened) <= 1.25 * known


@pytest.mark.parametrize(
    ("made", "planned", "most"),
    [(400, 400, None), (100, 1000, None), (1000, 1000, None), (40, 40, None), (50, 200, 200)],
)
def test_the_parts_of_a_learning_curve_take_what_they_are_planned_with(monkeypatch, made, planned, most):
    opened = study("lora", made=made, planned=planned)
    opened.recipe = opened.recipe.replace(train={"max_steps": most})
    opened.task = Classification(ClassificationSettings(), labels=("a", "b"))
    rows = [Example(str(at), "text", "ab"[at % 2], Origin("rows.csv", at)) for at in range(1000)]
    opened.splits = Splits(rows, opened.splits.validation, opened.splits.test, "")
    steps = []

    @contextmanager
    def retrained(self, watcher, *, rows, train):
        steps.append(train.get("max_steps") or most or planned * len(rows) / 1000)
        yield SimpleNamespace(predict=lambda asked: [], costs={"steps": steps[-1]})

    monkeypatch.setattr(Study, "retrained", retrained)
    monkeypatch.setattr(Study, "score", lambda *given: 0.5)
    for part in learning_curve._parts(rows):
        learning_curve._trained(opened, Watcher(), rows[:part])
    known = 3 * PREPARING + sum(steps) * STEP["lora"] + 3 * ROWS * FORWARD + (1000 + ROWS) * FORWARD
    assert len(steps) == 3 and known <= learning_curve.PLUGIN.cost(opened) <= known + 6.0  # six: the cheap opponents
