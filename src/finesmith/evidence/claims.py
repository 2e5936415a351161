"""What is said of fine-tuning, judged by the rules of docs/explanation/evidence.md. Pure: numbers in, claims out.

What is said of all fine-tuning is judged here for this model and this data only. "Supported" asks that an interval lies
on the right side; what an interval leaves open is inconclusive, and what nobody measured is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from finesmith.evidence import enough, equivalence, knowledge, rates, similarity, verdict
from finesmith.evidence.compare import none_left
from finesmith.evidence.plain import estimate
from finesmith.metrics.base import Metric
from finesmith.types import Claim, Estimate, Evidence, Outcome

Numbers = Mapping[str, Mapping[str, Any]]
"""The numbers of each measurement that was made, by its name."""

IMPROVED = "fine-tuning improved the model"
PROMPT = "fine-tuning beats prompting alone"
LABELS = "there are labels enough"
LORA = "adapters match full fine-tuning at a lower cost"
KNOWLEDGE = "the base's knowledge is kept"
SCRATCH = "it takes less data than training from scratch"
SIMILARITY = "a base near the domain gains more"
ADHERENCE = "answers keep to terms, format and tone"
CONSISTENCY = "answers are consistent"
LEAKS = "test rows that training has seen"
"""Named among what was not measured where nobody looked for them."""
FAMILY = (PROMPT, LORA, KNOWLEDGE, SCRATCH, ADHERENCE, CONSISTENCY)
"""The claims that Holm's correction is for."""
NEEDS = {
    PROMPT: "prompting",
    LABELS: "learning_curve",
    LORA: "lora_or_full",
    KNOWLEDGE: "retention",
    SCRATCH: "scratch",
    ADHERENCE: "adherence",
    CONSISTENCY: "consistency",
}


def judge(
    evidence: Evidence, metric: Metric, numbers: Numbers, missing: Mapping[str, str], *, minimum_gain: float = 0.0
) -> tuple[Claim, ...]:
    """Every claim with its outcome, in the order of the report."""
    rules: dict[str, Callable[[], Claim]] = {
        PROMPT: lambda: _prompt(metric, numbers["prompting"], minimum_gain),
        LABELS: lambda: enough.judge(LABELS, metric, numbers["learning_curve"]),
        LORA: lambda: _lora(metric, numbers["lora_or_full"]),
        KNOWLEDGE: lambda: knowledge.judge(KNOWLEDGE, numbers["retention"], numbers.get("frontier", {})),
        SCRATCH: lambda: _scratch(evidence, metric, numbers["scratch"], minimum_gain),
        ADHERENCE: lambda: rates.judge(ADHERENCE, numbers["adherence"]),
        CONSISTENCY: lambda: rates.judge(CONSISTENCY, numbers["consistency"]),
    }
    found = [_improved(evidence, metric, minimum_gain)]
    for name, rule in rules.items():
        need = NEEDS[name]
        found.append(rule() if need in numbers else Claim(name, "not measured", _absent(need, missing)))
    found.insert(6, similarity.judge(SIMILARITY, evidence, metric, numbers.get("retention", {})))
    seeds = numbers.get("seeds", {})
    settled = (_unseen(_settled(claim, seeds), evidence) for claim in _corrected(found))
    return tuple(_graded(claim, evidence, seeds) for claim in settled)


def rows_needed(gain: Estimate) -> int:
    """Test rows that would show a gain of this size four times out of five; from the interval's width at these rows."""
    half = (gain.high - gain.low) / 2
    return math.ceil(gain.n * ((1.96 + 0.84) / 1.96 * half / abs(gain.value)) ** 2)


def _absent(need: str, missing: Mapping[str, str]) -> str:
    why = missing.get(need, "it is not part of this comparison")
    return f"{need}: {why}{'' if why.endswith('.') else '.'}"


def _improved(evidence: Evidence, metric: Metric, minimum_gain: float) -> Claim:
    gain = evidence.gains.get("base")
    if gain is None:
        return Claim(IMPROVED, "not measured", "The base was not measured.")
    ours, theirs = evidence.systems["tuned"][evidence.metric], evidence.systems["base"][evidence.metric]
    said = f"{verdict.headline(metric, gain, minimum_gain)}: {verdict.difference(metric, gain, ours, theirs)}."
    return _of_gain(IMPROVED, gain, minimum_gain, said)


