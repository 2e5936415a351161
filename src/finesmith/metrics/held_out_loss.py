"""Held-out loss: sum of nats / sum of tokens of the reference; lower is better.

The training loss on rows never trained on. Only comparable between models that share a tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.metrics.base import Ratio
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class HeldOutLoss(Ratio):
    """Mean cross-entropy of a reference token, in nats."""

    title: str = "held-out loss"
    higher_is_better: bool = False
    unit: str = "nats per token"
    limits: tuple[float, float] = (0.0, math.inf)
    needs: tuple[str, ...] = ("nats", "tokens")

    def items(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        """Nats and tokens of each row."""
        nats = np.array([prediction.scores["nats"] for prediction in predictions])
        return nats, np.array([prediction.scores["tokens"] for prediction in predictions])


PLUGIN = HeldOutLoss()
