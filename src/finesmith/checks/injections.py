"""Instructions to a model hidden in the inputs: "ignore all previous instructions", forged turns, role changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Progress, plural, share
from finesmith.data.private import excerpt
from finesmith.types import Conversation, Example, Finding

GAP = r"[^.!?\n]{0,30}"
"""What may stand between the words of one order."""
PATTERNS = {
    "orders to forget": rf"\b(?:ignore|disregard|forget|override)\b{GAP}"
    rf"\b(?:previous|prior|above|earlier|preceding|all|your|system)\b{GAP}"
    r"\b(?:instructions?|prompts?|rules|guidelines|training)\b",
    "a new role": r"\b(?:you are now|from now on,? you|pretend (?:to be|you are)|"
    r"act as (?:if you|an? (?:unrestricted|jailbroken))|enter (?:developer|dan|god) mode|do anything now)\b",
    "asking for the system prompt": rf"\b(?:reveal|print|show|repeat|output|leak|tell me)\b{GAP}"
    r"\b(?:system|initial|hidden|original)\s+(?:prompt|instructions?|message)\b",
    "forged turns": r"(?m)<\|(?:im_start|im_end|system|assistant|user|eot_id|start_header_id|endoftext)\|>|"
    r"\[/?INST\]|<<SYS>>|<start_of_turn>|^[^\S\n]*#{2,3}\s*(?:system|assistant|instruction)s?\s*:",
    "orders about the answer": rf"\b(?:classify|label|mark|rate|score) (?:this|the following|it)\b{GAP}\bas\b{GAP}"
    rf"\b(?:no matter|regardless|always|instead)\b|\brespond only with\b{GAP}\b(?:regardless|no matter)\b",
}
COMPILED = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in PATTERNS.items()}
CHEAP = re.compile(
    r"ignore|disregard|forget|override|you|act as|mode|anything|prompt|instruct|message|<|\[|#|classify|label|mark|"
    r"rate|score|respond",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Injections:
    """Inputs that speak to the model and not about the matter. System messages are the owner's own."""

    title: str = "injected instructions"
    tasks: tuple[str, ...] = ("classification", "generation")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding over all kinds."""
        kinds: dict[str, dict[int, None]] = {}
        shown = []
        for place, row in enumerate(data.rows):
            for kind, text in _hits(row):
                kinds.setdefault(kind, {})[place] = None
                shown.append({"row": str(row.origin), "kind": kind, "text": excerpt(text)})
        if kinds:
            found = sorted({place for places in kinds.values() for place in places})
            yield Finding(
                "injections",
                "warning",
                f"{share(len(found), len(data.rows))} inputs give orders to a model: "
                + "; ".join(f"{kind} ({plural(len(places), 'row')})" for kind, places in kinds.items())
                + ".",
                len(found),
                data.origins(found),
                "Trained on with an obedient answer, they teach the model to obey whoever writes to it.",
                "Take them out, or keep them with the answer that such a message should get.",
                {"kinds": {kind: len(places) for kind, places in kinds.items()}, "samples": shown[:SHOWN]},
            )


def _hits(row: Example) -> Iterator[tuple[str, str]]:
    """Kinds found in an input, with the text around each."""
    for text in _inputs(row):
        if CHEAP.search(text):
            for kind, pattern in COMPILED.items():
                if match := pattern.search(text):
                    yield kind, text[max(0, match.start() - 30) : match.end() + 30]


def _inputs(row: Example) -> list[str]:
    if isinstance(row.input, Conversation):
        return [message.content for message in row.input.messages if message.role in ("user", "tool")]
    return [row.input]


PLUGIN = Injections()
