"""Bits per byte: sum of nats / ln 2 / sum of bytes of the reference text; lower is better.

Unlike the loss per token it compares models with different tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.metrics.base import Ratio
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class BitsPerByte(Ratio):
    """How many bits the model needs for one byte of the reference."""

    title: str = "bits per byte"
    higher_is_better: bool = False
    unit: str = "bits per byte"
    limits: tuple[float, float] = (0.0, math.inf)
    needs: tuple[str, ...] = ("nats", "bytes")

    def items(self, targets: Sequence[Target], predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        """Bits and bytes of each row."""
        nats = np.array([prediction.scores["nats"] for prediction in predictions])
        return nats / math.log(2), np.array([prediction.scores["bytes"] for prediction in predictions])


PLUGIN = BitsPerByte()
