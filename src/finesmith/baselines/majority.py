"""The most frequent label of the training rows, whatever the input: what knowing nothing achieves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesmith.baselines.base import TestInput
from finesmith.types import Example, Prediction


@dataclass(frozen=True)
class Majority:
    """The most frequent label, or set of labels; among equally frequent ones the first by name."""

    title: str = "the most frequent label"
    tasks: tuple[str, ...] = ("classification",)

    def __call__(self, train: Sequence[Example], test_inputs: Sequence[TestInput], *, seed: int) -> list[Prediction]:
        """The same answer for every input, with the training shares of the labels as scores."""
        counts = Counter(_target(example) for example in train)
        answer = min(counts, key=lambda target: (-counts[target], target))
        labels = Counter(label for target in counts.elements() for label in _labels(target))
        shares = {label: count / len(train) for label, count in sorted(labels.items())}
        return [Prediction(id=name, output=answer, scores=shares) for name, _ in test_inputs]


def _labels(target: str | tuple[str, ...]) -> tuple[str, ...]:
    return (target,) if isinstance(target, str) else target


def _target(example: Example) -> str | tuple[str, ...]:
    assert isinstance(example.target, (str, tuple))
    return example.target


PLUGIN = Majority()
