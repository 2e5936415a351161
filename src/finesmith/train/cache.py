"""What the frozen layers give, kept in a file: a forward pass then runs only the layers above them.

`train/fill.py` computes it. The file has no name, so that nothing of it is left behind, however a run ends.

Legend for shapes: B sequences, T tokens of the longest, N tokens of a packed row, H hidden size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from finesmith.methods._frozen import Frozen
from finesmith.tasks.base import Encoded, packed_places, token_place
from finesmith.train.speed import SpeedSettings
from finesmith.watch import Watcher

Kept = Literal["all", "first", "last"]
"""Which tokens of a sequence have their states kept: a classifier's head reads only one."""


@dataclass(frozen=True)
class Cache:
    """The states that the first `count` sequences have where the frozen part ends; by default of none.

    `lengths` are the tokens that each sequence has in a forward pass: one, where only one token's state is read.
    `places` is 0 where a block gives its hidden states alone, or the length of the tuple in which they come first.
    """

    lengths: Sequence[int]
    count: int = 0
    frozen: Frozen = field(default_factory=Frozen)
    kept: Kept = "all"
    pad_id: int = 0
    places: int = 0
    width: int = 0
    dtype: torch.dtype = torch.float32
    device: Any = "cpu"
    file: Any = None

    @cached_property
    def starts(self) -> np.ndarray:
        """Bytes before each kept sequence; the last number is the size of all."""
        sizes = np.asarray(self.lengths[: self.count], np.int64) * self.width * self.dtype.itemsize
        return np.concatenate([[0], np.cumsum(sizes)])

    def parts(self, batch: Sequence[int]) -> list[list[int]]:
        """A step's sequences: those that are kept, and those that are computed each time."""
        found = [position for position in batch if position < self.count]
        others = [position for position in batch if position >= self.count]
        return [part for part in (found, others) if part]

    def items(self, data: Sequence[Encoded], positions: Sequence[int]) -> list[Encoded]:
        """The sequences of a forward pass: of a kept one only the tokens that have their states kept."""
        return [self.cut(data[position]) if position < self.count else data[position] for position in positions]

    def cut(self, item: Encoded) -> Encoded:
        """The tokens of a sequence that have their states kept."""
        if self.kept == "all":
            return item
        place = token_place(item.tokens, self.kept, self.pad_id)
        return replace(item, tokens=item.tokens[place : place + 1])

    @contextmanager
    def feeding(self, positions: Sequence[int], items: Sequence[Encoded], *, packed: bool) -> Iterator[None]:
        """While this lasts the frozen blocks compute nothing, and what they gave for these sequences takes its place.

        Args:
            positions: sequences of one of the `parts`.
            items: what `items` gave for them.
            packed: they stand one behind the other, without padding.
        """
        if positions[0] >= self.count:
            yield
            return
        state, blocks = self.read(positions, items, packed=packed), self.frozen.blocks
        with uncompiled(blocks):
            for block in blocks:
                block.forward = _StandIn(self.places, state if block is blocks[-1] else None)
            try:
                yield
            finally:
                for block in blocks:
                    del block.forward

    def read(self, positions: Sequence[int], items: Sequence[Encoded], *, packed: bool) -> Tensor:
        """The states of some sequences: `[1, N, H]` one behind the other, or `[B, T, H]` with zeros behind the end."""
        sizes = [len(item.tokens) for item in items]
        shape = (1, sum(sizes)) if packed else (len(sizes), max(sizes))
        out = torch.zeros(*shape, self.width, dtype=self.dtype)
        for number, begin, part in parts_of(out, items, packed=packed):
            self.file.seek(self.starts[positions[number]] + begin * self.width * self.dtype.itemsize)
            if self.file.readinto(_bytes(part)) != part.nbytes:
                raise OSError("the file with the frozen layers' states is too short")
        return out.to(self.device)

    def write(self, position: int, states: Tensor) -> None:
        """Keeps the states `[T, H]` of a sequence."""
        self.file.seek(self.starts[position])
        self.file.write(_bytes(states.detach().cpu().contiguous()))

    def opened(self, folder: Path) -> Cache:
        """The same with an empty file to write to, on the disk of a folder."""
        return replace(self, file=tempfile.TemporaryFile(dir=folder, buffering=0))

    def close(self) -> None:
        """Gives the disk space back."""
        if self.file is not None:
            self.file.close()


def parts_of(states: Tensor, items: Sequence[Encoded], *, packed: bool) -> Iterator[tuple[int, int, Tensor]]:
    """The parts `[T, H]` of the states of a forward pass, each with its item and the token in it that it begins at."""
    if not packed:
        yield from ((number, 0, states[number, : len(item.tokens)]) for number, item in enumerate(items))
        return
    places = packed_places(items)
    for (number, begin, _), part in zip(places, states[0].split([end - at for _, at, end in places]), strict=True):
        yield number, begin, part


def rows_of(states: Tensor, items: Sequence[Encoded], *, packed: bool) -> list[Tensor]:
    """The states `[T, H]` of each item in those of a forward pass."""
    rows = [states.new_empty(len(item.tokens), states.shape[-1]) for item in items]
    for number, begin, part in parts_of(states, items, packed=packed):
        rows[number][begin : begin + len(part)] = part
    return rows


def unused(gigabytes: float, *, moving: bool, left: int, watcher: Watcher) -> tuple[str, ...]:
    """What is said where a size was asked for and nothing is kept: the lowest layer is `moving`, or the steps that are
    `left` (0: none is) read no sequence twice.
    """
    if gigabytes in (0, SpeedSettings().cache_gigabytes) or not left:
        return ()
    why = "the lowest layer moves" if moving else "no sequence is read a second time"
    note = f"speed.cache_gigabytes has no effect: {why}"
    watcher.note(note)
    return (note,)


@contextmanager
def uncompiled(blocks: Sequence[Any]) -> Iterator[None]:
    """While this lasts compiled blocks (`speed.compile`) run as they are written."""
    compiled: list[Any] = [block._compiled_call_impl for block in blocks]
    for block in blocks:
        block._compiled_call_impl = None
    try:
        yield
    finally:
        for block, call in zip(blocks, compiled, strict=True):
            block._compiled_call_impl = call


class _StandIn:
    """The forward pass of a frozen block: passes its input through, or gives the kept states, in the block's form."""

    def __init__(self, places: int, state: Tensor | None) -> None:
        self.places, self.state = places, state

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs["hidden_states"]
        state = given if self.state is None else self.state
        return (state, *((None,) * (self.places - 1))) if self.places else state


def _bytes(tensor: Tensor) -> Any:
    return tensor.view(torch.uint8).numpy()
