"""The training rows nearest to a text: cosine of TF-IDF vectors; of equally near rows the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finesmith.baselines import _features

CHUNK = 256  # texts compared at once
CELLS = 20_000_000  # similarities held at once, 160 MB


class Neighbours:
    """Known texts, ready to be searched: all, or as many as `_features.part` allows. `characters` says whether
    n-grams of characters count beside words."""

    def __init__(self, known: Sequence[str], *, characters: bool = True) -> None:
        self._places = np.array(_features.part(known), int)
        some = [known[place] for place in self._places]
        self._vectors = _features.features(some, characters=characters)
        self._known: Any = None if self._vectors is None else self._vectors.transform(some).T.tocsr()

    def nearest(self, asked: Sequence[str], most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each text the positions of the nearest known ones, the nearest first, and how similar each is.

        That is 0 to 1, and to 2 where words and characters both count.
        Similarities are rounded to nine digits, so that equal texts tie.
        """
        size = max(1, min(CHUNK, CELLS // max(1, len(self._places))))
        for start in range(0, len(asked), size):
            for row in self._similarities(asked[start : start + size]):
                best = np.argsort(-row, kind="stable")[:most]
                yield self._places[best], row[best]

    def _similarities(self, asked: Sequence[str]) -> np.ndarray:
        """[asked, known]; zeros where no known text has a character."""
        if self._vectors is None:
            return np.zeros((len(asked), len(self._places)))
        return np.round((self._vectors.transform(asked) @ self._known).toarray(), 9)
