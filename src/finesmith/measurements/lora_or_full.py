"""LoRA against full fine-tuning, each at its own best of three learning rates: the same quality, and what it costs.

Three rates around each method's own default, chosen on the validation rows; comparing both at one rate is the classic
false result. "The same" needs an interval: `low90` and `high90` of full minus LoRA are for an equivalence test within
`delta`, which is settled before: the smallest useful gain, or one point. A margin that grew with the noise would call
two methods the same because too few rows were asked; `detectable`, the least effect that they show, stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from finesmith.evidence import plain, verdict
from finesmith.measurements import _arms, _general, _knowledge, _speaker
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import Metric
from finesmith.types import Prediction
from finesmith.watch import Watcher

STEPS = (1 / 3, 1.0, 3.0)
"""Times the method's default learning rate."""
LOST = {
    "change_bits_per_byte": "more bits per byte of general text",
    "loss_probe_accuracy": "fewer passages of general text whose kind a linear probe tells",
}
"""What is lost, in words."""
DETECTED = 2.8  # standard errors: found four times out of five at 95 % confidence, 1.96 + 0.84


@dataclass(frozen=True)
class _Arm:
    """The best of a method's three trainings."""

    rate: float
    tried: Mapping[float, float]
    answers: list[Prediction]
    costs: Mapping[str, float]
    knowledge: _knowledge.Knowledge | None = None


@dataclass(frozen=True)
class LoraOrFull:
    """Opponents called `lora` and `full`."""

    title: str = "LoRA against full fine-tuning"
    priority: int = 3
    effort: Effort = "full"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("minimum_gain",)

    def skips(self, study: Study) -> str:
        """Adapters on random weights learn nothing, quantised weights cannot move, and muon is not for adapters."""
        if study.recipe.train.optimizer == "muon":
            return "the run's optimizer, muon, is for whole matrices, of which LoRA moves none"
        if study.recipe.model.quantize != "none" or _quantised(study):
            return "the weights of a quantised base cannot move"
        return "the base has random weights, to which LoRA adds little" if study.recipe.model.from_scratch else ""

    def cost(self, study: Study) -> float:
        """Three trainings of each method, which may stop later than the run did; each may be the best so far, whose
        model answers the test rows and reads the passages, as the base does once."""
        trainings = sum(_arms.seconds(study, method, study.planned_steps) for method in ("lora", "full"))
        reading = _general.READING[study.task.kind]
        rows = len(study.splits.validation) + len(study.splits.test) + reading
        return len(STEPS) * (trainings + 2 * rows * study.answer_seconds) + reading * study.answer_seconds

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Six trainings; both methods answer the test rows."""
        arms = {method: _sweep(study, watcher, method) for method in ("lora", "full")}
        full, lora = arms["full"].answers, arms["lora"].answers
        gap, ninety = study.gain(full, over=lora), study.gain(full, over=lora, confidence=0.9)
        numbers = {
            "difference": gap,
            "low90": ninety.low,
            "high90": ninety.high,
            **{name: _numbers(arm, study) for name, arm in arms.items()},
            **_forgotten(study, arms["full"].knowledge, arms["lora"].knowledge),
        }
        return replace(_told(study, numbers), systems={name: arm.answers for name, arm in arms.items()})

    def retold(self, study: Study, values: Mapping[str, Any]) -> Measured:
        """The same trainings, with another smallest useful gain for a margin."""
        return _told(study, values["numbers"])


def _quantised(study: Study) -> bool:
    """Whether the base's checkpoint itself holds weights of few bits."""
    from finesmith.models import load, quantize

    return quantize.stays(load.load_config(study.recipe.model))


