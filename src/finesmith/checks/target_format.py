"""Format and style of the answers: JSON, headers, bullets, final period, dates, spelling; which forms compete."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Progress
from finesmith.data.duplicates import answer
from finesmith.data.private import excerpt
from finesmith.types import Finding, Message

FEW = 20
"""Fewer answers with a form say nothing about a habit."""
COMPETING = 0.02
"""A second form with a smaller share is an exception (and listed as a note), not a competitor."""
LONG_TAIL = 0.5

DATES = {
    "2026-11-21": r"\b\d{4}-\d{2}-\d{2}\b",
    "21.11.2026": r"\b\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})\b",
    "11/21/2026 or 21/11/2026": r"\b\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})\b",
    "21 November 2026": r"\b\d{1,2}(?:st|nd|rd|th)? (?:{months}) \d{4}\b",
    "November 21, 2026": r"\b(?:{months}) \d{1,2}(?:st|nd|rd|th)?,? \d{4}\b",
}
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
MONTHS += "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
DATE = {name: re.compile(pattern.replace("{months}", MONTHS)) for name, pattern in DATES.items()}
US = "color|colors|center|centers|behavior|favor|favorite|honor|labor|neighbor|catalog|dialog|defense"
US += r"|organiz\w+|realiz\w+|recogniz\w+|authoriz\w+|apologiz\w+|canceled|canceling|traveled"
US += r"|fulfill|enroll|gray|analyz\w+"
UK = "colour|colours|centre|centres|behaviour|favour|favourite|honour|labour|neighbour|catalogue|dialogue|defence"
UK += (
    r"|organis(?:e|ed|es|ing|ation|ations)|realis\w+|recognis\w+|authoris\w+|apologis\w+|cancelled|cancelling|travelled"
)
UK += r"|fulfil|enrol|grey|analyse[sd]?|analysing|programme"
SPELLING = {"US": re.compile(rf"\b(?:{US})\b", re.I), "UK": re.compile(rf"\b(?:{UK})\b", re.I)}
SIGNS = {"a period": ".。．।۔։።", "!": "!！", "?": "?？؟", ":": ":：", ",": ",，"}
ENDINGS = {sign: name for name, signs in SIGNS.items() for sign in signs}
HEADER = re.compile(r"^(?:#{1,6}\s+\S.{0,60}|\*\*[^*\n]{2,60}\*\*:?|[A-Z][\w '&/-]{1,50}:)\s*$", re.MULTILINE)
BULLET = re.compile(r"^[^\S\n]*(?:([-*•–])|(\d{1,2}[.)])|([a-z][.)]))\s+\S", re.MULTILINE)


@dataclass(frozen=True)
class TargetFormat:
    """For each trait of form, the shares of its variants over the answers that show it."""

    title: str = "format and style of answers"
    tasks: tuple[str, ...] = ("generation",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a trait in which several forms compete; one note over the shares of all."""
        targets = [(row.target, str(row.origin)) for row in data.rows if isinstance(row.target, Message)]
        answers = [target.content for target, _ in targets if target.content.strip()]  # others are tool calls alone
        origins = [origin for target, origin in targets if target.content.strip()]
        shares: dict[str, dict[str, int]] = {}
        for trait, form in TRAITS.items():
            forms = [form(answer) for answer in answers]
            counts = Counter(name for name in forms if name)
            if sum(counts.values()) < FEW:
                continue
            shares[trait] = dict(counts.most_common())
            if len(counts) > 1:
                yield _competing(trait, counts, forms, origins, answers)
        if len(targets) >= FEW and len({_whole(target) for target, _ in targets}) == 1:
            yield _same([target.text for target, _ in targets])
        if shares:
            yield _overview(shares, len(answers))


def _whole(target: Message) -> tuple[str, str]:
    return target.content, answer(target)


def _structure(answer: str) -> str:
    """What the answer is as a whole."""
    if answer.lstrip()[:1] in ("{", "["):
        try:
            json.loads(answer)
            return "JSON"
        except ValueError:
            return "broken JSON"
    return "code block" if "```" in answer else "text"


def _keys(answer: str) -> str:
    """The keys of a JSON object, in order."""
    try:
        value = json.loads(answer) if answer.lstrip().startswith("{") else None
    except ValueError:
        return ""
    return ", ".join(value) if isinstance(value, dict) else ""


def _headers(answer: str) -> str:
    """The headers in order; where most answers have their own this is no shared form, and left out."""
    found = [header.strip(" #*:") for header in HEADER.findall(answer)]
    return " / ".join(found[:6])


