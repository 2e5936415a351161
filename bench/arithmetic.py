"""Pure arithmetic of the benchmark: ratios, fitted exponents, required work per token."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Least, middle and greatest of some paired ratios, and how many there are."""

    low: float
    middle: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        return f"{self.low:{spec}} - **{self.middle:{spec}}** - {self.high:{spec}}"


def spread(values: Sequence[float]) -> Range:
    """Min, median, max.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("There is no pair to make a ratio of.")
    return Range(min(values), statistics.median(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times faster we are in each pair, from seconds for the same steps.

    Raises:
        ValueError: the two were not measured in pairs.
    """
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def steady(calibration: Sequence[float], limit: float = 0.2) -> list[bool]:
    """Which rounds ran on a machine at about its usual speed: calibration within `limit` of the median."""
    usual = statistics.median(calibration)
    return [abs(value / usual - 1) <= limit for value in calibration]


@dataclass(frozen=True)
class Fit:
    """y = factor * x ** exponent by least squares on logarithms; `error` is the exponent's standard error."""

    factor: float
    exponent: float
    error: float


def fit_exponent(x: Sequence[float], y: Sequence[float]) -> Fit:
    """The exponent with which a cost grows.

    Raises:
        ValueError: fewer than two different sizes, or a size or cost that is not positive.
    """
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError("An exponent needs at least two different sizes, and positive arithmetic.")
    across, up = [math.log(value) for value in x], [math.log(value) for value in y]
    centre, height = statistics.fmean(across), statistics.fmean(up)
    width = sum((value - centre) ** 2 for value in across)
    slope = sum((a - centre) * (b - height) for a, b in zip(across, up, strict=True)) / width
    left = sum((b - height - slope * (a - centre)) ** 2 for a, b in zip(across, up, strict=True))
    error = math.sqrt(left / (len(x) - 2) / width) if len(x) > 2 else math.nan
    return Fit(math.exp(height - slope * centre), slope, error)


def apart(left: Sequence[float], right: Sequence[float]) -> float:
    """The greatest distance between two loss curves of the same steps, in nats."""
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def work_per_token(
    config: Mapping[str, Any], method: str, *, rank: int, mean_length: float, supervised: float
) -> float:
    """Floating-point operations that one token needs, by method; recomputation and padding are no work.

    Two for each multiply-add: full 6 (N + f H) + 3 A, adapters 4 (N + f H) + 3 A + 6 r S. N are the body's matrix
    weights, H = h V the head's, f the share of supervised tokens, A = 2 h T L causal attention over a mean document of
    T tokens, S the sum of inputs and outputs of all adapted layers.

    Raises:
        ValueError: a method that has no formula here.
    """
    h, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    narrow = h * config.get("num_key_value_heads", config["num_attention_heads"]) // config["num_attention_heads"]
    shapes = [(h, h), (h, narrow), (h, narrow), (h, h), (h, inner), (inner, h)]
    shapes += [(h, inner)] if config["model_type"] == "llama" else []
    body = layers * sum(a * b for a, b in shapes)
    head = supervised * h * config["vocab_size"] if config["model_type"] == "llama" else 0.0
    attention = 2 * h * mean_length * layers
    if method == "full":
        return 6 * (body + head) + 3 * attention
    if method == "lora":
        return 4 * (body + head) + 3 * attention + 6 * rank * layers * sum(a + b for a, b in shapes)
    raise ValueError(f"There is no formula for the work of method '{method}'; there is one for full and lora.")
