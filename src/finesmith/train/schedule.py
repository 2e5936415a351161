"""From progress to the learning rate: warm-up in a line, then constant, linear or half-cosine decay to 0."""

from __future__ import annotations

import math


def multiplier(step: int, total: int, *, warmup: float, schedule: str) -> float:
    """Factor on the peak learning rate in step `step` (from 0) of `total`; the first step is never 0."""
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    progress = (step - rising) / max(1, total - rising)
    if schedule == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0
