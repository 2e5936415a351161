"""How near is the base to the domain, and what did the tuning add? Described, never judged: one data set shows no law.

Pure: numbers in, a claim out. Level is what the base makes of the rows before training, beside the shipped passages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finesmith.evidence import verdict
from finesmith.metrics.base import Metric
from finesmith.types import Claim, Evidence

WHY = "One data set cannot show it: it is about many."
ELSEWHERE = "finesmith check --model BASE says more of level and headroom."


def judge(name: str, evidence: Evidence, metric: Metric, retention: Mapping[str, Any]) -> Claim:
    """The claim, which stays not measured, with the level, the place among the passages and the gain of this run.

    Args:
        retention: the numbers of that measurement; none where it was not made.
    """
    told = [*_level(evidence, retention), *_probe(evidence, metric), *_gain(evidence, metric)]
    here = f" Here: {'; '.join(told)}." if told else ""
    return Claim(name, "not measured", f"{WHY}{here} {ELSEWHERE}", numbers=dict(retention.get("your_rows", {})))


def _level(evidence: Evidence, retention: Mapping[str, Any]) -> list[str]:
    """Bits per byte of the rows before and after, and beside each kind of general text."""
    rows = retention.get("your_rows")
    if not rows:
        return []
    what = "your answers, given their prompts" if evidence.task == "generation" else "your rows"
    own, after = rows["base_bits_per_byte"], rows["tuned_bits_per_byte"]
    kinds = {kind: each["base_bits_per_byte"] for kind, each in retention["kinds"].items()}
    nearer = sum(bits < own for bits in kinds.values())
    beside = f"{own / retention['base_bits_per_byte']:.2f} times general text"
    rank = f"{nearer} of {len(kinds)} kinds of shipped text are nearer to it"
    return [f"the base needs {own:.2f} bits per byte of {what}, {beside} ({rank}), the tuned model {after:.2f}"]


def _probe(evidence: Evidence, metric: Metric) -> list[str]:
    """What a linear head reads off the frozen features."""
    name = "base" if verdict.base_is_head(evidence) else "frozen"
    score = evidence.systems.get(name, {}).get(evidence.metric)
    return [f"{verdict.HEAD} reaches {metric.title} {verdict.number(metric, score.value)}"] if score else []


def _gain(evidence: Evidence, metric: Metric) -> list[str]:
    gain = evidence.gains.get("base")
    return [f"over the base the tuning brings {verdict.gained(metric, gain.value)} {metric.title}"] if gain else []
