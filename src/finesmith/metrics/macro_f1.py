"""Macro-F1: the mean over classes of 2 TP / (2 TP + FP + FN), 0 to 1; higher is better.

Small classes count as much as large ones. The classes are those that occur in the targets or in the outputs of the
rows measured, as in scikit-learn's `f1_score(average="macro")`; a class that is predicted but never right counts 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.metrics._confusion import indicators
from finesmith.metrics.base import Metric, Statistics
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class MacroF1(Metric):
    """The unweighted mean of the classes' F1; 0 where no row has or gets a label."""

    title: str = "macro-F1"

    def statistics(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> Statistics:
        """[N, 2K] sparse: labels in common, then labels of target and output counted together, of each class."""
        from scipy.sparse import hstack

        _, target, output = indicators(targets, [prediction.output for prediction in predictions])
        return hstack([target.multiply(output), target + output], format="csr", dtype=float)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Mean F1 of the classes that occur among the rows summed."""
        common, counted = np.split(sums, 2, axis=-1)
        f1 = np.divide(2 * common, counted, out=np.zeros_like(common), where=counted > 0)
        classes = (counted > 0).sum(axis=-1)
        return np.divide(f1.sum(axis=-1), classes, out=np.zeros(classes.shape), where=classes > 0)


PLUGIN = MacroF1()
