"""Terminology of written answers against a glossary: which terms are called for, used, avoided, and how probable.

A term is called for where the reference has it (or the prompt matches the entry's `trigger`, a regular expression).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.checks.terms import outside, pattern
from finesmith.measurements import _general
from finesmith.types import Example, Message

if TYPE_CHECKING:
    from finesmith.measurements.base import Study
    from finesmith.predictor import Predictor

SLOTS = 150
"""Most places at which the probability of a term is measured."""
RIVALS = 3
"""Most forbidden variants that a preferred term is weighed against at a place."""


@dataclass(frozen=True)
class Glossary:
    """The entries of a glossary, ready to count."""

    entries: Sequence[Mapping[str, Any]]

    @cached_property
    def _preferred(self) -> list[re.Pattern[str]]:
        return [pattern(str(entry["preferred"])) for entry in self.entries]

    @cached_property
    def _forbidden(self) -> list[list[re.Pattern[str]]]:
        return [[pattern(str(term)) for term in entry["forbidden"]] for entry in self.entries]

    def called(self, prompt: str, reference: str) -> list[int]:
        """The entries that an answer to this prompt should use."""
        return [
            place
            for place, entry in enumerate(self.entries)
            if (re.search(entry["trigger"], prompt, re.I) if entry.get("trigger") else self.uses(place, reference))
        ]

    def uses(self, place: int, text: str) -> bool:
        """Whether the preferred term stands in a text, other than inside a forbidden one (Order in Purchase Order)."""
        for term in self.entries[place]["forbidden"]:
            text = outside(str(term), str(self.entries[place]["preferred"]), text)
        return bool(self._preferred[place].search(text))

    def breaks(self, place: int, text: str) -> bool:
        """Whether a forbidden variant stands in a text."""
        preferred = str(self.entries[place]["preferred"])
        forbidden = zip(self.entries[place]["forbidden"], self._forbidden[place], strict=True)
        return any(found.search(outside(preferred, str(term), text)) for term, found in forbidden)

    def recall(self, prompt: str, reference: str, answer: str) -> tuple[float, float]:
        """Terms used, of those called for."""
        called = self.called(prompt, reference)
        return float(sum(self.uses(place, answer) for place in called)), float(len(called))

    def forbidden(self, answer: str) -> tuple[float, float]:
        """1 for an answer with a forbidden variant, and 1."""
        return float(any(self.breaks(place, answer) for place in range(len(self.entries)))), 1.0

    def table(self, rows: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """For each entry how often it was called for, used, and broken, over (prompt, reference, answer)."""
        calls = [self.called(prompt, reference) for prompt, reference, _ in rows]
        found = []
        for place, entry in enumerate(self.entries):
            answers = [answer for called, (_, _, answer) in zip(calls, rows, strict=True) if place in called]
            used = sum(self.uses(place, answer) for answer in answers)
            broken = sum(self.breaks(place, answer) for _, _, answer in rows)
            if answers or broken:
                found.append(
                    {"preferred": entry["preferred"], "called": len(answers), "used": used, "broken_in": broken}
                )
        return found


@dataclass(frozen=True)
class Slot:
    """A place in a reference where a term is called for: the row with its answer up to the term, and the rivals."""

    row: int
    before: str
    candidates: tuple[str, ...]


def slots(entries: Sequence[Mapping[str, Any]], references: Sequence[str]) -> list[Slot]:
    """The first place of every entry in every reference, evenly spread where there are too many."""
    found = []
    for row, reference in enumerate(references):
        for entry in entries:
            match = _outside_forbidden(entry, reference)
            rivals = [str(term) for term in entry["forbidden"]][:RIVALS]
            if match and rivals:
                shown = match.group()
                alike = tuple(term[:1].upper() + term[1:] if shown[:1].isupper() else term for term in rivals)
                found.append(Slot(row, reference[: match.start()], (shown, *alike)))
    step = max(1.0, len(found) / SLOTS)
    return [found[int(place * step)] for place in range(min(SLOTS, len(found)))]


def _outside_forbidden(entry: Mapping[str, Any], reference: str) -> re.Match[str] | None:
    """The first preferred term that is no part of a forbidden one (Order in Purchase Order)."""
    wrong = [each.span() for term in entry["forbidden"] for each in pattern(str(term)).finditer(reference)]
    found = pattern(str(entry["preferred"])).finditer(reference)
    return next((m for m in found if not any(a <= m.start() and m.end() <= b for a, b in wrong)), None)


def probability(study: Study, model: Predictor, rows: Sequence[Example], places: Sequence[Slot]) -> np.ndarray:
    """P(preferred) / (P(preferred) + P(forbidden variants)) at every slot: [slots]. Far less noisy than samples."""
    asked = [
        replace(rows[slot.row], target=Message("assistant", slot.before + candidate))
        for slot in places
        for candidate in slot.candidates
    ]
    texts = _general.answers(study, model.loaded, asked, "term", model.task)
    open_ended = replace(texts, pieces=[_without_end(piece) for piece in texts.pieces])
    network: Any = model.loaded.model
    reader = _general.Language(model.loaded, open_ended, lambda batch: network(**batch).logits, remember=False)
    nats = iter(reader.read().nats)
    shares = []
    for slot in places:
        costs = np.array([next(nats) for _ in slot.candidates])
        weights = np.exp(costs.min() - costs)
        shares.append(weights[0] / weights.sum())
    return np.array(shares)


def _without_end(piece: Any) -> Any:
    """The answer goes on behind the term: the token that ends a turn is not scored."""
    return replace(piece, tokens=piece.tokens[:-1], weights=piece.weights[:-1])
