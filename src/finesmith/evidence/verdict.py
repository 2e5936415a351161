"""From estimates to the words: was the fine-tuning worth it? Pure; it says no more than the paired intervals do.

"Clear" means that the 95 % interval of the paired difference does not include 0. The strongest opponent is picked on
the test rows themselves, which leans against the tuned model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from finesmith.errors import counted
from finesmith.metrics.base import Metric
from finesmith.types import Estimate, Evidence

TUNED, BASE = "tuned", "base"


ALL_SEEN = "training has seen every test row, or nearly. Test with rows of their own (data.test=FILE)."
"""What there is to say where no test row is left to judge on."""
HEAD = "a linear head on the base's frozen features"
TITLES = {"frozen": HEAD}
"""Cheap opponents that are no plug-in: what they are called."""
NAMES = {
    "prompt": "the base with the best prompt",
    "prompt-zero-shot": "the base prompted without examples",
    "prompt-examples": "the base prompted with fixed examples",
    "prompt-retrieved": "the base prompted with the nearest examples",
    "scratch": "the same model from random weights",
    "lora": "LoRA at its best learning rate",
    "full": "full fine-tuning at its best learning rate",
}
"""What other systems are called that the evidence may hold."""


@dataclass(frozen=True)
class Loss:
    """The held-out loss of tuned and base, and the paired gain: what to look at where the primary metric is blind."""

    metric: Metric
    tuned: Estimate
    base: Estimate
    gain: Estimate


def base_is_head(evidence: Evidence) -> bool:
    """Whether the system `base` is a head that was fitted on the user's rows, because this base cannot answer without:
    an encoder, or one of whose labels several may hold."""
    return BASE in evidence.systems and "zero-shot" in evidence.not_measured


def sentence(
    metric: Metric,
    systems: Mapping[str, Estimate],
    gains: Mapping[str, Estimate],
    *,
    titles: Mapping[str, str],
    ways: Mapping[str, str] | None = None,
    loss: Loss | None = None,
    minimum_gain: float = 0.0,
    base: str = "the base",
) -> str:
    """The verdict: tuned against base, then against the strongest other opponent; without a base, against that one.

    Args:
        metric: the primary metric.
        systems: every system's value on it.
        gains: tuned minus each opponent, positive is better.
        titles: what the cheap opponents (baselines) are called; other opponents are called as in `NAMES`.
        ways: how to get a cheap opponent, in a few words; "no GPU needed" where it does not say; "" gives no advice.
        loss: of tuned and base, where it is known and not itself the primary metric.
        minimum_gain: the smallest gain that is of use.
        base: what the system `base` is called.
    """
    ways = {name: "no GPU needed" for name in titles} | {**(ways or {})}
    if TUNED not in systems:
        return f"Not measured: there is no {metric.title} of the tuned model."
    rival = min(gains.keys() - {BASE}, key=lambda name: (gains[name].value, name), default=None)
    if BASE in gains:
        start = f"{_against(metric, systems, gains, BASE, base, minimum_gain)}.{_unseen(metric, gains, loss)}"
        return f"{start} {_rival(metric, systems, gains, rival, titles, ways)}" if rival else start
    if rival:
        start = _against(metric, systems, gains, rival, titles.get(rival) or NAMES.get(rival, rival), minimum_gain)
        return f"{start}{_advice(gains[rival], ways.get(rival))}. The base was not measured."
    tuned = systems[TUNED]
    interval = f"95 % interval {number(metric, tuned.low)} to {number(metric, tuned.high)}, n = {rows(tuned)}"
    return f"Nothing to compare with: {_phrase(metric, tuned)} ({interval}); whether that is a gain is not known."


def _against(
    metric: Metric,
    systems: Mapping[str, Estimate],
    gains: Mapping[str, Estimate],
    name: str,
    title: str,
    minimum_gain: float,
) -> str:
    """`Clear gain: accuracy 0.873 against 0.652 for the base (+0.221, ...)`."""
    tuned, other = systems[TUNED], systems[name]
    values = f"{_phrase(metric, tuned)} against {number(metric, other.value)}{_unit_after(metric)} for {title}"
    return f"{headline(metric, gains[name], minimum_gain)}: {values} ({difference(metric, gains[name], tuned, other)})"


def _unseen(metric: Metric, gains: Mapping[str, Estimate], loss: Loss | None) -> str:
    """` But the held-out loss clearly fell: ...`, where the primary metric shows no difference and the loss does."""
    if loss is None or not gains[BASE].low <= 0 <= gains[BASE].high or loss.gain.low <= 0:
        return ""
    before, after = number(loss.metric, loss.base.value), number(loss.metric, loss.tuned.value)
    numbers = difference(loss.metric, loss.gain, loss.tuned, loss.base)
    return (
        f" But the {loss.metric.title} clearly fell, from {before} to {after}{_unit_after(loss.metric)} ({numbers}): "
        f"it learnt something that {metric.title} does not show."
    )


def _rival(
    metric: Metric,
    systems: Mapping[str, Estimate],
    gains: Mapping[str, Estimate],
    name: str,
    titles: Mapping[str, str],
    ways: Mapping[str, str],
) -> str:
    """`TF-IDF + linear SVM reaches 0.861: no clear difference (...); consider shipping that instead.`"""
    gain, title = gains[name], titles.get(name) or NAMES.get(name, name)
    outcome = "clearly beaten" if gain.low > 0 else "clearly better" if gain.high < 0 else "no clear difference"
    numbers = difference(metric, gain, systems[TUNED], systems[name])
    reaches = f"{title[0].upper()}{title[1:]} reaches {number(metric, systems[name].value)}"
    return f"{reaches}: {outcome} ({numbers}){_advice(gain, ways.get(name))}."


def _advice(gain: Estimate, way: str | None) -> str:
    """What to do about a cheap opponent that is not clearly beaten, and how to get it."""
    if gain.low > 0 or not way:
        return ""
    return f"; {'ship' if gain.high < 0 else 'consider shipping'} that instead ({way})"


def headline(metric: Metric, gain: Estimate, minimum_gain: float) -> str:
    """The first words: a clear gain, a clear but small one, none, or a loss."""
    if gain.high < 0:
        return "Worse"
    if gain.low <= 0:
        return "No clear gain"
    if gain.value < minimum_gain:
        return f"Clear gain, but below the {number(metric, minimum_gain)} asked for"
    return "Clear gain"


def difference(metric: Metric, gain: Estimate, ours: Estimate, theirs: Estimate) -> str:
    """`+0.221, 95 % interval +0.140 to +0.300, n = 128`; says so where the two were not measured on the same rows."""
    both = (
        f"n = {rows(gain)}" if gain.n == ours.n == theirs.n else f"on the {counted(gain.n, 'row')} that both answered"
    )
    interval = f"95 % interval {signed(metric, gain.low)} to {signed(metric, gain.high)}"
    return f"{gained(metric, gain.value)}, {interval}, {both}"


def prompted(way: str, shots: int | None) -> str:
    """How a prompt asks, in words: `with 8 examples, always the same`."""
    count = counted(shots, "example") if shots else "examples"
    ways = {"zero-shot": "without examples", "examples": f"with {count}, always the same"}
    return {**ways, "retrieved": f"with the {count} nearest to each question"}.get(way, way)


def number(metric: Metric, value: float) -> str:
    """A value with the decimals that its metric deserves."""
    return f"{value:.{metric.digits}f}" if math.isfinite(value) else "unknown"


def rows(estimate: Estimate) -> str:
    """Test rows behind a number: `320`, or `320 in 40 groups` where groups were drawn."""
    return str(estimate.n) + ("" if estimate.groups is None else f" in {counted(estimate.groups, 'group')}")


def signed(metric: Metric, value: float) -> str:
    """A difference with its sign; an exact or rounded zero has none."""
    shown = f"{value:+.{metric.digits}f}" if math.isfinite(value) else "unknown"
    return shown[1:] if shown[0] in "+-" and not shown.strip("+-0.") else shown


def gained(metric: Metric, value: float) -> str:
    """`+0.221`; where lower is better `gain +0.928`, because positive is better and the sign alone would say worse."""
    return f"{'' if metric.higher_is_better else 'gain '}{signed(metric, value)}"


def beside(metric: Metric, ours: str, theirs: str) -> str:
    """Whose `gained` it is: `Tuned minus the prompt`; where lower is better nothing is subtracted that way round."""
    return f"{ours} {'minus' if metric.higher_is_better else 'against'} {theirs}"


def _phrase(metric: Metric, estimate: Estimate) -> str:
    """`accuracy 0.873`, or `1.920 bits per byte` where the unit is the name."""
    value = number(metric, estimate.value)
    return f"{value} {metric.unit}" if metric.unit == metric.title else f"{metric.title} {value}"


def _unit_after(metric: Metric) -> str:
    return f" {metric.unit}" if metric.unit and metric.unit != metric.title else ""
