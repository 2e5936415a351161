"""A history of validation scores: which step is best, and whether it is time to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class History:
    """Scores as `(step, values)`; `values` are compared in order, higher is better (ties fall to the next value)."""

    patience: int | None
    scores: tuple[tuple[int, tuple[float, ...]], ...] = field(default=())

    def add(self, step: int, values: tuple[float, ...]) -> History:
        """The history with one more evaluation."""
        return replace(self, scores=(*self.scores, (step, values)))

    @property
    def best(self) -> int:
        """The step with the best score, the earliest of equals; 0 before the first one that is a number."""
        numbers = [item for item in self.scores if not any(map(math.isnan, item[1]))]
        return max(numbers, key=lambda item: (item[1], -item[0]))[0] if numbers else 0

    @property
    def improved(self) -> bool:
        """Whether the last evaluation is the best so far."""
        return bool(self.scores) and self.best == self.scores[-1][0]

    @property
    def should_stop(self) -> bool:
        """Whether `patience` evaluations have passed without a better one."""
        since = sum(1 for step, _ in self.scores if step > self.best)
        return self.patience is not None and since >= self.patience
