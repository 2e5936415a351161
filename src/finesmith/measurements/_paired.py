"""Systems on the same rows: a rate of each, and the tuned model's difference to each other with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from finesmith.evidence import levels, stats
from finesmith.types import Estimate

Table = Mapping[int, tuple[float, float]]
"""Of the rows, by their place, a count and what it is counted in."""
Rates = Sequence[tuple[float, float]] | np.ndarray
"""Of each row a count and what it is counted in: [N, 2]."""


def compared(
    ours: Rates,
    theirs: Rates,
    *,
    seed: int,
    scale: float = 1.0,
    better: Literal["higher", "lower"] = "higher",
    clusters: Sequence[int] | None = None,
) -> dict[str, Any] | None:
    """`tuned`, `base` and `difference` (tuned minus base) of rates over the same rows; None where nothing was counted.

    A row in which neither has anything to count is no evidence and left out. Newcombe's interval where every row is
    right or wrong, else a bootstrap of whole rows (all that was counted in one row is drawn together). `scale` is the
    range of a rate; `clusters` [N] are drawn as wholes where rows belong together.
    """
    ones, others = (np.asarray(rates, float).reshape(-1, 2) for rates in (ours, theirs))
    counted = (ones[:, 1] > 0) | (others[:, 1] > 0)
    ones, others = ones[counted], others[counted]
    if not (ones[:, 1].sum() and others[:, 1].sum()):
        return None
    together = (
        None if clusters is None else [cluster for cluster, counts in zip(clusters, counted, strict=True) if counts]
    )
    if together is not None and len(set(together)) == len(together):
        together = None
    if all(np.all(rates[:, 1] == 1) and set(rates[:, 0]) <= {0.0, 1.0} for rates in (ones, others)):
        sides = ones[:, 0], others[:, 0]
        difference = stats.newcombe(*sides) if together is None else levels.newcombe(*sides, together)
    else:
        both = np.concatenate([ones, others], axis=1)
        drawn = both if together is None else levels.sums(both, together)
        difference = _drawn(drawn, scale, seed)
        if together is not None:
            difference = replace(difference, n=len(both), groups=len(drawn))
    return {
        "tuned": float(ones[:, 0].sum() / ones[:, 1].sum()),
        "base": float(others[:, 0].sum() / others[:, 1].sum()),
        "difference": difference,
        "better": better,
    }


def _drawn(rows: np.ndarray, scale: float, seed: int) -> Estimate:
    """The difference over resampled rows [N, 4]. Where the systems count in other rows, and one of them in few or with
    one outcome alone, those resamples do not know how little that is: then each is drawn alone too."""
    difference = stats.over_rows(_difference, rows, seed=seed, limits=(-scale, scale))
    sides = [side[side[:, 1] > 0] for side in (rows[:, :2], rows[:, 2:])]
    thin = any(len(side) <= stats.FEW or np.ptp(side[:, 0] / side[:, 1]) == 0 for side in sides)
    if len(sides[0]) == len(sides[1]) == len(rows) or not thin:
        return difference
    low, high = stats.apart(*(stats.over_rows(_rate, side, seed=seed, limits=(0.0, scale)) for side in sides))
    return replace(difference, low=max(-scale, min(difference.low, low)), high=min(scale, max(difference.high, high)))


def against(sides: Mapping[str, Table], **more: Any) -> dict[str, Any] | None:
    """`compared` of `tuned` and `base`, and beside them `prompt` and `difference_prompt` where there is a prompt.

    Each pair is compared on the rows that both answered. None where nothing was counted. `clusters` is by place too.
    """
    found = _of_two(sides["tuned"], sides["base"], **more)
    other = _of_two(sides["tuned"], sides["prompt"], **more) if found and "prompt" in sides else None
    if found is None or other is None:
        return found
    return {**found, "prompt": other["base"], "difference_prompt": other["difference"]}


def _of_two(ours: Table, theirs: Table, *, clusters: Sequence[int] | None = None, **more: Any) -> dict[str, Any] | None:
    common = sorted(ours.keys() & theirs.keys())
    together = [clusters[place] for place in common] if clusters else None
    return compared([ours[place] for place in common], [theirs[place] for place in common], clusters=together, **more)


def said(name: str, found: Mapping[str, Any], digits: int = 2) -> str:
    """`term recall 0.81 against 0.12 for the base (+0.69, 95 % interval +0.61 to +0.77)`, then the prompt."""
    parts = [f"{found['base']:.{digits}f} for the base ({_gap(found['difference'], digits)})"]
    if "difference_prompt" in found:
        parts.append(f"{found['prompt']:.{digits}f} for the prompt ({_gap(found['difference_prompt'], digits)})")
    return f"{name} {found['tuned']:.{digits}f} against {' and '.join(parts)}"


def _gap(gap: Estimate, digits: int) -> str:
    value, low, high = (f"{round(each, digits) + 0.0:+.{digits}f}" for each in (gap.value, gap.low, gap.high))
    return f"{value}, 95 % interval {low} to {high}"


def _difference(sums: np.ndarray) -> np.ndarray:
    return _rate(sums[..., :2]) - _rate(sums[..., 2:])


def _rate(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]