def _bullets(answer: str) -> str:
    found = [f"'{sign}'" if sign else "1." if number else "a." for sign, number, _ in BULLET.findall(answer)]
    return Counter(found).most_common(1)[0][0] if found else ""


def _ending(answer: str) -> str:
    last = answer.rstrip()[-1:]
    if last in "}]`":
        return ""
    return ENDINGS.get(last, "no period")


def _opening(answer: str) -> str:
    first = answer.lstrip()[:1]
    return "a capital" if first.isupper() else "a small letter" if first.islower() else ""


def _dates(answer: str) -> str:
    found = [name for name, pattern in DATE.items() if pattern.search(answer)]
    return " and ".join(found)


def _spelling(answer: str) -> str:
    return " and ".join(name for name, pattern in SPELLING.items() if pattern.search(answer))


def _quotes(answer: str) -> str:
    curly, straight = any(sign in answer for sign in "“”‘’"), '"' in answer or "'" in answer
    return "curly and straight" if curly and straight else "curly" if curly else "straight" if straight else ""


def _lines(answer: str) -> str:
    return "one line" if "\n" not in answer.strip() else "several lines"


TRAITS: dict[str, Callable[[str], str]] = {
    "structure": _structure,
    "JSON keys": _keys,
    "headers": _headers,
    "bullets": _bullets,
    "ending": _ending,
    "opening": _opening,
    "dates": _dates,
    "spelling": _spelling,
    "quotation marks": _quotes,
    "lines": _lines,
}
HABITS = ("structure", "JSON keys", "headers", "bullets", "dates", "spelling")
"""Traits of which a mixture is a fault of the data; a mixture in the others may be right (questions, one-liners)."""


def _competing(trait: str, counts: Counter[str], forms: list[str], origins: list[str], answers: list[str]) -> Finding:
    total = sum(counts.values())
    common = counts.most_common()
    values = " / ".join(f"{100 * count / total:.0f}" for _, count in common[:4]) + " %"
    names = ", ".join(excerpt(name, 40) for name, _ in common[:4])
    rare = [place for place, name in enumerate(forms) if name and name != common[0][0]]
    free = trait in ("headers", "JSON keys") and len(common) > LONG_TAIL * total
    grave = trait in HABITS and len(rare) >= COMPETING * total and not free
    broken = counts.get("broken JSON", 0)
    return Finding(
        "target_format",
        "warning" if grave or broken else "note",
        f"{trait[0].upper()}{trait[1:]}: {len(common)} forms compete, {values} ({names}) in {total:,} answers.",
        len(rare),
        tuple(origins[place] for place in rare),
        "The model learns the mixture and answers now in one form, now in another."
        if not broken
        else f"{broken:,} answers look like JSON and do not parse: the model learns to write what no program can read.",
        f"Rewrite the answers in one form ({excerpt(common[0][0], 40)}), unless the input says which one is wanted.",
        {
            "trait": trait,
            "counts": dict(common[:30]),
            "entropy_bits": -sum(n / total * math.log2(n / total) for n in counts.values()),
            "samples": [
                {"row": origins[p], "form": excerpt(forms[p], 60), "text": excerpt(answers[p])} for p in rare[:SHOWN]
            ],
        },
    )


def _same(answers: list[str]) -> Finding:
    return Finding(
        "target_format",
        "warning",
        f"All {len(answers):,} answers are the same.",
        len(answers),
        (),
        "The model learns to give this answer whatever it is asked.",
        "Check which column is the completion (data.columns).",
        {"samples": [{"text": excerpt(answers[0])}]},
    )


def _overview(shares: dict[str, dict[str, int]], total: int) -> Finding:
    steady = {trait: next(iter(counts)) for trait, counts in shares.items() if [*counts.values()] == [total]}
    told = "; ".join(f"{trait} {excerpt(form, 40)}" for trait, form in steady.items())
    first = {
        trait: sum(counts.values()) and max(counts.values()) / sum(counts.values()) for trait, counts in shares.items()
    }
    return Finding(
        "target_format",
        "note",
        f"What all {total:,} answers share: {told}." if told else f"No form is shared by all {total:,} answers.",
        len(steady),
        (),
        "What the answers share is what the model will keep to.",
        "Nothing to do.",
        {
            "shares": shares,
            "plot": {
                "kind": "bars",
                "title": "Share of the commonest form",
                "x": "% of the answers that show the trait",
                "labels": list(first),
                "values": [round(100 * value, 1) for value in first.values()],
            },
        },
    )


PLUGIN = TargetFormat()
