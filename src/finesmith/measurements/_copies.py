"""What of a written answer is there already: the nearest training answer, runs of its words, figures of the prompt.

Training answers may be many and long: none of this keeps more of them than the answers that are asked about name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from finesmith import registry
from finesmith.baselines._neighbours import Neighbours
from finesmith.metrics.base import edits
from finesmith.types import Message, Prediction

NGRAM = 8
"""Words in a row that stand in a training answer too: copied."""
NEAR = 3
"""Training answers that are compared letter by letter; they are chosen by TF-IDF."""
READING, COMPARING, SCORING = 6.5e-6, 2.5e-9, 4e-5
"""Seconds on one core for a letter of the known texts (nearly all of it TF-IDF), for such a letter beside each text,
and for a letter of a text beside its nearest ones; measured on 2,000 to 8,000 texts of 60 and 240 words."""
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")

Run = tuple[str, ...]


def seconds(known: float, texts: float, count: float) -> float:
    """How long `nearest` and `runs_in` take for so many letters of known texts, and letters and number of texts."""
    return READING * known + COMPARING * known * count + SCORING * texts


def nearest(known: Sequence[str], texts: Sequence[str]) -> list[tuple[float, float]]:
    """Of each text the chrF with the nearest known one, and the word edits to it as a share of the longer one."""
    metric, found = registry.resolve("metrics", "chrf"), []
    for text, (places, _) in zip(texts, Neighbours(known).nearest(texts, NEAR), strict=True):
        some = [known[int(place)] for place in places]
        scores = [metric.value([Message("assistant", near)], [Prediction("", text)]) for near in some]
        best = some[int(np.argmax(scores))]
        found.append((max(scores), edits(text.split(), best.split())))
    return found


def runs(text: str) -> Iterator[Run]:
    """Every `NGRAM` words in a row, in small letters."""
    words = text.lower().split()
    return (tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1))


def runs_in(known: Sequence[str], texts: Sequence[str]) -> set[Run]:
    """The runs of these texts that a known one has too. The known ones pass by one after the other."""
    asked = {run for text in texts for run in runs(text)}
    return {run for text in known for run in runs(text) if run in asked}


def figures(text: str) -> set[str]:
    """The numbers in a text; 12,500 and 12500 are the same."""
    return {_figure(found) for found in _NUMBER.findall(text)}


def _figure(found: str) -> str:
    return found.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+", found) else found.lstrip("0") or "0"
