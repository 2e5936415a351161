"""HTML left-overs: tags and entities that a web page or an editor has left in the text."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Mend, Progress, share
from finesmith.types import Finding

NAMES = (
    "a|abbr|b|blockquote|body|br|center|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|iframe|img|input|li|link"
)
NAMES += "|meta|ol|option|p|pre|s|script|section|select|small|span|strong|style|sub|sup|table|tbody|td|th"
NAMES += "|thead|title|tr|u|ul"
TAG = re.compile(rf"</?(?:{NAMES})(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|copy|reg|euro|pound|[lr][sd]quo|[mn]dash|hellip|bull|#\d{2,6}|#x[\da-fA-F]{2,5});"
)
BREAK = re.compile(r"<(?:br|/p|/div|/li|/tr|/h[1-6])\b[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Markup:
    """Rows with tags or entities of HTML."""

    title: str = "HTML left-overs"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding over tags and entities."""
        kinds: Counter[str] = Counter()
        found = []
        for place, text in enumerate(data.texts):
            hits = {hit.lower() for hit in [*_tags(text), *ENTITY.findall(text)]}
            if hits:
                found.append(place)
                kinds.update(hits)
        if found:
            common = ", ".join(f"{name} ({count:,})" for name, count in kinds.most_common(4))
            yield Finding(
                "markup",
                "warning" if len(found) >= 0.01 * len(data.rows) else "note",
                f"HTML left-overs in {share(len(found), len(data.rows))} rows: {common}.",
                len(found),
                data.origins(found),
                "Tags cost tokens, and a class or an answer may be told apart by them and not by its meaning.",
                "If the texts are not about HTML, take it out (--fix does).",
                {"kinds": dict(kinds.most_common()), "samples": [data.sample(place) for place in found[:SHOWN]]},
            )

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Entities become characters, ends of blocks line breaks, other tags nothing."""
        return Mend(text=stripped)


def stripped(text: str) -> str:
    """The text without tags and entities, untouched where it has none."""
    if "&" not in text and "<" not in text:
        return text
    plain = TAG.sub("", BREAK.sub("\n", text))
    return ENTITY.sub(lambda match: html.unescape(match.group()).replace("\xa0", " "), plain)


def _tags(text: str) -> list[str]:
    """The names of the tags in a text, as `<name>`."""
    if "<" not in text:
        return []
    return [f"<{re.sub(r'[^a-zA-Z0-9]', ' ', tag).split()[0]}>" for tag in TAG.findall(text)]


PLUGIN = Markup()
