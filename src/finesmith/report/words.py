"""Numbers and names in words, for tables and cards: durations, sizes, costs, what systems and metrics are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finesmith import registry
from finesmith.evidence.verdict import NAMES, TITLES, number, signed
from finesmith.metrics.base import Metric
from finesmith.types import Estimate, Evidence


def metric_named(name: str) -> Metric:
    """The metric plug-in that an evidence's key names."""
    return registry.resolve("metrics", name)


def system_title(name: str) -> str:
    """What a system is called in words; its own name where it has no other."""
    if name in registry.available("baselines"):
        return registry.resolve("baselines", name).title
    return TITLES.get(name) or NAMES.get(name, name)


def metric_names(evidence: Evidence) -> list[str]:
    """Every metric that some system has, the primary one first."""
    return list(dict.fromkeys([evidence.metric, *(name for scores in evidence.systems.values() for name in scores)]))


def interval(metric: Metric, estimate: Estimate) -> str:
    """`0.861 to 0.884`."""
    return f"{number(metric, estimate.low)} to {number(metric, estimate.high)}"


def signed_interval(metric: Metric, estimate: Estimate) -> str:
    """`+0.140 to +0.300`."""
    return f"{signed(metric, estimate.low)} to {signed(metric, estimate.high)}"


def heading(metric: Metric) -> str:
    """The metric's title, its unit, and the direction where lower is better."""
    return f"{in_units(metric)}{'' if metric.higher_is_better else ' (lower is better)'}"


def in_units(metric: Metric) -> str:
    """The metric's title and its unit; of a gain, whose direction is always the same."""
    return metric.title + (f", {metric.unit}" if metric.unit not in ("", metric.title) else "")


def on_test_rows(name: str, point: Mapping[str, Any]) -> str:
    """A point of the frontier in words: `On 144 test rows accuracy is 0.750`."""
    metric = metric_named(name)
    return f"On {point['rows']:,} test rows {heading(metric)} is {number(metric, point['test'])}"


def duration(seconds: float) -> str:
    """`0.8 s`, `45 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(num_bytes: float) -> str:
    """`812 B`, `4.3 MB`, `1.2 GB`; powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def without_leaks(evidence: Evidence) -> str:
    """What the test rows that training has seen too would change, as a sentence; "" where there are none."""
    found = evidence.details.get("without_leaks")
    if not found:
        return ""
    metric = metric_named(evidence.metric)
    scores = (
        f"{system_title(name)} {number(metric, score['value'] if isinstance(score, Mapping) else score.value)}"
        for name, score in found.get("all_rows", found["systems"]).items()
    )
    total = found["leaked"] + found["rows"]
    said = f"{found['leaked']:,} of {total:,} test rows are equal or nearly equal to rows that were trained on."
    if not found["rows"]:
        return (
            f"{said} None is left: these scores say how well the training rows are known, not what new rows would get."
        )
    if "all_rows" in found:
        return f"{said} They are left out of everything here; with them {metric.title} is: {', '.join(scores)}."
    return f"{said} Without them {metric.title} is: {', '.join(scores)} (n = {found['rows']:,})."


def costs(values: Mapping[str, float]) -> list[str]:
    """What the run took, one phrase each; a cost that is unknown here keeps its own name."""
    left = dict(values)
    phrases = []
    if "seconds" in left:
        phrases.append(duration(left.pop("seconds")))
    if "steps" in left:
        phrases.append(f"{left.pop('steps'):,.0f} steps")
    if "peak_memory_bytes" in left:
        phrases.append(f"peak memory {size(left.pop('peak_memory_bytes'))}")
    if "trainable_parameters" in left:
        phrases.append(_parameters(left.pop("trainable_parameters"), left.pop("total_parameters", 0)))
    if "saved_bytes" in left:
        phrases.append(f"{size(left.pop('saved_bytes'))} saved")
    return phrases + [f"{name.replace('_', ' ')} {value:g}" for name, value in left.items()]


def _parameters(trainable: float, total: float) -> str:
    share = f" of {total:,.0f} ({trainable / total:.2%})" if total else ""
    return f"{trainable:,.0f}{share} parameters trained"
