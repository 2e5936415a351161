"""Are there labels enough? Judged by what the learning curve foretells. Pure: numbers in, a claim out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finesmith.evidence import verdict
from finesmith.metrics.base import Metric
from finesmith.types import Claim


def judge(name: str, metric: Metric, found: Mapping[str, Any]) -> Claim:
    """The claim: from the range at twice the labels, and from the labels that a goal would take."""
    if "gain_2x" not in found:
        return Claim(name, "inconclusive", "There are too few points for a learning curve.")
    twice, useful = found["gain_2x"], found["useful_gain"]
    low, high = (verdict.signed(metric, twice[end]) for end in ("low", "high"))
    verb = "change" if metric.higher_is_better else "improve"  # a gain: what is lower is then positive
    said = f"Twice the labels would {verb} {metric.title} by {low} to {high}"
    if (miss := found.get("left_out_miss")) is not None:
        said += f" (the last point, left out, was missed by {verdict.number(metric, miss)})"
    more = found.get("more_labels")
    to_beat = found.get("labels_to_beat")
    known = {"more_labels": more, "labels_to_beat": to_beat}
    numbers = {"gain_2x": twice, "useful_gain": useful, **{key: each for key, each in known.items() if each}}
    if more and more["high"] == 0:
        return Claim(name, "supported", f"{said}, and the target is reached already.", numbers=numbers)
    if found["flat"]:
        return Claim(name, "supported", f"{said}: less than the {useful:g} that is of use.", numbers=numbers)
    wanted = _more(more, "the target") or _more(to_beat, "what beats the strongest of the cheaper ways")
    if twice["low"] > 0 and twice["value"] >= useful:
        return Claim(name, "not supported", f"{said}: the curve is still steep.{wanted}", numbers=numbers)
    return Claim(name, "inconclusive", f"{said}.{wanted}{_decidable(metric, found)}", numbers=numbers)


def _decidable(metric: Metric, found: Mapping[str, Any]) -> str:
    """With which smallest useful gain this range would say that there are labels enough."""
    high, useful, least = found["gain_2x"]["high"], found["useful_gain"], found.get("least_half_width")
    if least is None or high < useful:
        return ""
    enough = (math.floor(high * 10**metric.digits) + 1) / 10**metric.digits
    never = f"no range is narrower than ±{verdict.number(metric, least)} here, however flat the curve, so "
    asked = f"with --minimum-gain {verdict.number(metric, enough)} there would be labels enough."
    said = f"{never if useful <= least else ''}{asked}"
    return f" {said[0].upper()}{said[1:]}"


def _more(more: Mapping[str, Any] | None, goal: str) -> str:
    """How many labels would reach the goal, as a range; "" where nothing was asked, or the curve is past it."""
    if not more or more["high"] == 0:
        return ""
    low, high = more["low"], more["high"]
    if low is None:
        return f" Even the upper end of the range misses {goal} with four times the labels."
    if high is None and not low:
        return f" How many more labels {goal} would take, the range leaves open."
    shown = f"{low:,.0f} more labels at least" if high is None else f"{low:,.0f} to {high:,.0f} more labels"
    return f" {goal[0].upper()}{goal[1:]} would take {shown}."
