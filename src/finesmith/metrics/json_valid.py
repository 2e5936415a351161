"""JSON validity: the share of answers that parse as one JSON value (RFC 8259), 0 to 1; higher is better.

A check of format and not of content: any JSON value counts, the reference is not looked at. Strict: no code fence,
no text around it, no NaN or Infinity.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from finesmith.metrics.base import Share, text_of
from finesmith.types import Prediction, Target


@dataclass(frozen=True)
class JsonValid(Share):
    """The share of answers that a JSON parser accepts."""

    title: str = "valid JSON"

    def right(self, target: Target, prediction: Prediction) -> bool:
        """Whether the answer parses."""
        try:
            json.loads(text_of(prediction.output), parse_constant=_reject)
        except (ValueError, RecursionError):
            return False
        return True


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


PLUGIN = JsonValid()