def _told(study: Study, numbers: Mapping[str, Any]) -> Measured:
    """What was measured, beside the margin and what these test rows can show."""
    metric, gap = study.primary, plain.estimate(numbers["difference"])
    delta = margin(metric, numbers["full"]["score"], study.minimum_gain)
    ends = (numbers["low90"], numbers["high90"])
    low, high = ("open" if end is None else verdict.signed(metric, end) for end in ends)
    missing = {} if "knowledge" in numbers else {"what LoRA and full fine-tuning forget": "it was not measured"}
    return Measured(
        says=f"{verdict.beside(metric, 'full fine-tuning', 'LoRA')}: {verdict.gained(metric, gap.value)} "
        f"(90 % interval {low} to {high}, "
        f"margin {verdict.number(metric, delta)}){_said(numbers.get('knowledge'))}",
        numbers={**numbers, "delta": delta, "detectable": DETECTED * (gap.high - gap.low) / (2 * 1.96)},
        missing=missing,
    )


def _forgotten(study: Study, full: _knowledge.Knowledge | None, lora: _knowledge.Knowledge | None) -> dict[str, Any]:
    """What both have lost of the base's knowledge, by the name that `retention` has for it, and the difference."""
    if full is None or lora is None:
        return {}
    study.forget()
    base, seed = _knowledge.look(study, study.base().loaded), study.recipe.seed
    lost = {name: _knowledge.lost(base, each, seed=seed) for name, each in (("lora", lora), ("full", full))}
    return {"knowledge": {"of": base.name, **lost, "difference": _knowledge.lost(base, full, lora, seed=seed)}}


def _said(knowledge: Mapping[str, Any] | None) -> str:
    if knowledge is None:
        return ""
    full, lora, gap = (plain.estimate(knowledge[name]) for name in ("full", "lora", "difference"))
    return (
        f"; {LOST[knowledge['of']]} than the base: {full.value:+.1%} after full fine-tuning, "
        f"{lora.value:+.1%} after LoRA (difference {gap.value:+.1%}, 95 % interval {gap.low:+.1%} to {gap.high:+.1%})"
    )


def _sweep(study: Study, watcher: Watcher, method: str) -> _Arm:
    sign = 1.0 if study.primary.higher_is_better else -1.0
    tried: dict[float, float] = {}
    best: _Arm | None = None
    _speaker.prepare(study)
    for rate in rates(study, method):
        with study.retrained(watcher, **_arms.settings(study, method, learning_rate=rate)) as arm:
            tried[rate] = study.score(study.splits.validation, arm.predict(study.splits.validation))
            if best is None or sign * tried[rate] > sign * tried[best.rate]:
                knowledge = _knowledge.look(study, arm.model.loaded)
                best = _Arm(rate, tried, arm.predict(study.splits.test), dict(arm.costs), knowledge)
    assert best is not None
    return best


def rates(study: Study, method: str) -> list[float]:
    """Three learning rates: the run's own in the middle where it used this method, else the method's default."""
    from finesmith import registry

    own = study.recipe.train.learning_rate
    if study.recipe.method == method and own != "auto":
        middle = float(own)
    else:
        plugin = registry.resolve("methods", method)
        total = int(study.evidence.costs["total_parameters"])
        middle = float(plugin(plugin.Settings()).learning_rate(total))
    return [step * middle for step in STEPS]


def margin(metric: Metric, value: float, minimum_gain: float) -> float:
    """The smallest useful gain, else a point: a hundredth of the metric's range, or of the value where it has none."""
    span = metric.limits[1] - metric.limits[0]
    return minimum_gain or 0.01 * (span if math.isfinite(span) else abs(value))


def _numbers(arm: _Arm, study: Study) -> dict[str, Any]:
    return {
        "learning_rate": arm.rate,
        "learning_rates": dict(arm.tried),
        "score": study.score(study.splits.test, arm.answers),
        "trainable_parameters": arm.costs["trainable_parameters"],
        "total_parameters": arm.costs["total_parameters"],
        "megabytes": arm.costs["kept_bytes"] / 1e6,
        "peak_memory_bytes": arm.costs["peak_memory_bytes"],
        "seconds": arm.costs["seconds"],
        "steps": arm.costs["steps"],
    }


PLUGIN = LoraOrFull()