def _of_gain(name: str, gain: Estimate, minimum_gain: float, said: str) -> Claim:
    """Supported above 0 with a useful value, not supported below what is useful, else open."""
    outcome: Outcome = "inconclusive"
    if gain.low > 0 and gain.value >= minimum_gain:
        outcome = "supported"
    elif gain.high < minimum_gain or gain.high <= 0:
        outcome = "not supported"
    elif 0 < gain.value < math.inf and gain.low <= 0 and gain.n and math.isfinite(gain.high - gain.low):
        said += f" About {rows_needed(gain):,} test rows would show a gain of this size."
    return Claim(
        name, outcome, said, p=2 * min(0.5, equivalence.above(gain)), numbers={"gain": gain, "useful": minimum_gain}
    )


def _prompt(metric: Metric, found: Mapping[str, Any], minimum_gain: float) -> Claim:
    gain = estimate(found["gain"])
    way = verdict.prompted(found.get("best", "of those tried"), found.get("shots"))
    said = f"{verdict.beside(metric, 'Tuned', f'the best prompt ({way})')}: {_interval(metric, gain)}."
    return _of_gain(PROMPT, gain, minimum_gain, said)


def _lora(metric: Metric, found: Mapping[str, Any]) -> Claim:
    gap, delta = estimate(found["difference"]), float(found["delta"])
    ninety = estimate({"value": gap.value, "low": found["low90"], "high": found["high90"], "n": gap.n})
    ninety = replace(ninety, groups=gap.groups)
    p = max(equivalence.above(ninety, -delta, 0.90), equivalence.above(-ninety, -delta, 0.90))
    said = (
        f"{verdict.beside(metric, 'Full fine-tuning', 'adapters')}: {_interval(metric, ninety, 90)}, "
        f"margin {verdict.number(metric, delta)}."
        f"{_costs(found)}"
    )
    outcome: Outcome = "inconclusive"
    if -delta < ninety.low and ninety.high < delta:
        outcome = "supported"
    elif gap.low > delta:
        outcome = "not supported"
    elif gap.high < -delta:
        said += " Adapters are better here."
    elif (found.get("detectable") or 0.0) > delta:  # null where the interval is open
        said += (
            f" Only {verdict.number(metric, found['detectable'])} or more would most likely show in these test rows."
        )
    return Claim(LORA, outcome, said, p=p, numbers={"difference": gap, "delta": delta})


def _costs(found: Mapping[str, Any]) -> str:
    """What the adapters cost beside all weights."""
    arms = [found.get(name) or found.get("costs", {}).get(name) or {} for name in ("lora", "full")]
    words = {
        "trainable_parameters": "weights moved",
        "megabytes": "MB kept",
        "peak_memory_bytes": "memory",
        "seconds": "time",
    }
    parts = [
        f"{word} {arms[0][key] / arms[1][key]:.0%}".replace("%", " %")
        for key, word in words.items()
        if arms[0].get(key) is not None and arms[1].get(key)
    ]
    return f" Of full fine-tuning's cost: {', '.join(parts)}." if parts else ""


def _scratch(evidence: Evidence, metric: Metric, found: Mapping[str, Any], minimum_gain: float) -> Claim:
    gap = estimate(found["gap"])
    other = f"the same model from scratch{_steps(evidence, found)}"
    said = f"{verdict.beside(metric, 'Tuned', other)}: {_interval(metric, gap)}."
    said += _worth(found)
    claim = _of_gain(SCRATCH, gap, minimum_gain, said)
    if (gain := evidence.gains.get("tfidf")) is None:
        return claim
    linear = _of_gain(SCRATCH, gain, minimum_gain, "")
    words = {"supported": "is beaten too", "not supported": "is as good", "inconclusive": "may be as good"}
    both_of = f"{verdict.beside(metric, 'tuned', 'it')} {_interval(metric, gain)}"
    told = f"TF-IDF, which is from scratch too, {words[linear.outcome]}: {both_of}."
    both = replace(claim, sentence=f"{claim.sentence} {told}{linear.sentence}", p=max(claim.p or 0.0, linear.p or 0.0))
    return (
        both
        if claim.outcome == "not supported" or linear.outcome == "supported"
        else replace(both, outcome="not supported" if linear.outcome == "not supported" else "inconclusive")
    )


def _steps(evidence: Evidence, found: Mapping[str, Any]) -> str:
    """How long both were trained, where that is known: a comparison of an older version may have stopped early."""
    ours, theirs = evidence.costs.get("steps"), found.get("costs", {}).get("steps")
    if ours is None or theirs is None:
        return ""
    return f" with as many steps ({ours:,.0f})" if ours == theirs else f" ({theirs:,.0f} steps against {ours:,.0f})"


