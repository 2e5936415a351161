"""What a metric is: per-row statistics that add up, and a score of their sums.

Legend for shapes: N rows, S statistics a row, ... any leading axes (resamples).

Every metric here is a function of *sums over rows*: right answers and rows (accuracy), nats and bytes (bits per
byte), true and false positives of each class (macro-F1), n-gram matches (chrF). A resample of the rows is then a
vector of weights, and 2,000 resamples are one matrix product: no metric is slow to bootstrap and none needs an
approximation.

To add one: a file that ends with `PLUGIN = ...`, a frozen dataclass below `Share` (right or wrong), `Ratio` (one sum
over another) or `Metric`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.errors import RecipeError
from finesmith.types import Message, Prediction, Target

Kind = Literal["share", "ratio", "other"]

Statistics = Any
"""[N, S]: a NumPy array, or a SciPy sparse array where most statistics are zero."""


@dataclass(frozen=True)
class Metric(ABC):
    """A number over targets and predictions.

    `title` is its name in a sentence, `unit` what it counts in ("" for a share), `digits` the decimals worth showing,
    `limits` the smallest and largest possible value. `needs` says what a prediction must hold: "output", or names of
    scores; rows without it are not measured by this metric.
    """

    title: str
    higher_is_better: bool = True
    kind: Kind = "other"
    unit: str = ""
    digits: int = 3
    limits: tuple[float, float] = (0.0, 1.0)
    needs: tuple[str, ...] = ("output",)

    @property
    def best(self) -> float | None:
        """The value of a model without an error; None where none is known."""
        value = self.limits[1] if self.higher_is_better else self.limits[0]
        return value if math.isfinite(value) else None

    @abstractmethod
    def statistics(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> Statistics:
        """[N, S] numbers of each row, whose sums over rows determine the score."""

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """[..., S] sums to [...] values."""

    def items(
        self, targets: Sequence[Target], predictions: Sequence[Prediction]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Numerator [N] and denominator [N] of each row where the metric is one sum over another, else None."""
        return None

    def value(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> float:
        """The metric over all rows (one at least)."""
        sums = np.ones(len(targets)) @ self.statistics(targets, predictions)
        return float(self.score(sums))

    def measurable(self, prediction: Prediction) -> bool:
        """Whether the prediction holds what the metric needs."""
        return all(
            prediction.output is not None if need == "output" else need in prediction.scores for need in self.needs
        )


@dataclass(frozen=True)
class Ratio(Metric):
    """A metric that is one sum over another: `items` is all that is left to write.

    `empty` is the value where the denominators sum to zero.
    """

    kind: Kind = "ratio"
    empty: float = float("nan")

    @abstractmethod
    def items(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        """Numerator [N] and denominator [N] of each row."""

    def statistics(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> Statistics:
        """[N, 2] numerator and denominator."""
        return np.stack(self.items(targets, predictions), axis=-1)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Numerator over denominator."""
        out = np.full(sums.shape[:-1], self.empty)
        return np.divide(sums[..., 0], sums[..., 1], out=out, where=sums[..., 1] > 0)


@dataclass(frozen=True)
class Share(Ratio):
    """The share of rows that are right, 0 to 1: `right` is all that is left to write."""

    kind: Kind = "share"

    @abstractmethod
    def right(self, target: Target, prediction: Prediction) -> bool:
        """Whether one answer is right."""

    def items(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        """1 or 0 for each row, and 1 for each row."""
        right = [self.right(target, prediction) for target, prediction in zip(targets, predictions, strict=True)]
        return np.array(right, dtype=float), np.ones(len(right))


def label_set(value: Target) -> frozenset[str]:
    """The labels that a target or an output of a classifier names: one, several or none."""
    return frozenset([value] if isinstance(value, str) else value if isinstance(value, tuple) else [])


def text_of(value: Target) -> str:
    """The text of a generation target or output, without the blanks around it."""
    return (value.text if isinstance(value, Message) else value if isinstance(value, str) else "").strip()


def edits(one: Sequence[str], other: Sequence[str]) -> float:
    """Levenshtein distance of word sequences as a share of the longer one: 0 for equal ones."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_distance(one, other))


def refuse_impossible(metric: Metric, target: float | None, minimum_gain: float | None) -> None:
    """A score that would be good enough, and a gain that is of use, have to be possible values of the metric.

    Raises:
        RecipeError: one is not.
    """
    low, high = metric.limits
    for name, value, ends in (("target", target, (low, high)), ("minimum-gain", minimum_gain, (0.0, high - low))):
        if value is not None and not (ends[0] <= value <= ends[1] and math.isfinite(value)):
            wanted = f"between {ends[0]:g} and {ends[1]:g}" if math.isfinite(ends[1]) else f"{ends[0]:g} or more"
            raise RecipeError(f"--{name} is {value:g}; for {metric.title} it must be {wanted}.")
