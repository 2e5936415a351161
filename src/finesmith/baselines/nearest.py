"""The answer of the most similar training prompt: copying the nearest approved answer, cheap and honest.

Similarity is the cosine of TF-IDF vectors (words 1-2 and characters 2-5, sublinear); the first row wins a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finesmith.baselines._neighbours import Neighbours
from finesmith.baselines.base import TestInput, as_text
from finesmith.types import Example, Message, Prediction


@dataclass(frozen=True)
class Nearest:
    """Copies the training answer whose prompt is nearest. It gives no scores: it has no probabilities."""

    title: str = "the nearest training answer"
    tasks: tuple[str, ...] = ("generation",)

    def __call__(self, train: Sequence[Example], test_inputs: Sequence[TestInput], *, seed: int) -> list[Prediction]:
        """The completion of the nearest training prompt for every input."""
        rows = Neighbours([as_text(example.input) for example in train]).nearest([text for _, text in test_inputs], 1)
        return [
            Prediction(id=name, output=_answer(train[int(best[0])]))
            for (name, _), (best, _) in zip(test_inputs, rows, strict=True)
        ]


def _answer(example: Example) -> str:
    assert isinstance(example.target, Message)
    return example.target.text


PLUGIN = Nearest()
