"""Nearly equal texts: MinHash over character 4-grams finds candidates, the Jaccard similarity of the grams decides.

Vectorised over all texts, because a Python object a row and band (as in datasketch) takes more than 1 GB for 100,000
rows. Broder 1997 (MinHash); Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3 (banding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

GRAM = 4
"""Characters in a gram; a shorter text is one gram."""
THRESHOLD = 0.7
SLACK = 1e-9
BANDS, ROWS = 25, 5
"""A pair at 0.7 becomes a candidate with probability 1 - (1 - 0.7^5)^25 = 0.99."""
MOST_GRAMS = 4096
"""Grams of a text that are kept, those with the smallest hashes; longer texts are compared by an estimate."""
BUCKET = 32
"""In a larger bucket of candidates each text meets only so many of the next ones, those that agree with it in the next
bands first; chains still join its clusters."""
NEAREST = 16
EARLIER = 4
"""A pair counts if it is among the `NEAREST` of one of its texts, or the nearest `EARLIER` of those before one of them:
texts with a long part in common are near to all others, and n of them would be n^2 / 2 pairs."""
CHUNK = 1 << 20
MOST_PAIRS = 1 << 23
"""Candidates that are gathered, 64 MB, before repeated ones are taken out."""
Progress = Callable[[int], None]
Grams = tuple[np.ndarray, np.ndarray]
"""Sorted distinct gram hashes (uint32) of all texts, one text behind another, and where each text starts: [N + 1]."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions (first < second), [P, 2], with their similarity [P]."""

    places: np.ndarray
    similarity: np.ndarray


def near_pairs(
    texts: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    bands: tuple[int, int] = (BANDS, ROWS),
    seed: int = 0,
    among: int = 0,
    progress: Progress = lambda done: None,
) -> Pairs:
    """Pairs of texts whose character 4-grams have a Jaccard similarity of `threshold` or more: all of them, or
    where a text has very many the nearest ones (see `NEAREST`).

    Args:
        texts: normalised texts, best without repetitions: n equal texts are n^2 / 2 pairs.
        bands: number of bands and hashes in each.
        seed: of the hash functions; a pair well above the threshold is found with any.
        among: leave out pairs whose members are both among the first so many texts.
        progress: called with numbers of texts done.
    """
    parts, signatures = [], [np.zeros((0, bands[0] * bands[1]), np.uint32)]
    for chunk in _chunks(texts):
        whole = _hashed(chunk)
        signatures.append(_signatures(_joined([whole]), bands[0] * bands[1], seed, progress))  # of all its grams
        parts.append(_capped(*whole))
    grams, signed = _joined(parts), np.concatenate(signatures)
    places = _candidates(signed, bands, among, threshold - 0.15)  # a standard error of the agreement is 0.04
    similarity = _jaccard(grams, places)
    keep = similarity >= threshold - SLACK
    return Pairs(places[keep], similarity[keep])


def similarity(texts: Sequence[str], places: np.ndarray) -> np.ndarray:
    """The Jaccard similarity of the 4-grams of pairs of texts (positions, [P, 2]): [P]."""
    return _jaccard(shingle(texts), places) if len(places) else np.zeros(0)


def clusters(places: np.ndarray, count: int) -> list[list[int]]:
    """Positions joined by chains of pairs, two or more each; by their first member."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(places):
        return []
    links = coo_matrix((np.ones(len(places), bool), (places[:, 0], places[:, 1])), (count, count))
    names = connected_components(links, directed=False)[1]
    members = np.flatnonzero(np.bincount(names)[names] > 1)
    found: dict[int, list[int]] = {}
    for member in members.tolist():
        found.setdefault(int(names[member]), []).append(member)
    return list(found.values())


def shingle(texts: Sequence[str]) -> Grams:
    """The grams of every text, at most `MOST_GRAMS` of each."""
    return _joined([_capped(*_hashed(chunk)) for chunk in _chunks(texts)])


def _joined(parts: Sequence[Grams]) -> Grams:
    """Parts of grams and their counts, as grams and starts."""
    if not parts:
        return np.zeros(0, np.uint32), np.zeros(1, np.int64)
    counts = np.concatenate([counts for _, counts in parts])
    return np.concatenate([values for values, _ in parts]), np.concatenate([[0], np.cumsum(counts)])


def _capped(values: np.ndarray, counts: np.ndarray) -> Grams:
    """Of each text the grams with the smallest hashes, and how many they are."""
    rank = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return values[rank < MOST_GRAMS], np.minimum(counts, MOST_GRAMS)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Runs of texts with about a million characters."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hashed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct gram hashes of each text, sorted, one behind another; and how many each has."""
    padded = [text + "\0" * max(0, GRAM - len(text)) for text in texts]
    lengths = np.array([len(text) for text in padded])
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    grams = codes[: len(codes) - GRAM + 1].copy()
    for offset in range(1, GRAM):
        grams = grams * np.uint64(0x100000001B3) + codes[offset : len(codes) - GRAM + 1 + offset]
    owner = np.repeat(np.arange(len(texts), dtype=np.uint64), lengths)
    inside = np.arange(len(grams)) + GRAM <= np.repeat(np.cumsum(lengths), lengths)[: len(grams)]
    keys = _distinct((owner[: len(grams)][inside] << np.uint64(32)) | (_mixed(grams[inside]) >> np.uint64(32)))
    row = (keys >> np.uint64(32)).astype(np.int64)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), np.bincount(row, minlength=len(texts))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Well-spread 64-bit hashes of 64-bit values (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signatures(grams: Grams, count: int, seed: int, progress: Progress) -> np.ndarray:
    """The smallest of `count` hashes over each text's grams: [N, count], uint32."""
    values, starts = grams
    factors = np.random.default_rng(seed).integers(0, 1 << 63, (count, 2), dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    out = np.empty((len(starts) - 1, count), np.uint32)
    step = max(1, int((1 << 15) / max(1.0, len(values) / max(1, len(out)))))  # about 32,000 grams: they stay in cache
    for begin in range(0, len(out), step):
        end = min(begin + step, len(out))
        chunk = values[starts[begin] : starts[end]].astype(np.uint64)
        cuts = starts[begin:end] - starts[begin]
        for place, (factor, shift) in enumerate(factors):
            out[begin:end, place] = np.minimum.reduceat((chunk * factor + shift) >> np.uint64(32), cuts)
        progress(end - begin)
    return out


def _candidates(signatures: np.ndarray, bands: tuple[int, int], among: int, least: float) -> np.ndarray:
    """Pairs that agree in all hashes of some band and in a share `least` of all, the nearest of each text: [C, 2]."""
    total = len(signatures)
    keys = _keys(signatures, bands)
    places = np.zeros((0, 2), np.int64)
    found: list[np.ndarray] = []
    for band in range(bands[0]):
        order = np.lexsort(keys[[(band + 2) % bands[0], (band + 1) % bands[0], band]])
        ordered = keys[band][order]
        sizes = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [total]]))
        left = np.repeat(np.cumsum(sizes), sizes) - np.arange(total) - 1  # members of the bucket behind each place
        for gap in range(1, min(int(sizes.max(initial=0)), BUCKET + 1)):
            at = np.flatnonzero(left >= gap)
            found.append(np.stack([order[at], order[at + gap]], axis=1))
        if sum(map(len, found)) > MOST_PAIRS or band == bands[0] - 1:
            places, found = _nearest(signatures, _once(np.concatenate([places, *found]), total, among), least), []
    return places


