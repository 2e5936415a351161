"""The claim that the base's knowledge is kept: on general text, on the user's prompts, at a weaker strength. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finesmith.evidence import equivalence
from finesmith.evidence.plain import estimate
from finesmith.types import Claim, Estimate

BITS, PROBE = "change_bits_per_byte", "loss_probe_accuracy"
"""What is worse than the base: relative bits per byte of texts, or an encoder's share of passages told apart."""
KEPT = 0.95
"""Share of the gain that a weaker strength must keep."""


def judge(name: str, found: Mapping[str, Any], frontier: Mapping[str, Any]) -> Claim:
    """Supported where the loss is within the margin: as tuned, or at a strength that keeps most of the gain.

    The strength was chosen on other passages than those that decide here. The user's prompts were asked at full
    strength alone, so where they are not kept, or are not shown to be, no weaker strength can stand in.
    """
    key = BITS if BITS in found else PROBE
    change, margin, prompts = estimate(found[key]), float(found["margin"]), _prompts(found)
    said = f"{_WHAT[key]} {shown(change)}, margin {100 * margin:g} %."
    if prompts is not None:
        said += f" Bits per byte on your prompts rose by {shown(prompts)}."
    numbers: dict[str, Any] = {"change": change, "margin": margin, **({"prompts": prompts} if prompts else {})}
    p = max(_p(each, margin) for each in (change, prompts) if each is not None)
    keep = _keep(frontier, key) if prompts is None or found["prompts"]["retained"] else None
    retained, p_keep = found.get("retained", change.high <= margin), 1.0
    if keep is not None and keep["kept"] >= KEPT:  # one of two ways is enough, so both are counted
        p, p_keep = min(1.0, 2 * p), min(1.0, 2 * _p(keep["loss"], margin))
    if not retained:
        p = min(p, p_keep)
    if retained:
        return Claim(name, "supported", said, p=p, numbers=numbers)
    if keep is not None and keep["loss"].high < margin and keep["kept"] >= KEPT:
        said += (
            f" At strength {keep['scale']:g} it is within the margin ({shown(keep['loss'])}) and keeps {_gain(keep)}."
        )
        return Claim(name, "supported", said, p=p, numbers={**numbers, **keep})
    said += _why_not(frontier, key, keep, margin, prompted=prompts is not None)
    lost = found.get("lost", change.low > margin)
    return Claim(name, "not supported" if lost else "inconclusive", said, p=p, numbers=numbers)


_WHAT = {BITS: "The bits per byte on general text rose by", PROBE: "A probe of its features lost"}


def shown(change: Estimate) -> str:
    """`+2.50 % (+2.10 to +2.90 %)`; one text leaves it open."""
    if not math.isfinite(change.high - change.low):
        return f"{100 * change.value:+.2f} % (one text, which leaves it open)"
    return f"{100 * change.value:+.2f} % ({100 * change.low:+.2f} to {100 * change.high:+.2f} %)"


def _p(change: Estimate, margin: float) -> float:
    """Two-sided, that the loss is below the margin."""
    return 2 * min(0.5, equivalence.above(-change, -margin))


def _prompts(found: Mapping[str, Any]) -> Estimate | None:
    return estimate(found["prompts"][BITS]) if "prompts" in found else None


def _keep(frontier: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """The strength that was chosen to keep the knowledge: its loss on passages that did not choose it, the share of the
    tuned model's gain that it keeps on the test rows, and the least that the intervals of both gains leave of it."""
    keep, ends = (frontier.get("operating_points") or {}).get("keep"), frontier.get("ends") or {}
    if not isinstance(keep, Mapping) or not keep.get("scale") or keep["scale"] == 1 or key not in keep:
        return None
    whole, lost = estimate(ends["0"]["tuned_gains"]), estimate(keep["tuned_gains"])
    return {
        "scale": float(keep["scale"]),
        "loss": estimate(keep[key]),
        "kept": 1.0 - lost.value / whole.value if whole.value > 0 else 0.0,
        "kept_at_least": 1.0 - max(0.0, lost.high) / whole.low if whole.low > 0 else 0.0,
    }


def _gain(keep: Mapping[str, Any]) -> str:
    told = f"{100 * keep['kept']:.0f} % of the gain"
    return told if keep["kept_at_least"] >= KEPT else f"{told}, which the test rows alone do not settle"


def _why_not(
    frontier: Mapping[str, Any], key: str, keep: Mapping[str, Any] | None, margin: float, *, prompted: bool
) -> str:
    """Why no weaker strength saves the claim, where strengths were measured."""
    if not frontier:
        return ""
    start = (frontier.get("ends") or {}).get("0", {})
    if key in start and estimate(start[key]).high >= margin > 0:
        return " For a weaker strength it cannot be shown with these passages: they are too few for this margin."
    if keep is None:
        return " At a weaker strength your prompts were not asked." if prompted else _NONE
    if keep["loss"].high >= margin:
        told = (
            f"At strength {keep['scale']:g}, which was chosen to keep it, it is {shown(keep['loss'])} on other passages"
        )
        return f" {told}: not shown to be within the margin."
    return _NONE


_NONE = " No strength between base and tuned keeps 95 % of the gain within the margin."
