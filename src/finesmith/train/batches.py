"""Training sequences in flat arrays, and which of them go into each step: a pure function of the seed and the step.

So a resumed run needs no iterator state: step 57 has the same rows however it was reached.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from finesmith.data import temporary
from finesmith.tasks._order import token_batches
from finesmith.tasks.base import Encoded
from finesmith.types import Together

IN_MEMORY_TOKENS = 1 << 25
BUCKET = 8


class EncodedSet(Sequence[Encoded]):
    """Sequences behind one array of tokens; on disk and memory-mapped where there are many of them.

    `lengths` are tokens of each sequence, `supervised` what the loss counts in it, `rows` the example it came from, or
    the first of several (`origins`).

    Raises:
        RunError: no room for the temporary files.
    """

    def __init__(self, items: Iterable[Encoded], *, in_memory_tokens: int = IN_MEMORY_TOKENS) -> None:
        self.lengths: list[int] = []
        self.supervised: list[float] = []
        self.rows: list[int] = []
        self._targets: list[np.ndarray | None] = []
        self._segments: list[np.ndarray | None] = []
        self._others: list[tuple[int, ...]] = []
        with temporary.written():
            has_weights = self._write(items)
        in_memory = sum(self.lengths) <= in_memory_tokens
        tokens, weights = self._paths()
        self._tokens = _array(tokens, np.int32, in_memory)
        self._weights = _array(weights, np.float32, in_memory) if has_weights else None
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def origins(self, position: int) -> tuple[int, ...]:
        """The examples that a sequence came from: of a packed one those of all in it."""
        return (self.rows[position], *self._others[position])

    def _paths(self) -> list[Path]:
        return [Path(self._folder.name) / name for name in ("tokens", "weights")]

    def _write(self, items: Iterable[Encoded]) -> bool:
        """Writes the files; whether the sequences have weights."""
        self._folder = tempfile.TemporaryDirectory(prefix=temporary.PREFIX)
        has_weights = False
        tokens_path, weights_path = self._paths()
        with tokens_path.open("wb") as tokens, weights_path.open("wb") as weights:
            for item in items:
                tokens.write(item.tokens.astype(np.int32).tobytes())
                if item.weights is not None:
                    weights.write(item.weights.astype(np.float32).tobytes())
                    has_weights = True
                self.lengths.append(len(item.tokens))
                self.supervised.append(item.supervised)
                self.rows.append(item.row)
                self._targets.append(item.target)
                self._segments.append(item.segments)
                self._others.append(item.others)
        return has_weights

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # counts from the end where negative, IndexError where there is none
        place = slice(self._starts[index], self._starts[index] + self.lengths[index])
        weights = None if self._weights is None else np.asarray(self._weights[place])
        tokens = np.asarray(self._tokens[place])
        return Encoded(
            self.rows[index], tokens, weights, self._targets[index], self._segments[index], self._others[index]
        )


def _array(path: Path, dtype: type, in_memory: bool) -> np.ndarray:
    if in_memory or path.stat().st_size == 0:
        return np.fromfile(path, dtype)
    return np.memmap(path, dtype, mode="r")


@dataclass(frozen=True)
class Plan:
    """Which sequences each optimizer step takes. Pure: `plan.step(k)` depends on nothing but its fields and k."""

    lengths: Sequence[int]
    batch_size: int
    seed: int
    together: Together = "any"
    """Which sequences may share a forward pass."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; the last of a pass may have fewer rows."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of one pass: shuffled, of like length inside a bucket of a few batches, then shuffled again."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths))
        batches: list[list[int]] = []
        for start in range(0, len(order), BUCKET * self.batch_size):
            bucket = sorted(order[start : start + BUCKET * self.batch_size].tolist(), key=lambda p: self.lengths[p])
            batches += [bucket[at : at + self.batch_size] for at in range(0, len(bucket), self.batch_size)]
        return [batches[place] for place in random.permutation(len(batches))]

    def micro_batches(self, batch: Sequence[int], budget: int, *, packed: bool = False) -> list[list[int]]:
        """A step's sequences in forward passes of at most `budget` tokens (padding included), longest first."""
        order = sorted(batch, key=lambda position: -self.lengths[position])
        return token_batches(order, self.lengths, budget, packed=packed, together=self.together)