def _worth(found: Mapping[str, Any]) -> str:
    """How many times the labels pretraining is worth, where the learning curve was measured."""
    for end, told in {"": "", "_at_least": "at least ", "_at_most": "at most "}.items():
        if (times := found.get(f"label_multiplier{end}")) is not None:
            return f" Pretraining is worth {told}{times:.1f} times the labels."
    return ""


def _corrected(claims: list[Claim]) -> Iterator[Claim]:
    """Holm over the primary family: what is supported alone may not be among several."""
    p = {claim.name: claim.p for claim in claims if claim.name in FAMILY and claim.p is not None}
    adjusted = equivalence.holm(p)
    for claim in claims:
        if claim.name in adjusted:
            claim = replace(claim, numbers={**claim.numbers, "p_holm": adjusted[claim.name]})
            if claim.outcome == "supported" and lost_to_holm(claim):
                said = f"{claim.sentence} Not so once Holm's correction for {len(p)} claims is made."
                claim = replace(claim, outcome="inconclusive", sentence=said)
        yield claim


def lost_to_holm(claim: Claim) -> bool:
    """Whether its corrected p-value does not support it, whatever its own interval says."""
    return bool(claim.numbers.get("p_holm", 0.0) >= 0.05)


def _settled(claim: Claim, seeds: Mapping[str, Any]) -> Claim:
    """What one training says and three together leave open is open."""
    over, holds = _over_seeds(claim, seeds)
    if over is None or holds or claim.outcome not in ("supported", "not supported"):
        return claim
    said = f"{over.value:+.3g} (95 % interval {over.low:+.3g} to {over.high:+.3g})"
    what = "it" if claim.name == KNOWLEDGE else "the gain"
    sentence = f"{claim.sentence} Over {len(seeds['seeds'])} trainings {what} is {said}, which leaves it open."
    return replace(claim, outcome="inconclusive", sentence=sentence)


def _unseen(claim: Claim, evidence: Evidence) -> Claim:
    """Nothing that rests on test rows is shown where training has seen all of them."""
    if claim.outcome == "not measured" or claim.name == KNOWLEDGE or not none_left(evidence.details):
        return claim
    return replace(claim, outcome="inconclusive", sentence=f"{claim.sentence} But training has seen every test row.")


def _graded(claim: Claim, evidence: Evidence, seeds: Mapping[str, Any]) -> Claim:
    """A: three seeds whose interval says the same, and no leaked rows. B: one seed. C: no interval decides."""
    if claim.outcome == "not measured":
        return claim
    if claim.outcome == "inconclusive" or claim.name == LABELS:
        return replace(claim, grade="C")
    if claim.numbers.get("kept_at_least", 1.0) < knowledge.KEPT:
        return replace(claim, grade="C")  # a strength whose share of the gain is a point alone
    sure = _over_seeds(claim, seeds)[1] and "prompts" not in claim.numbers  # the seeds were not asked the prompts
    clean = "without_leaks" not in evidence.details and LEAKS not in evidence.not_measured
    return replace(claim, grade="A" if sure and clean else "B")


def _over_seeds(claim: Claim, seeds: Mapping[str, Any]) -> tuple[Estimate | None, bool]:
    """The interval over seeds and rows, where three trainings at least were made, and whether it says the same.

    The other side of these claims is never trained.
    """
    limit = max(0.0, float(claim.numbers.get("useful", 0.0)))
    found = (seeds.get("gains") or {}).get({IMPROVED: "base", PROMPT: "prompt"}.get(claim.name))
    if claim.name == KNOWLEDGE and "scale" not in claim.numbers:  # else a strength was chosen for one seed's model
        if "prompts" in claim.numbers and claim.outcome != "supported":
            return None, False  # it may be the prompts that were lost
        keys = knowledge.BITS, knowledge.PROBE
        limit = float(claim.numbers.get("margin", 0.0))
        found = next((seeds["knowledge"][key] for key in keys if key in seeds.get("knowledge", {})), None)
    if found is None or len(seeds.get("seeds", ())) < 3:
        return None, False
    over = estimate(found)
    if claim.name == KNOWLEDGE:  # less lost is better
        return over, over.high < limit if claim.outcome == "supported" else over.low > limit
    if claim.outcome == "supported":
        return over, over.low > 0 and over.value >= limit
    return over, over.high < limit


def _interval(metric: Metric, gain: Estimate, level: int = 95) -> str:
    low, high = verdict.signed(metric, gain.low), verdict.signed(metric, gain.high)
    return f"{verdict.gained(metric, gain.value)} ({level} % interval {low} to {high}, n = {verdict.rows(gain)})"
