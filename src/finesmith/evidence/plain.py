"""Evidence as plain values for `evidence.json`, and back.

An open end of an interval (one row, a metric without limits) is null, because JSON has no infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from finesmith.types import Estimate, Evidence


def as_json(evidence: Evidence) -> dict[str, Any]:
    """Only dict, list, str, int, float, bool and None, ready for `json.dumps(..., allow_nan=False)`."""
    return {
        "task": evidence.task,
        "metric": evidence.metric,
        "verdict": evidence.verdict,
        "systems": {
            system: {metric: _estimate(estimate) for metric, estimate in scores.items()}
            for system, scores in evidence.systems.items()
        },
        "gains": {system: _estimate(gain) for system, gain in evidence.gains.items()},
        "not_measured": dict(evidence.not_measured),
        "costs": values_of(evidence.costs),
        "details": values_of(evidence.details),
    }


def from_json(values: Mapping[str, Any]) -> Evidence:
    """The evidence that `as_json` wrote."""
    systems = {
        system: {metric: _read(estimate) for metric, estimate in scores.items()}
        for system, scores in values["systems"].items()
    }
    gains = {system: _read(gain) for system, gain in values["gains"].items()}
    return Evidence(**{**values, "systems": systems, "gains": gains})


def _estimate(estimate: Estimate) -> dict[str, Any]:
    low, high = (bound if math.isfinite(bound) else None for bound in (estimate.low, estimate.high))
    groups = {} if estimate.groups is None else {"groups": int(estimate.groups)}
    value = float(estimate.value)
    return {"value": value, "low": low, "high": high, "n": int(estimate.n), **groups}


def _read(values: Mapping[str, Any]) -> Estimate:
    low, high = values["low"], values["high"]
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return Estimate(value=values["value"], low=low, high=high, n=values["n"], groups=values.get("groups"))


def values_of(value: Any) -> Any:
    """Tuples and arrays become lists, dataclasses and other mappings dicts, numbers that are not finite null."""
    if isinstance(value, np.generic | np.ndarray):
        return values_of(value.tolist())
    if isinstance(value, Estimate):
        return values_of(_estimate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return values_of({field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): values_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [values_of(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def estimate(value: Any) -> Estimate:
    """An interval, whether it comes from memory or from a file (where an open end is null)."""
    if isinstance(value, Estimate):
        return value
    low, high = value["low"], value["high"]
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return Estimate(value["value"], low, high, int(value.get("n") or 0), value.get("groups"))
