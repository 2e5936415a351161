"""Micro-F1: 2 TP / (2 TP + FP + FN) over all labels of all rows together, 0 to 1; higher is better.

As scikit-learn's `f1_score(average="micro")` on indicator matrices. With exactly one label a row it equals accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.metrics.base import Ratio, label_set
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class MicroF1(Ratio):
    """F1 of the pooled label decisions; 0 where no row has or gets a label."""

    title: str = "micro-F1"
    empty: float = 0.0

    def items(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        """Twice the labels in common, and the labels of target and output counted together."""
        pairs = [(label_set(t), label_set(p.output)) for t, p in zip(targets, predictions, strict=True)]
        common = [2.0 * len(target & output) for target, output in pairs]
        return np.array(common), np.array([float(len(target) + len(output)) for target, output in pairs])


PLUGIN = MicroF1()
