"""A claim about several rates, each of the tuned model against the stronger of its base and the best prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finesmith.errors import counted
from finesmith.evidence import equivalence
from finesmith.evidence.plain import estimate
from finesmith.types import Claim, Estimate, Outcome

SHOWN = 3
"""Rates that a sentence tells; the page has all."""


def judge(name: str, found: Mapping[str, Any]) -> Claim:
    """Several rates of one claim: one must be clearly better, and none clearly worse, each after Holm's correction.

    Each rate is judged against the stronger of base and best prompt: would a prompt have done? What is better low
    is not worse where the user's own answers have as much of it.
    """
    told = found.get("metrics", found)
    parts = dict(differences(told))
    if not parts:
        return Claim(name, "not measured", "Nothing could be counted.")
    prompted = any(isinstance(each, Mapping) and "difference_prompt" in each for each in told.values())
    rival = "the stronger of base and best prompt" if prompted else "the base (no prompt was measured)"
    adjusted = _adjusted(parts)
    better = [key for key, p in adjusted.items() if p < 0.05]
    fallen = _adjusted({key: -gap for key, gap in parts.items()})
    worse = [key for key, p in fallen.items() if p < 0.05 and not _as_in_your_own(told[key])]
    said = f"Tuned against {rival}, {counted(len(parts), 'rate')}; positive is better."
    for word, keys in (("Clearly better", better), ("Clearly worse", worse)):
        shown = [f"{key} {_signed(parts[key])}" for key in sorted(keys, key=lambda key: -abs(parts[key].value))]
        more = f", and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        said += f" {word}: {'; '.join(shown[:SHOWN])}{more}." if shown else f" {word}: none."
    outcome: Outcome = "inconclusive"
    if better and not worse:
        outcome = "supported"
    elif worse and not better:
        outcome = "not supported"
    return Claim(name, outcome, said, p=min(adjusted.values()), numbers={"better": better, "worse": worse})


def _adjusted(parts: Mapping[str, Estimate]) -> dict[str, float]:
    """Two-sided p values that a rate is better, for all rates together."""
    return equivalence.holm({key: 2 * min(0.5, equivalence.above(gap)) for key, gap in parts.items()})


def _as_in_your_own(each: Mapping[str, Any]) -> bool:
    own = each.get("own")
    return each.get("better") == "lower" and own is not None and each["tuned"] <= own


def _signed(gap: Estimate) -> str:
    return f"{gap.value:+.3g} ({gap.low:+.3g} to {gap.high:+.3g})"


def differences(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    """Tuned minus the stronger opponent of each rate, signed so that positive is better."""
    for name, each in metrics.items():
        if not isinstance(each, Mapping):
            continue
        gaps = [estimate(each[key]) for key in ("difference", "difference_prompt") if each.get(key) is not None]
        if each.get("better") == "lower":
            gaps = [-gap for gap in gaps]
        if gaps:
            yield name, min(gaps, key=lambda gap: gap.value)
