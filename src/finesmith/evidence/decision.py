"""What to do, in one plain sentence: use a cheap model, use the prompt, fine-tune, or label more first.

Fine-tuning is chosen only where the tuned model is clearly better than every cheaper way and by a useful amount, or as
good as the best prompt at a third of its tokens a call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finesmith.evidence import claims, verdict
from finesmith.evidence.compare import none_left, titles
from finesmith.metrics.base import Metric
from finesmith.types import Claim, Estimate, Evidence

UNASKED = " No prompt was asked: whether one would do as well is not known."
CHEAPER = 3.0
"""Times the tokens of a call that a prompt must cost for a tuned model that is only as good to be worth it."""
BESIDE = ("frozen", "base", "zero-shot")
"""Opponents that are no plug-in and no prompt: what there is without training the model."""


@dataclass(frozen=True)
class Rival:
    """A cheaper way: what to call it, what to do with it, and how much better the tuned model is."""

    name: str
    title: str
    gain: Estimate


def decide(
    evidence: Evidence,
    metric: Metric,
    numbers: claims.Numbers,
    *,
    minimum_gain: float = 0.0,
    ways: Mapping[str, str] | None = None,
    promptable: bool = False,
    judged: Sequence[Claim] = (),
) -> str:
    """The sentence. It names the numbers it rests on; `ways` says how to get a cheaper way, in a few words.
    `promptable` is whether the base could be prompted: where nobody did, that is said. `judged` are the claims that
    stand beside it: where these leave open what it says, that is said too."""
    found = rivals(evidence, numbers)
    best = strongest(evidence, numbers, minimum_gain=minimum_gain)
    if best is None or none_left(evidence.details):
        return evidence.verdict
    left = [rival for rival in found if not _beaten(rival, minimum_gain)]
    prompt = numbers.get("prompting", {})
    if left and all(rival.name == "prompt" for rival in left) and _pays(left[0], prompt, metric, minimum_gain):
        said = (
            f"as good as the best prompt, which takes {_tokens(prompt):.0f} times the tokens of a call{_time(prompt)}"
        )
        return f"Fine-tune: the tuned model is {said} ({_shown(metric, left[0])})."
    if not left:
        beaten = f"{best.title}, the strongest of the cheaper ways"
        more = UNASKED if promptable and "gain" not in prompt else ""
        more += _doubt(found, numbers, judged, minimum_gain)
        return f"Fine-tune: the tuned model beats {beaten} ({_shown(metric, best)}).{more}"
    more = _label_first(numbers.get("learning_curve", {}), best)
    how = f" ({how})" if (how := (ways or {}).get(best.name)) else ""
    way = f"{best.title}{how} until then" if more else f"{best.title}{how}"
    return f"{more}{'use' if more else 'Use'} {way}: {_why(metric, best, minimum_gain)}."


def strongest(evidence: Evidence, numbers: claims.Numbers, *, minimum_gain: float = 0.0) -> Rival | None:
    """The cheaper way that the decision is about: of those that are not beaten, else of all, the strongest."""
    found = rivals(evidence, numbers)
    left = [rival for rival in found if not _beaten(rival, minimum_gain)]
    return min(left or found, key=lambda rival: (rival.gain.value, rival.name == "prompt"), default=None)


def rivals(evidence: Evidence, numbers: claims.Numbers) -> list[Rival]:
    """The cheap baselines, the base, and the best prompt."""
    known = titles(evidence.gains)
    found = [Rival(name, known[name], gain) for name, gain in evidence.gains.items() if name in known]
    base = verdict.HEAD if verdict.base_is_head(evidence) else "the base as it is"
    named = {"base": base, "zero-shot": "the base without examples"}
    found += [
        Rival(name, named[name], evidence.gains[name]) for name in BESIDE if name in evidence.gains and name in named
    ]
    if "gain" in numbers.get("prompting", {}):
        found.append(Rival("prompt", "the prompt", claims.estimate(numbers["prompting"]["gain"])))
    return found


def _doubt(found: Sequence[Rival], numbers: claims.Numbers, judged: Sequence[Claim], minimum_gain: float) -> str:
    """What one training says and several leave open, or all claims together."""
    seeds = numbers.get("seeds", {})
    over = {name: claims.estimate(gain) for name, gain in (seeds.get("gains") or {}).items()}
    again = [replace(rival, gain=over[rival.name]) for rival in found if rival.name in over]
    said = ""
    if len(seeds.get("seeds", ())) >= 3 and (left := [each for each in again if not _beaten(each, minimum_gain)]):
        rival = min(left, key=lambda each: each.gain.value)
        count = len(seeds["seeds"])
        said = f" Over {count} trainings it is left open whether it beats {rival.title}: another training may not."
    if any(claim.name == claims.PROMPT and claims.lost_to_holm(claim) for claim in judged):
        said += (
            " Among all the claims that were measured it is left open whether it beats prompting (Holm's correction)."
        )
    return said


def _beaten(rival: Rival, minimum_gain: float) -> bool:
    return rival.gain.low > 0 and rival.gain.value >= minimum_gain


def _pays(rival: Rival, prompt: Mapping[str, Any], metric: Metric, minimum_gain: float) -> bool:
    """As good as the prompt within a hundredth of the range, at a third of the tokens; and of those of every other way
    to prompt that is not beaten. The best was chosen by its score alone: a way without examples may do as well."""
    span = metric.limits[1] - metric.limits[0]
    margin = 0.01 * span if math.isfinite(span) else 0.0
    others = {way: Rival(way, way, claims.estimate(gain)) for way, gain in prompt.get("gains", {}).items()}
    open_ways = [way for way, each in others.items() if not _beaten(each, minimum_gain)]
    dear = all(_tokens(prompt, way) >= CHEAPER for way in (prompt.get("best"), *open_ways))
    return rival.gain.low > -margin and dear


def _tokens(prompt: Mapping[str, Any], way: str | None = None) -> float:
    """Tokens read and written for an answer of a way to prompt (the best), for one of the tuned model; 0 where not
    measured."""
    asked, ours = _calls(prompt, way)
    theirs, own = (sum(float(_of(call, part)) for part in ("read", "written")) for call in (asked, ours))
    return theirs / own if theirs and own else 0.0


def _time(prompt: Mapping[str, Any]) -> str:
    """` and took 9 times as long here (90 ms against 10 ms)`."""
    theirs, own = (float(_of(call, "milliseconds")) for call in _calls(prompt))
    if not (theirs and own):
        return ""
    times = f"{theirs / own:.1f}" if theirs < 10 * own else f"{theirs / own:.0f}"
    return f" and took {times} times as long here ({theirs:.3g} ms against {own:.3g} ms)"


def _calls(prompt: Mapping[str, Any], way: str | None = None) -> tuple[Any, Any]:
    """What an answer of a way to prompt (the best) takes and what one of the tuned model, as measured."""
    known = prompt.get("calls", {})
    return known.get(f"prompt-{way or prompt.get('best')}"), known.get("tuned")


def _of(call: Any, part: str) -> float:
    """From memory or from a file; 0 of what was not measured."""
    return call.get(part, 0.0) if isinstance(call, Mapping) else getattr(call, part, 0.0)


def _label_first(curve: Mapping[str, Any], rival: Rival) -> str:
    """`Label about 400 more first; `, where the curve is not flat and would reach what beats the rival.

    The range of the curve is wide: where the rival is near, its upper end is past it with the labels there are.
    """
    more = curve.get("labels_to_beat")
    if not more or curve["flat"] or more["low"] is None or (rival.gain.high <= 0 and more["high"] is None):
        return ""
    if curve["gain_2x"]["value"] < curve["useful_gain"]:
        return ""
    if more["high"] is None and more["low"]:
        return f"Label at least {_round(more['low'])} more first, and "
    count = more.get("value") if more["high"] is None else (more["low"] + more["high"]) / 2
    return f"Label about {_round(count)} more first, and " if count else ""


def _round(count: float) -> str:
    """To one or two digits: nothing here is known better."""
    if count < 100:
        return f"{max(10, round(count, -1)):,.0f}"
    return f"{round(count, 1 - math.floor(math.log10(count))):,.0f}" if count >= 1000 else f"{round(count, -2):,.0f}"


def _why(metric: Metric, rival: Rival, minimum_gain: float) -> str:
    gain = rival.gain
    if gain.high < 0:
        return f"it is clearly better than the tuned model ({_shown(metric, rival)})"
    if gain.low > 0:
        wanted = verdict.number(metric, minimum_gain)
        return f"the tuned model is better, but by less than the {wanted} that is of use ({_shown(metric, rival)})"
    return f"the tuned model is not clearly better ({_shown(metric, rival)})"


def _shown(metric: Metric, rival: Rival) -> str:
    gain = rival.gain
    ends = f"{verdict.signed(metric, gain.low)} to {verdict.signed(metric, gain.high)}"
    return f"{verdict.gained(metric, gain.value)} {metric.title}, 95 % interval {ends}, n = {verdict.rows(gain)}"
