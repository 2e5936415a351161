"""The labels of the nearest training rows, by vote: retrieval without a model.

Similarity is the cosine of TF-IDF vectors (words 1-2, sublinear); a neighbour's vote weighs as much as it is similar.
How many neighbours vote is chosen on the training rows, each asked without itself and the rows that the split would
keep with it (one input, one group): its own duplicate would make one neighbour look best. On BANKING77 (10,003 training
rows) one neighbour reaches 0.737 and fifteen 0.800.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.baselines._neighbours import Neighbours
from finesmith.baselines.base import TestInput, as_text
from finesmith.data import units
from finesmith.types import Example, Prediction

SAMPLE = 200  # training rows that show whether words are shared
COUNTS = (1, 3, 5, 9, 15, 25)
MOST_ASKED = 1000  # training rows that choose the number of neighbours, evenly spread


@dataclass(frozen=True)
class NearestNeighbours:
    """A vote among the nearest rows; of several labels, those with more than half of it. Scores are shares of it."""

    title: str = "a vote of the nearest training rows"
    tasks: tuple[str, ...] = ("classification",)
    neighbours: int | None = None

    def __call__(self, train: Sequence[Example], test_inputs: Sequence[TestInput], *, seed: int) -> list[Prediction]:
        """Labels every input; `neighbours` None chooses their number among `COUNTS`."""
        if not test_inputs:
            return []
        texts, targets = [as_text(example.input) for example in train], [_labels(example) for example in train]
        known = _known(texts)
        several = isinstance(train[0].target, tuple)
        count = self.neighbours or _best_count(known, texts, targets, _units(train), several)
        found = known.nearest([text for _, text in test_inputs], count)
        shares = [_vote(targets, near, similar) for near, similar in found]
        return [
            Prediction(id=name, output=_decide(share, several), scores=share)
            for (name, _), share in zip(test_inputs, shares, strict=True)
        ]


def _known(texts: Sequence[str]) -> Neighbours:
    """By words; by characters where most rows share no word with any other, as in scripts without blanks."""
    known = Neighbours(texts, characters=False)
    found = _others(known, texts, np.arange(len(texts)), _spread(len(texts), SAMPLE))
    alone = [not similar.any() for _, _, similar in found]
    return Neighbours(texts, characters=True) if 2 * sum(alone) > len(alone) else known


def _spread(count: int, most: int) -> list[int]:
    step = max(1.0, count / most)
    return [int(place * step) for place in range(min(count, most))]


def _units(train: Sequence[Example]) -> np.ndarray:
    """[N]: the number of each row's unit, as the split has them."""
    codes = np.empty(len(train), int)
    for number, unit in enumerate(units.gather([units.row_of(row) for row in train], seed=0, stratify=False)):
        codes[list(unit.rows)] = number
    return codes


def _best_count(
    known: Neighbours, texts: Sequence[str], targets: Sequence[tuple[str, ...]], codes: np.ndarray, several: bool
) -> int:
    """The number of neighbours that gives most training rows their own label, each without its unit."""
    places = _spread(len(texts), MOST_ASKED)
    right: Counter[int] = Counter()
    for place, near, similar in _others(known, texts, codes, places):
        for count in COUNTS:
            answer = _decide(_vote(targets, near[:count], similar[:count]), several)
            right[count] += answer == (targets[place] if several else targets[place][0])
    return max(COUNTS, key=lambda count: (right[count], -count))


def _others(
    known: Neighbours, texts: Sequence[str], codes: np.ndarray, places: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Training rows with their nearest rows of other units."""
    found = known.nearest([texts[place] for place in places], max(COUNTS) + int(np.bincount(codes).max()))
    for place, (near, similar) in zip(places, found, strict=True):
        others = codes[near] != codes[place]
        yield place, near[others], similar[others]


def _vote(targets: Sequence[tuple[str, ...]], near: np.ndarray, similar: np.ndarray) -> dict[str, float]:
    """Each label's share of the vote, by name; where nothing is similar, its share of the training rows."""
    votes: Counter[str] = Counter()
    total = float(similar.sum())
    if total <= 0:
        near, similar, total = np.arange(len(targets)), np.ones(len(targets)), float(len(targets))
    for place, weight in zip(near.tolist(), similar.tolist(), strict=True):
        for label in targets[place]:
            votes[label] += weight / total
    return {label: min(1.0, votes[label]) for label in sorted(votes)}


def _decide(shares: dict[str, float], several: bool) -> str | tuple[str, ...]:
    if several:
        return tuple(label for label, share in shares.items() if share > 0.5)
    return min(shares, key=lambda label: (-round(shares[label], 9), label))


def _labels(example: Example) -> tuple[str, ...]:
    return example.target if isinstance(example.target, tuple) else (str(example.target),)


PLUGIN = NearestNeighbours()
