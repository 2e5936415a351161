"""Which training text repeats a held-out row: word runs for long texts, exact and near equality for short items.

No row of any validation or test part may be trained on, nor a near copy of it. Three searches find one:

- a run of RUN words (after `finesmith.data.duplicates.normalised`) that stands in a held-out row, in any place;
- a held-out row of SHORTEST to RUN - 1 words as a whole, anywhere in a document;
- an item (one question, one labelled text) that is like a held-out row: MinHash over the word pairs of both estimates a
  Jaccard similarity of NEAR or more (Broder 1997), or they are equal.
"""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from finesmith.data.duplicates import normalised

RUN = 13  # words, as GPT-3's search for contamination used (Brown et al. 2020, appendix C)
SHORTEST = 6
NEAR = 0.7
LONGEST_ITEM = 60  # words; longer items are searched by runs alone
PERMUTATIONS = 64
BITS = 26
BASE = np.uint64(0x9E3779B97F4A7C15)
FIELDS = ("prompt", "text", "completion", "long_answer", "chosen")
WORDS = re.compile(r"\w+")


class Words:
    """Text to 64-bit word ids; the same word has the same id in every process."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __call__(self, text: str) -> np.ndarray:
        """Ids of the normalised words, `[N]` uint64."""
        words = normalised(text).split()
        known = self._ids
        for word in (word for word in set(words) if word not in known):
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little") | 1
        return np.fromiter((known[word] for word in words), np.uint64, len(words))


def runs(ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(length, hashes of all runs of that many words) for SHORTEST to RUN words."""
    total, power = np.zeros(len(ids), np.uint64), np.uint64(1)
    for length in range(1, RUN + 1):
        if len(ids) < length:
            return
        with np.errstate(over="ignore"):
            total = total[: len(ids) - length + 1] + ids[length - 1 :] * power
            power = power * BASE
        if length >= SHORTEST:
            yield length, total


class Lookup:
    """A set of hashes that answers for whole arrays: a table of bits first, a binary search for what passes it."""

    def __init__(self, hashes: np.ndarray, owners: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]
        self._bits = np.zeros(1 << BITS, bool)
        self._bits[self._hashes >> np.uint64(64 - BITS)] = True

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `hashes` that are in the set, and which held-out set each is from."""
        maybe = np.flatnonzero(self._bits[hashes >> np.uint64(64 - BITS)])
        at = np.searchsorted(self._hashes, hashes[maybe])
        at[at == len(self._hashes)] = 0
        right = self._hashes[at] == hashes[maybe] if len(self._hashes) else np.zeros(len(maybe), bool)
        return maybe[right], self._owners[at[right]] if len(self._hashes) else np.zeros(0, int)


class HeldOut:
    """Every held-out row of every set, ready to be searched for; `found` counts what was dropped because of each."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self.words, self.sets, self.rows = Words(), [], Counter[str]()
        self.found: Counter[str] = Counter()
        self._exact: dict[str, str] = {}
        self._near = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
        self._sketches: dict[int, tuple[MinHash, str]] = {}
        hashes: dict[int, list[np.ndarray]] = {length: [] for length in range(SHORTEST, RUN + 1)}
        owners: dict[int, list[np.ndarray]] = {length: [] for length in hashes}
        for name, text in rows:
            self._add(name, text, hashes, owners)
        self._runs = {
            length: Lookup(np.concatenate([np.zeros(0, np.uint64), *hashes[length]]),
                           np.concatenate([np.zeros(0, int), *owners[length]]))
            for length in hashes
        }  # fmt: skip

    def _add(self, name: str, text: str, hashes: dict, owners: dict) -> None:
        self.rows[name] += 1
        if name not in self.sets:
            self.sets.append(name)
        ids = self.words(text)
        for length, found in runs(ids):
            if length == min(len(ids), RUN):
                found = np.unique(found)
                hashes[length].append(found)
                owners[length].append(np.full(len(found), self.sets.index(name)))
        plain = normalised(text)
        self._exact.setdefault(plain, name)
        if len(ids) <= LONGEST_ITEM:
            sketch = _sketch(plain)
            key = len(self._sketches)
            self._sketches[key] = (sketch, name)
            self._near.insert(key, sketch)

    def hits(self, text: str) -> tuple[list[tuple[int, int]], set[str]]:
        """Stretches (first word, one past the last) of a document that stand in a held-out row, and whose they are."""
        spans, names = [], set()
        for length, hashes in runs(self.words(text)):
            places, owners = self._runs[length].find(hashes)
            spans += [(int(place), int(place) + length) for place in places]
            names |= {self.sets[owner] for owner in np.unique(owners)}
        return spans, names

    def like(self, text: str) -> str | None:
        """The set with a row that is (nearly) this item, or None."""
        plain = normalised(text)
        if plain in self._exact:
            return self._exact[plain]
        if plain.count(" ") >= LONGEST_ITEM:
            return None
        sketch = _sketch(plain)
        for key in sorted(self._near.query(sketch)):
            if self._sketches[key][0].jaccard(sketch) >= NEAR:
                return self._sketches[key][1]
        return None

    def clean(self, text: str, least: int) -> list[str]:
        """A document without its lines that repeat a held-out row: whole, or in the pieces between them.

        Pieces shorter than `least` characters are left out.
        """
        spans, names = self.hits(text)
        if not spans:
            return [text]
        self.found.update(names)
        lines = text.split("\n")
        ends = np.cumsum([len(normalised(line).split()) if WORDS.search(line) else 0 for line in lines])
        bad = set()
        for first, last in spans:
            bad |= set(range(int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last, "left")) + 1))
        pieces: list[list[str]] = [[]]
        for number, line in enumerate(lines):
            if number in bad:
                pieces.append([])
            else:
                pieces[-1].append(line)
        return [piece for lines in pieces if len(piece := "\n".join(lines).strip()) >= least]


def _sketch(plain: str) -> MinHash:
    words = plain.split()
    pairs = {" ".join(words[at : at + 2]) for at in range(max(1, len(words) - 1))}
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([pair.encode() for pair in pairs])
    return sketch


def held_out_rows(corpora: Path, examples: Path | None) -> Iterator[tuple[str, str]]:
    """(set, text) of every row in a validation or test file below `corpora`, and of all rows of the examples."""
    for path in sorted(corpora.glob("*/*.jsonl")):
        if path.name.startswith(("validation", "test")):
            yield from ((path.parent.name, text) for text in _texts(path))
    for path in sorted(examples.glob("*/*")) if examples else ():
        if path.suffix in (".jsonl", ".csv") and path.parent.name != "pretrain":
            yield from ((f"examples/{path.parent.name}", text) for text in _texts(path))


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file):
            if "messages" in row:
                yield "\n".join(turn["content"] for turn in row["messages"])
            yield "\n".join(row[field] for field in FIELDS if isinstance(row.get(field), str))
