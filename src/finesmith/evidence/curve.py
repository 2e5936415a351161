"""Learning curves: what more labels would bring, as a range and never beyond four times the labels there are.

An error e(n) falls with n labels in forms that fit past points alike and part ways beyond them, so several are fitted
in log space and their median is taken. On 24 public curves that median missed by 2.8 points on average at twice the
labels and 4.4 at four times, and the spread of the forms held the truth in 65 to 80 % only. Hence the widening below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FARTHEST = 4.0
"""Times the labels there are: beyond that nothing is said."""
WIDTHS = {1.0: 0.02, 2.0: 0.07, 4.0: 0.085}
"""Least half-width of the range at so many times the labels, as a share of what the metric can range over."""
RESTARTS, REFITS = 6, 200

Form = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _pow2(p: np.ndarray, n: np.ndarray) -> np.ndarray:
    return p[0] - np.exp(p[1]) * np.log(n)


def _pow3(p: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.logaddexp(_pow2(p, n), p[2])


def _shifted(p: np.ndarray, n: np.ndarray) -> np.ndarray:
    return p[0] - np.exp(p[1]) * np.logaddexp(np.log(n), p[2])


def _logit(p: np.ndarray, n: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -_pow2(p, n))  # log of the logistic function


FORMS: dict[str, tuple[Form, int]] = {
    "a n^-b": (_pow2, 2),
    "a n^-b + c": (_pow3, 3),
    "a (n + n0)^-b": (_shifted, 3),
    "logit e = u - v log n": (_logit, 2),
}
"""log e of (parameters, n), and how many parameters. a, b, c, n0 and v are positive by construction."""


@dataclass(frozen=True)
class Range:
    """An error at n labels: the median of the forms and the widened range."""

    n: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A fitted curve. `miss` is how far the last point was from what the others predicted; None with three or fewer."""

    sizes: np.ndarray
    errors: np.ndarray
    forms: dict[str, np.ndarray]
    bounded: bool
    floor: float
    miss: float | None
    few_shot: bool = True
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)

    def at(self, times: float) -> Range:
        """The error at `times` the labels of the last point (1 to 4)."""
        assert 1 <= times <= FARTHEST, "never beyond four times the labels"
        n = float(self.sizes[-1]) * times
        of_forms = _values(self.forms, n)
        value = float(np.median(of_forms))
        again = np.median([np.exp(FORMS[name][0](p, np.array([n]))) for name, p in self.drawn.items()], axis=0)
        ends = np.quantile(again, [0.025, 0.975])
        low, high = min(*of_forms, ends[0]), max(*of_forms, ends[1])
        half = self.least_half(times)
        low, high = max(0.0, float(min(low, value - half))), float(max(high, value + half))
        return Range(n, value, low, min(1.0, high) if self.bounded else high)

    def to_reach(self, error: float) -> tuple[float | None, float | None]:
        """Labels in all at which the error may be (low) and should be (high) reached; None is beyond four times."""
        return self._first(error, lambda step: step.low), self._first(error, lambda step: step.high)

    def likely(self, error: float) -> float | None:
        """Labels in all at which the middle of the range reaches the error; None is beyond four times."""
        return self._first(error, lambda step: step.value)

    def _first(self, error: float, end: Callable[[Range], float]) -> float | None:
        steps = (self.at(times) for times in np.geomspace(1, FARTHEST, 61))
        return next((step.n for step in steps if end(step) <= error), None)

    def least_half(self, times: float) -> float:
        """Least half-width at so many times the labels, however flat the curve.

        The floor comes from few-shot curves. Where leaving the last point out missed by less, it shrinks to twice that
        miss, but no further than to half of it, or to a seventh where the labels are not few.
        """
        half = float(np.interp(math.log(times), np.log(list(WIDTHS)), list(WIDTHS.values()))) * self.floor
        return half if self.miss is None else min(half, max(half / (2 if self.few_shot else 7), 2 * self.miss))


