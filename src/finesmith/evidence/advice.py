"""What to do before anything large is trained: the rule of `finesmith advise`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from finesmith.evidence import verdict
from finesmith.metrics.base import Metric
from finesmith.types import Estimate, Finding

Decision = Literal["do not fine-tune", "mend the data first", "fine-tuning may be worth it", "open"]

FROZEN = "frozen"
"""What a linear head on the base's frozen features is called among the systems."""


def decide(
    metric: Metric,
    systems: Mapping[str, Estimate],
    gains: Mapping[str, Estimate],
    best: str,
    titles: Mapping[str, str],
    *,
    target: float | None,
    minimum_gain: float,
    findings: Sequence[Finding] = (),
    blind: bool = False,
) -> tuple[Decision, str]:
    """The rule as a word and a sentence.

    Blocking findings come first, and that training has seen every test row (`blind`). A target is reached where some
    opponent's whole interval is. There is no room where some opponent's whole interval lies within `minimum_gain` of a
    model without an error. With neither it may be worth it, and only `tune` and `compare` can say whether it is.
    """
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if blocking:
        return "mend the data first", f"Mend the data first: {blocking[0].what} {blocking[0].advice}"
    if blind:
        return "mend the data first", f"Mend the data first: {verdict.ALL_SEEN}"
    if not best:
        return "open", "Nothing could be measured without training: run finesmith tune, then finesmith compare."
    better = signed(metric)
    safest = max(systems, key=lambda name: (better * _worst(metric, systems[name]), name == best))
    reached = _reached(metric, titles[safest], systems[safest])
    if target is not None and better * _worst(metric, systems[safest]) >= better * target:
        said = f"that is the target of {verdict.number(metric, target)}; ship that"
        return "do not fine-tune", f"Do not fine-tune: {reached}, and {said}."
    room = _room(metric, _worst(metric, systems[safest]))
    if room <= minimum_gain:
        said = f"even a model without an error would gain no more than {verdict.number(metric, room)}"
        return "do not fine-tune", f"Do not fine-tune: {reached}; {said}. Ship that."
    reached, value = _reached(metric, titles[best], systems[best]), systems[best]
    here, most = _room(metric, value.value), _room(metric, _worst(metric, value))
    if here <= minimum_gain:
        gain = f"{verdict.number(metric, here)} on them, on others up to {verdict.number(metric, most)}"
        few = f"{reached}; a model without an error would gain {gain}. Test on more rows, or ship that."
        return (
            "fine-tuning may be worth it",
            f"Fine-tuning may be worth it, but the test rows are too few to know: {few}",
        )
    needed = f"it is worth it only if the tuned model beats this by {verdict.number(metric, minimum_gain)} or more, "
    rule = f"{needed}with a 95 % interval of the paired difference above 0, or matches it at a third of its cost a call"
    goal = f" (target {verdict.number(metric, target)})" if target is not None else ""
    return "fine-tuning may be worth it", f"Fine-tuning may be worth it: {reached}{goal}; {rule}.{_sign(gains)}"


def _reached(metric: Metric, title: str, value: Estimate) -> str:
    return f"{title} reaches {_interval(metric, value)} without fine-tuning"


def _sign(gains: Mapping[str, Estimate]) -> str:
    """What the base's own features say of its chances, where they are known."""
    if FROZEN not in gains:
        return ""
    if gains[FROZEN].low > 0:
        return " The base's frozen features are clearly behind it, a bad sign for this base: try a larger one."
    return ""


def signed(metric: Metric) -> float:
    """What a value is multiplied with, so that more is better."""
    return 1.0 if metric.higher_is_better else -1.0


def _worst(metric: Metric, value: Estimate) -> float:
    return value.low if metric.higher_is_better else value.high


def _room(metric: Metric, value: float) -> float:
    """How far it is to a model without an error; without end where the metric has no best value."""
    return float("inf") if metric.best is None else abs(metric.best - value)


def _interval(metric: Metric, value: Estimate) -> str:
    ends = f"{verdict.number(metric, value.low)} to {verdict.number(metric, value.high)}"
    return f"{metric.title} {verdict.number(metric, value.value)} (95 % interval {ends}, n = {verdict.rows(value)})"
