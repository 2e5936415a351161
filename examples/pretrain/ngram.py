"""A 5-gram model over BPE tokens with interpolated modified Kneser-Ney smoothing: what the embedded base must beat.

Chen & Goodman 1998 (Harvard TR-10-98), equations 22 to 27; the unigrams are interpolated with the uniform distribution,
as KenLM does. KenLM itself is not used: its Python package on the index has no `lmplz`, and building that needs Boost.
Everything is sorted arrays of numbers: 48 M tokens take about 6 GB and a few minutes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Discounts = tuple[float, float, float]


@dataclass(frozen=True)
class Order:
    """The n-grams of one length: contexts with their mass, n-grams with their (continuation) counts."""

    contexts: np.ndarray  # keys, sorted
    totals: np.ndarray  # counts behind each context
    backoffs: np.ndarray  # mass that is left for shorter contexts
    grams: np.ndarray  # place of the context << bits | word, sorted
    counts: np.ndarray
    discounts: Discounts


class KneserNey:
    """`KneserNey(documents, end=..., vocabulary=...)`; `log2(document)` gives the log-probabilities of its tokens."""

    def __init__(
        self, documents: Iterable[np.ndarray], *, end: int, vocabulary: int, order: int = 5, discounts=None
    ) -> None:
        self.end, self.vocabulary, self.order = end, vocabulary, order
        self.bits = max(1, (vocabulary - 1).bit_length())
        assert self.bits * (order - 1) <= 63
        stream, places = self._stream(documents)
        orders = []
        for length in range(order, 0, -1):
            made, firsts = self._count(stream, places, length, discounts)
            orders.append(made)
            places = places[firsts]  # one place for each type: the shorter n-gram behind it counts once for each
        self._orders = orders[::-1]

    def log2(self, document: np.ndarray) -> np.ndarray:
        """Base-2 log-probabilities of the tokens of a document and of its end, `[N + 1]`."""
        stream, places = self._stream([document])
        found = np.full(len(places), 1 / self.vocabulary)
        for length, level in enumerate(self._orders, 1):
            context, known = _find(level.contexts, self._key(stream, places - 1, length - 1))
            gram, seen = _find(level.grams, (context << self.bits) | stream[places])
            count = np.where(known & seen, level.counts[gram], 0)
            own = np.maximum(count - _discount(count, level.discounts), 0)
            mixed = own / level.totals[context] + level.backoffs[context] * found
            found = np.where(known, mixed, found)
        return np.log2(found)

    def _stream(self, documents: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """All tokens behind one another, ends between them, and the places of those that are predicted."""
        pad = np.full(self.order - 1, self.end, np.int32)
        parts, places, at = [], [], 0
        for document in documents:
            parts += [pad, np.asarray(document, np.int32), pad[:1]]
            size = len(document) + 1
            places.append(np.arange(at + len(pad), at + len(pad) + size))
            at += len(pad) + size
        return np.concatenate(parts).astype(np.int64), np.concatenate(places)

    def _key(self, stream: np.ndarray, last: np.ndarray, length: int) -> np.ndarray:
        """One number for the `length` tokens that end at each place."""
        key = np.zeros(len(last), np.int64)
        for back in range(length):
            key |= stream[last - back] << (self.bits * back)
        return key

    def _count(self, stream, places, length, discounts) -> tuple[Order, np.ndarray]:
        contexts, context = np.unique(self._key(stream, places - 1, length - 1), return_inverse=True)
        grams, firsts, counts = np.unique(
            (context.astype(np.int64) << self.bits) | stream[places], return_index=True, return_counts=True
        )
        owner = grams >> self.bits
        chosen = discounts[length - 1] if discounts else _estimated(counts)
        totals = np.bincount(owner, counts, len(contexts))
        backoffs = np.bincount(owner, np.minimum(_discount(counts, chosen), counts), len(contexts)) / totals
        return Order(contexts, totals, backoffs, grams, counts, chosen), firsts


def _estimated(counts: np.ndarray) -> Discounts:
    """Discounts of n-grams seen once, twice, three times or more, from the counts of counts (equation 26)."""
    ones, twos, threes, fours = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if ones and twos and threes and fours:
        share = ones / (ones + 2 * twos)
        found = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
        if all(0 <= discount <= times for times, discount in enumerate(found, 1)):
            return found
    return (0.5, 1.0, 1.5)  # too few n-grams to estimate from (a toy corpus, the unigrams): as KenLM falls back


def _discount(counts: np.ndarray, discounts: Discounts) -> np.ndarray:
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of numbers in a sorted array, and whether they are there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted
