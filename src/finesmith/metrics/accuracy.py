"""Accuracy: the share of rows whose label (or whole set of labels) is right, 0 to 1; higher is better.

For several labels a row this is subset accuracy, as in scikit-learn's `accuracy_score`.
"""

from __future__ import annotations

from dataclasses import dataclass

from finesmith.metrics.base import Share, label_set
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class Accuracy(Share):
    """The share of rows whose labels are exactly the target's."""

    title: str = "accuracy"

    def right(self, target: Target, prediction: Prediction) -> bool:
        """Whether the labels are the same, in whatever order."""
        return label_set(target) == label_set(prediction.output)


PLUGIN = Accuracy()
