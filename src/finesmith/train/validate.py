"""The validation score of a model: what chooses the best step. Higher is better in every place of the tuple."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finesmith import registry
from finesmith.models.load import Loaded
from finesmith.tasks.base import Task
from finesmith.types import Example


def validate(task: Task, loaded: Loaded, examples: Sequence[Example]) -> dict[str, float]:
    """Named scores of the validation rows; the first decides, the rest break ties.

    For a language model the mean log-probability of a token in nats; for a classifier its primary metric, then the mean
    log-probability of the right labels.
    """
    measured = task.measure(loaded, examples)
    if measured and measured[0]:
        return {"log_probability": -sum(row["nats"] for row in measured) / sum(row["tokens"] for row in measured)}
    answers = task.answer(loaded, [example.input for example in examples])
    metric = registry.resolve("metrics", task.primary)
    logs = [_log_probability(example, answer.scores) for example, answer in zip(examples, answers, strict=True)]
    return {
        task.primary: metric.value([example.target for example in examples], answers),
        "log_probability": sum(logs) / len(logs),
    }


def _log_probability(example: Example, scores: object) -> float:
    assert isinstance(scores, dict)
    if isinstance(example.target, tuple):
        return sum(
            math.log(max(value if label in example.target else 1 - value, 1e-12)) for label, value in scores.items()
        )
    return math.log(max(scores.get(str(example.target), 0.0), 1e-12))