def _keys(signatures: np.ndarray, bands: tuple[int, int]) -> np.ndarray:
    """One number for the hashes of each band: [bands, N]."""
    keys = np.zeros((bands[0], len(signatures)), np.uint64)
    for column in range(bands[0] * bands[1]):
        key = keys[column // bands[1]]
        key[:] = _mixed(key ^ signatures[:, column].astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    return keys


def _once(places: np.ndarray, total: int, among: int) -> np.ndarray:
    """Each pair once, the smaller position first, without those that are both among the first so many."""
    places = np.sort(places, axis=1)
    names = _distinct(places[:, 0] * total + places[:, 1])
    places = np.stack([names // max(total, 1), names % max(total, 1)], axis=1)
    return places[places[:, 1] >= among]


def _nearest(signatures: np.ndarray, places: np.ndarray, least: float) -> np.ndarray:
    """The pairs that agree in a share `least` of the hashes; of texts with many only the nearest."""
    agreement = _agreement(signatures, places)
    places, agreement = places[agreement >= least], agreement[agreement >= least]
    both = _ranks(places.T.ravel(), np.tile(agreement, 2)).reshape(2, -1)
    return places[(both < NEAREST).any(axis=0) | (_ranks(places[:, 1], agreement) < EARLIER)]


def _ranks(ends: np.ndarray, agreement: np.ndarray) -> np.ndarray:
    """For each pair its rank, from 0, among those of the text at its end, the one that agrees most first: [P]."""
    order = np.lexsort((-agreement, ends))
    starts = np.flatnonzero(np.diff(ends[order], prepend=-1))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, sorted (numpy's own `unique` hashes, which is many times slower on millions)."""
    values = np.sort(values)
    return values[np.diff(values, prepend=values[:1] - values.dtype.type(1)) != 0]


def _agreement(signatures: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The share of equal hashes, an estimate of the similarity: [P]."""
    out = np.empty(len(places))
    for begin in range(0, len(places), 100_000):
        first, second = places[begin : begin + 100_000].T
        out[begin : begin + len(first)] = (signatures[first] == signatures[second]).mean(axis=1)
    return out


def _jaccard(grams: Grams, places: np.ndarray) -> np.ndarray:
    """The exact similarity of pairs; for texts with `MOST_GRAMS` grams the estimate from the hashes both have kept."""
    values, starts = grams
    sizes = np.diff(starts)
    out = np.empty(len(places))
    capped = (sizes[places] >= MOST_GRAMS).any(axis=1)
    for index in np.flatnonzero(capped):
        out[index] = _sketched(*(values[starts[row] : starts[row + 1]] for row in places[index]))
    exact = np.flatnonzero(~capped)
    matrix = _matrix(values, starts)
    for begin in range(0, len(exact), 20_000):
        chunk = exact[begin : begin + 20_000]
        first, second = places[chunk].T
        shared = np.asarray(matrix[first].multiply(matrix[second]).sum(axis=1)).ravel().astype(float)
        out[chunk] = shared / (sizes[first] + sizes[second] - shared)
    return out


def _matrix(values: np.ndarray, starts: np.ndarray) -> Any:
    """A sparse matrix with a one for every gram of every text; columns are hashes, narrowed to 31 bits."""
    from scipy.sparse import csr_matrix

    shape = (len(starts) - 1, (1 << 31) - 1)
    columns = (values >> np.uint32(1)).astype(np.int32)
    matrix = csr_matrix((np.ones(len(columns), np.int32), columns, starts.astype(np.int64)), shape)
    matrix.has_canonical_format = True
    return matrix


def _sketched(first: np.ndarray, second: np.ndarray) -> float:
    limit = min(first[-1], second[-1])
    first, second = first[first <= limit], second[second <= limit]
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
