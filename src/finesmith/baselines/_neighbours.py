"""The training rows nearest to a text: cosine of TF-IDF vectors; of equally near rows the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finesmith.baselines._features import features

CHUNK = 256  # texts compared at once


class Neighbours:
    """Known texts, ready to be searched. `characters` says whether n-grams of characters count beside words."""

    def __init__(self, known: Sequence[str], *, characters: bool = True) -> None:
        self._size = len(known)
        self._vectors = features(known, characters=characters)
        self._known: Any = None if self._vectors is None else self._vectors.transform(known).T.tocsr()

    def nearest(self, asked: Sequence[str], most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each text the positions of the nearest known ones, the nearest first, and how similar each is (0 to 1).

        Similarities are rounded to nine digits, so that equal texts tie.
        """
        most = min(most, self._size)
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            for row in self._similarities(part):
                best = np.argsort(-row, kind="stable")[:most]
                yield best, row[best]

    def _similarities(self, asked: Sequence[str]) -> np.ndarray:
        """[asked, known]; zeros where no known text has a character."""
        if self._vectors is None:
            return np.zeros((len(asked), self._size))
        return np.round((self._vectors.transform(asked) @ self._known).toarray(), 9)
