"""The first screen of the page, as sentences: was it worth it, what did it cost, how sure is that, what to do next.

Pure: what the comparison found goes in, plain text comes out. It says no more than the claims and the decision do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finesmith import registry
from finesmith.errors import counted
from finesmith.evidence import claims, knowledge, verdict
from finesmith.metrics.base import Metric
from finesmith.report import names, words
from finesmith.types import Estimate, Evidence

CHEAPER = ("base", "frozen", "zero-shot", "prompt")
"""What there is without fine-tuning, besides the baselines."""
ENOUGH = "Better than these does not mean good enough for your use: that is yours to judge."
NUMBERS = re.compile(r" \([^()]*\bn = [\d,]+[^()]*\)")
YES, NO, OPEN, UNKNOWN = "Yes", "No", "Not shown", "Not known"
TONES = {YES: "yes", NO: "no", OPEN: "open", UNKNOWN: "unknown"}


@dataclass(frozen=True)
class First:
    """`decision` is one sentence and `basis` its numbers; `answers` maps each question to sentences; `alarms` are what
    makes all of it doubtful; `worth` is Yes, No, Not shown or Not known."""

    decision: str
    basis: str
    worth: str
    answers: Mapping[str, list[str]]
    alarms: list[str]


@dataclass(frozen=True)
class _Seen:
    """What the sentences are made of."""

    comparison: Mapping[str, Any]
    about: Mapping[str, Any]
    evidence: Evidence
    metric: Metric
    rival: str | None

    @property
    def gain(self) -> Estimate:
        """Tuned against the strongest cheaper way."""
        assert self.rival is not None
        return self.evidence.gains[self.rival]

    def claim(self, name: str) -> Mapping[str, Any]:
        """A claim by its name; one that nobody measured where it is not there."""
        known = {claim["name"]: claim for claim in self.comparison["claims"]}
        return known.get(name, {"outcome": "not measured", "numbers": {}})

    def found(self, name: str) -> Mapping[str, Any]:
        """The numbers of a measurement; none where it was not made."""
        return self.comparison["measured"].get(name, {}).get("numbers", {})

    @property
    def tested(self) -> int:
        """The most test rows that a system answered: all there are."""
        scores = (found.get(self.evidence.metric) for found in self.evidence.systems.values())
        return max((found.n for found in scores if found is not None), default=0)

    def score(self, name: str) -> str:
        """`right in 74 % of the test rows`; or of those that the system answered."""
        found = self.evidence.systems[name][self.evidence.metric]
        return names.phrase(self.metric, found.value, answered=found.n if found.n < self.tested else None)


def read(comparison: Mapping[str, Any], evidence: Evidence, about: Mapping[str, Any]) -> First:
    """The first screen of a comparison (`judging.as_json`); `about` as for `verdict_page.render`."""
    known = {*registry.available("baselines"), *CHEAPER}
    rivals = {name: gain for name, gain in evidence.gains.items() if name in known and name in evidence.systems}
    said = comparison.get("rival")  # of a page that was made before there was one: the strongest
    rival = said if said in rivals else min(rivals, key=lambda name: rivals[name].value, default=None)
    seen = _Seen(comparison, about, evidence, words.metric_named(evidence.metric), rival)
    said = comparison["decision"]
    worth = _worth(seen)
    answers = {
        "Was it worth it?": [f"{worth}.", *_scores(seen), *([ENOUGH] if worth == YES else [])],
        "What did it cost?": _cost(seen),
        "How sure is that?": _sure(seen),
        "What next, and what would change it?": _next(seen, worth),
    }
    basis = "; ".join(match.strip(" ()") for match in NUMBERS.findall(said))
    return First(names.advice(NUMBERS.sub("", said)), basis, worth, answers, _alarms(seen))


def _worth(seen: _Seen) -> str:
    if seen.comparison["decision"].startswith("Fine-tune"):
        return YES
    if seen.rival is None:
        return UNKNOWN
    return NO if seen.gain.high < 0 else OPEN


def _scores(seen: _Seen) -> list[str]:
    """Tuned, base and the strongest cheaper way."""
    lines = []
    base = names.system("base", seen.evidence)
    named = {"tuned": "The tuned model", "base": f"{base[0].upper()}{base[1:]}"}
    for name in dict.fromkeys(["tuned", "base", seen.rival]):
        if name and seen.evidence.metric in seen.evidence.systems.get(name, {}):
            title = named.get(name) or f"The best cheaper way that was tried, {names.system(name, seen.evidence)}"
            lines.append(f"{title}: {seen.score(name)}.")
    return [*lines, *names.explained([seen.evidence.metric])]


def _cost(seen: _Seen) -> list[str]:
    costs = {key: value for key, value in seen.evidence.costs.items() if key in ("seconds", "peak_memory_bytes")}
    phrases = words.costs(costs)
    machine = seen.about["manifest"].get("device", "this machine")
    lines = [f"The training: {', '.join(phrases)} ({machine})."] if phrases else []
    if "saved_bytes" in seen.evidence.costs:
        lines[-1:] = [*lines[-1:], f"The tuned model takes {words.size(seen.evidence.costs['saved_bytes'])} on disk."]
    lines.append(_knowledge(seen))
    spent = sum(seen.comparison["seconds"].values())
    return [*lines, f"Measuring for this page took {words.duration(spent)}."] if spent else lines


def _knowledge(seen: _Seen) -> str:
    """What was forgotten, as the claim about it was judged."""
    claim = seen.claim(claims.KNOWLEDGE)
    numbers = claim["numbers"]
    if claim["outcome"] == "not measured" or "change" not in numbers:
        return "Whether it forgot something of what the base knew was not measured."
    lost, margin = 100 * numbers["change"]["value"], 100 * numbers["margin"]
    reads = "changed_bits" if "change_bits_per_byte" in seen.found("retention") else "probe"
    what = "it predicts general text" if reads == "changed_bits" else "a test of what it reads is"
    worse = f"{what} {abs(lost):.1f} {'%' if reads == 'changed_bits' else 'points'} {'worse' if lost > 0 else 'better'}"
    allowed = f"up to {margin:g} {'%' if reads == 'changed_bits' else 'points'} worse was allowed"
    if "scale" in numbers:
        return f"General knowledge: at full strength {worse} ({allowed}); {_turned_down(claim)}."
    if "prompts" in numbers:
        change = 100 * numbers["prompts"]["value"]
        worse += f", and the answers to your prompts {abs(change):.1f} % {'worse' if change > 0 else 'better'},"
    start = {"supported": "kept", "not supported": "partly lost"}.get(claim["outcome"], "not clear whether it was kept")
    return f"General knowledge: {start}. After the tuning {worse} than before ({allowed})."


def _turned_down(claim: Mapping[str, Any]) -> str:
    """What a weaker strength keeps: no more than the claim says of it."""
    numbers = claim["numbers"]
    sure = claim["outcome"] == "supported"
    within = "it stays within that and" if sure else "it is not clear whether it stays within that; it"
    least = numbers.get("kept_at_least", 1.0)  # null where it is without limit
    caveat = ", which the test rows alone do not settle" if least is None or least < knowledge.KEPT else ""
    strength = f"turned down to strength {numbers['scale']:g} {within}"
    return f"{strength} keeps {100 * numbers['kept']:.0f} % of the gain{caveat}"


def _sure(seen: _Seen) -> list[str]:
    found = [
        scores[seen.evidence.metric] for scores in seen.evidence.systems.values() if seen.evidence.metric in scores
    ]
    most = max(found, key=lambda each: each.n, default=Estimate(0.0, 0.0, 0.0, 0))
    lines = [f"It was tested on {counted(seen.tested, 'row')} that had been put aside before training (the test rows)."]
    if most.groups is not None:
        lines.append(f"These form {counted(most.groups, 'group')} of rows that belong together, and only groups count.")
    if seen.rival is not None:
        value, low, high = (names.apart(seen.metric, each) for each in (seen.gain.value, seen.gain.low, seen.gain.high))
        clear = seen.gain.low > 0 or seen.gain.high < 0
        why = "chance alone hardly explains that" if clear else "so it may be chance"
        both = f" on the {counted(seen.gain.n, 'row')} that both answered" if seen.gain.n < seen.tested else ""
        beside = f"Compared with {_short(seen)}{both} the tuned model is {value}"
        lines.append(f"{beside}; with 95 % confidence between {low} and {high}: {why}.")
    lines.append(_trainings(seen))
    if seen.evidence.task == "generation":
        lines.append("The score compares wording, not meaning: whether an answer is right, a person must check.")
    return [*lines, _tally(seen)]


def _trainings(seen: _Seen) -> str:
    """Whether another training would give the same, as far as that is known."""
    found = seen.found("seeds")
    if len(found.get("seeds", ())) < 2:
        return "The model was trained once: another training may come out better or worse."
    values = ", ".join(verdict.number(seen.metric, value) for value in found["values"])
    said = f"It was trained {len(found['seeds'])} times with other random numbers: {seen.metric.title} {values}."
    gain = (found.get("gains") or {}).get("base")
    if gain is None:
        return said
    ends = (
        gain["low"] if gain["low"] is not None else -math.inf,
        gain["high"] if gain["high"] is not None else math.inf,
    )
    low, high = (names.apart(seen.metric, end) for end in ends)
    return f"{said} Over all of them, with 95 % confidence, it is between {low} and {high} than the base."


def _tally(seen: _Seen) -> str:
    """`Of the 9 statements below 3 are supported, ...`."""
    counts = Counter(claim["outcome"] for claim in seen.comparison["claims"])
    told = [
        f"{counts[outcome]} {shown}"
        for outcome, shown in {
            "supported": "supported by the numbers",
            "not supported": "not supported",
            "inconclusive": "left open",
            "not measured": "not measured",
        }.items()
        if counts[outcome]
    ]
    return f"Of the {sum(counts.values())} statements below: {', '.join(told)}."


def _next(seen: _Seen, worth: str) -> list[str]:
    run = seen.about.get("run", "RUN")
    lines = []
    if worth == YES:
        lines.append("Use the tuned model for rows like the test rows; for others nothing was measured.")
        kept = seen.claim(claims.KNOWLEDGE)
        if kept["outcome"] == "supported" and "scale" in kept["numbers"]:
            lines.append(f"Where it must keep its general knowledge: finesmith set-scale {run} keep.")
    elif seen.rival is not None:
        lines.append(f"Do not use the tuned model for now; use {_short(seen)}.")
    lines += [*_change(seen, worth), *_labels(seen)]
    promptable = seen.comparison.get("promptable", True) and seen.evidence.task != "text"
    if promptable and seen.claim(claims.PROMPT)["outcome"] == "not measured":
        lines.append("Prompting was not measured: whether a good prompt would be enough is not known.")
    if any(f"part of --effort {effort}" in why for effort in ("standard", "full") for why in _missing(seen)):
        lines.append(f"To measure more: finesmith compare {run} --effort full.")
    return lines


def _change(seen: _Seen, worth: str) -> list[str]:
    """What would turn the decision."""
    if seen.rival is None:
        return []
    rival, gain = _short(seen), seen.gain
    if worth == YES:
        return [f"The advice would change if a cheaper way did as well; the best so far is {rival}."]
    if worth == NO:
        far = f"It is {names.apart(seen.metric, gain.value)} now."
        return [f"The advice would change if the tuned model became clearly better than {rival}. {far}"]
    if gain.low > 0:
        return ["The advice would change if a smaller gain were of use to you: the tuned model is clearly better, but "
                "not by as much as was asked for."]  # fmt: skip
    if 0 < gain.value < math.inf and math.isfinite(gain.high - gain.low):
        rows = f"about {claims.rows_needed(gain):,} test rows would most likely show it"
        return [f"The advice would change if the lead over {rival} were real. If it is as large as it looks, {rows}."]
    return [f"The advice would change if the tuned model became clearly better than {rival}."]


def _labels(seen: _Seen) -> list[str]:
    """Whether more labelled rows would help, as the learning curve foretells."""
    found = seen.found("learning_curve")
    if "gain_2x" not in found:
        return ["Whether more labelled rows would help was not measured."]
    if found["flat"]:
        return ["More labelled rows like these would hardly help."]
    low, high = (names.apart(seen.metric, found["gain_2x"][end]) for end in ("low", "high"))
    return [f"With twice as many labelled rows it would probably be between {low} and {high} than now."]


def _alarms(seen: _Seen) -> list[str]:
    lines = [words.without_leaks(seen.evidence)]
    if seen.found("controls").get("passed") is False:
        lines.append(
            "A check of the measuring itself failed (see the negative controls). Do not rely on this page before that "
            "is explained."
        )
    return [line for line in lines if line]


def _missing(seen: _Seen) -> list[str]:
    return [str(why) for why in seen.comparison["not_measured"].values()]


def _short(seen: _Seen) -> str:
    """The cheaper way in the middle of a sentence."""
    name = seen.rival or ""
    return words.system_title(name) if name in registry.available("baselines") else names.system(name, seen.evidence)