def fit(
    sizes: Sequence[float],
    errors: Sequence[float],
    *,
    bounded: bool = True,
    few_shot: bool = True,
    noise: float = 0.0,
    seed: int = 0,
) -> Curve:
    """Fits every form that the points can hold (three points at least).

    Args:
        sizes: numbers of labels, rising; the last is all there are.
        errors: at each, what is left to the best possible value: 1 - accuracy (`bounded`), or a loss in nats or bits.
        bounded: whether the error cannot exceed 1.
        few_shot: fewer than 64 labels of a class; the range is then wider.
        noise: standard deviation of an error from test rows and (where known) seeds; refits add it to the residuals.
        seed: of restarts and refits.
    """
    n, e = np.asarray(sizes, float), np.maximum(np.asarray(errors, float), 1e-4)
    assert len(n) == len(e) >= 3 and np.all(np.diff(n) > 0), "three or more points of rising size"
    random = np.random.default_rng(seed)
    forms = _fit(n, e, bounded, random, RESTARTS)
    miss = None
    if len(n) >= 4:
        before = _fit(n[:-1], e[:-1], bounded, random, RESTARTS)
        miss = abs(float(np.median(_values(before, n[-1]))) - float(e[-1]))
    drawn = _refits(n, e, forms, bounded, noise, random)
    return Curve(n, e, forms, bounded, 1.0 if bounded else float(e[-1]), miss, few_shot, drawn)


def _usable(n: np.ndarray, e: np.ndarray, bounded: bool) -> list[str]:
    """pow3 needs four points that flatten, the shifted law four, logit-linear an error that is a share."""
    slopes = -np.diff(np.log(e)) / np.diff(np.log(n))
    names = ["a n^-b"]
    if len(n) >= 4:
        names += ["a (n + n0)^-b"] + (["a n^-b + c"] if slopes[-1] < 0.8 * slopes[0] else [])
    return names + (["logit e = u - v log n"] if bounded and e.max() < 1 else [])


def _fit(
    n: np.ndarray, e: np.ndarray, bounded: bool, random: np.random.Generator, restarts: int
) -> dict[str, np.ndarray]:
    return {name: _fit_form(name, n, np.log(e), random, restarts) for name in _usable(n, e, bounded)}


def _fit_form(name: str, n: np.ndarray, logs: np.ndarray, random: np.random.Generator, restarts: int) -> np.ndarray:
    """Parameters by soft-L1 on the log error, the best of several starts."""
    from scipy.optimize import least_squares

    form, count = FORMS[name]
    slope = max(0.02, -float(np.polyfit(np.log(n), logs, 1)[0]))
    flat = name == "a n^-b + c"
    least_third = float(logs.min()) - 6 if flat else math.log(n[0]) - 6  # e^-6 of the error, or of the labels: none
    low, high = np.array([-50.0, -12.0, least_third][:count]), np.array([200.0, 3.0, 20.0][:count])
    best, least = np.zeros(count), math.inf
    for _ in range(restarts):
        rate = math.log(slope) + random.normal(0, 0.5)
        third = logs.min() - random.exponential(1.0) if flat else math.log(n[0]) + random.normal(0, 1)
        start = np.array([logs[0] + math.exp(rate) * math.log(n[0]), rate, third][:count])
        found = least_squares(
            lambda p: form(p, n) - logs, np.clip(start, low, high), bounds=(low, high), loss="soft_l1", f_scale=0.1,
            ftol=1e-6, xtol=1e-6, max_nfev=40,
        )  # fmt: skip
        if found.cost < least:
            best, least = found.x, float(found.cost)
    return best


def _refits(
    n: np.ndarray, e: np.ndarray, forms: dict[str, np.ndarray], bounded: bool, noise: float, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Parameters [2, refits] of the two forms that are lines, refitted to points moved by drawn residuals and noise."""
    base = forms["a n^-b"]
    residuals = np.log(e) - _pow2(base, n)
    spread = np.sqrt(len(n) / max(1, len(n) - 2))
    drawn = _pow2(base, n) + spread * random.choice(residuals, (REFITS, len(n)))
    moved = np.clip(np.exp(drawn) + random.normal(0, noise, drawn.shape), 1e-4, 1 - 1e-4 if bounded else None)
    lines = {"a n^-b": np.log(moved)} | ({"logit e = u - v log n": np.log(moved / (1 - moved))} if bounded else {})
    return {name: _line(np.log(n), values) for name, values in lines.items() if name in forms}


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level and log of the fall [2, R] of least-squares lines through y [R, points]; one that rises counts as flat."""
    slope = np.minimum(-1e-6, ((y - y.mean(1, keepdims=True)) @ (x - x.mean())) / ((x - x.mean()) ** 2).sum())
    return np.stack([y.mean(1) - slope * x.mean(), np.log(-slope)])


def _values(forms: dict[str, np.ndarray], n: float) -> list[float]:
    return [float(np.exp(FORMS[name][0](parameters, np.array([n])))[0]) for name, parameters in forms.items()]
