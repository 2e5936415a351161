"""What is said of fine-tuning, judged by the rules of docs/explanation/evidence.md. Pure: numbers in, claims out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finesmith.evidence import verdict
from finesmith.metrics.base import Metric
from finesmith.types import Claim, Evidence

Numbers = Mapping[str, Mapping[str, Any]]
"""The numbers of each measurement that was made, by its name."""


def judge(
    evidence: Evidence, metric: Metric, numbers: Numbers, missing: Mapping[str, str], *, minimum_gain: float = 0.0
) -> tuple[Claim, ...]:
    """Every claim with its outcome, in the order of the report."""
    return (_better_than_base(evidence, metric, minimum_gain),)


def decide(evidence: Evidence, metric: Metric, numbers: Numbers, judged: tuple[Claim, ...]) -> str:
    """What to do, in a sentence."""
    return evidence.verdict


def _better_than_base(evidence: Evidence, metric: Metric, minimum_gain: float) -> Claim:
    name = "fine-tuning improved the model"
    gain = evidence.gains.get("base")
    if gain is None:
        return Claim(name, "not measured", "The base was not measured.")
    ours, theirs = evidence.systems["tuned"][evidence.metric], evidence.systems["base"][evidence.metric]
    said = f"{verdict.headline(metric, gain, minimum_gain)}: {verdict.difference(metric, gain, ours, theirs)}."
    if gain.low > 0:
        return Claim(name, "supported", said, "B")
    return Claim(name, "not supported" if gain.high <= minimum_gain else "inconclusive", said, "B")
