"""Terms of a glossary: where answers use a forbidden variant, or mix it with the preferred term."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from finesmith.checks.base import SHOWN, Checked, Progress, percent, share
from finesmith.data.private import excerpt
from finesmith.types import Finding, Message


@dataclass(frozen=True)
class Terms:
    """The glossary is a JSON list of `{"preferred": ..., "forbidden": [...]}`, given with --glossary."""

    title: str = "terms"
    tasks: tuple[str, ...] = ("generation",)
    cost: Literal["fast"] = "fast"

    def skips(self, data: Checked) -> str:
        """Nothing to compare with."""
        return "" if data.glossary else "no glossary was given (--glossary FILE)"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding over all terms, those with the most forbidden variants first."""
        answers = [(str(row.origin), row.target.text) for row in data.rows if isinstance(row.target, Message)]
        counted = [_count(entry, answers) for entry in data.glossary]
        wrong = sorted((each for each in counted if each["rows"]), key=lambda each: -len(each["rows"]))
        found = {origin for each in wrong for origin in each["rows"]}
        if not wrong:
            return
        worst = "; ".join(
            f"'{variant}' for '{each['preferred']}' ({count})"
            for each in wrong[:3]
            for variant, count in each["variants"][:1]
        )
        yield Finding(
            "terms",
            "warning" if len(found) >= 0.01 * len(answers) else "note",
            f"{share(len(found), len(answers))} answers use forbidden terms: {worst}.",
            len(found),
            tuple(origin for origin, _ in answers if origin in found),
            "A term that varies in training varies in the answers.",
            "Replace them by the preferred term of the glossary.",
            {"terms": [{**each, "rows": each["rows"][:SHOWN]} for each in counted]},
        )


def _count(entry: Mapping[str, Any], answers: list[tuple[str, str]]) -> dict[str, Any]:
    """How often the preferred term and each forbidden one stand in the answers."""
    preferred, forbidden = str(entry["preferred"]), [str(term) for term in entry["forbidden"]]
    patterns = {term: pattern(term) for term in forbidden}
    hits = {
        term: [(origin, text) for origin, text in answers if found.search(outside(preferred, term, text))]
        for term, found in patterns.items()
    }
    good = sum(bool(pattern(preferred).search(text)) for _, text in answers)
    rows = sorted({origin for found in hits.values() for origin, _ in found})
    variants = sorted(((term, len(found)) for term, found in hits.items() if found), key=lambda item: -item[1])
    return {
        "preferred": preferred,
        "preferred_in": good,
        "variants": variants,
        "mixture": f"{percent(good / max(1, good + len(rows)))} preferred",
        "rows": rows,
        "samples": [excerpt(_around(text, patterns[term])) for term, found in hits.items() for _, text in found[:2]],
    }


def pattern(term: str) -> re.Pattern[str]:
    """The term as whole words, in any letter case."""
    return re.compile(rf"(?<!\w){re.escape(term)}(?!\w)", re.IGNORECASE)


def outside(preferred: str, term: str, text: str) -> str:
    """The text without the preferred term, where that has the forbidden one in it (e-mail, mail)."""
    return pattern(preferred).sub(" ", text) if pattern(term).search(preferred) else text


def _around(text: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(text)
    start = max(0, (match.start() if match else 0) - 40)
    return text[start : start + 100]


PLUGIN = Terms()
