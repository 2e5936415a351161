"""Exact match: the share of answers that equal the reference, but for blanks around them, 0 to 1; higher is better."""

from __future__ import annotations

from dataclasses import dataclass

from finesmith.metrics.base import Share, text_of
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class ExactMatch(Share):
    """Equality of stripped texts; case, punctuation and inner blanks count."""

    title: str = "exact match"

    def right(self, target: Target, prediction: Prediction) -> bool:
        """Whether the answer is the reference, letter for letter."""
        return text_of(target) == text_of(prediction.output)


PLUGIN = ExactMatch()
