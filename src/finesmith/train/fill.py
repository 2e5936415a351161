"""Computes what the frozen layers give, before step 1, and proves on the first batch that it may take their place.

Everything is computed in batches that depend on the data alone: so a resumed run has the same states, to the last bit,
wherever it goes on.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finesmith.methods._frozen import Frozen, frozen_part
from finesmith.methods.base import layer_list
from finesmith.models import fast, together
from finesmith.models.device import autocast
from finesmith.models.load import Loaded
from finesmith.tasks.base import Batch, Encoded, Task, batch_of, token_place
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.cache import Cache, Kept, rows_of, uncompiled, unused
from finesmith.train.settings import TrainSettings
from finesmith.watch import Watcher

TOLERANCE, NARROW_TOLERANCE = 1e-4, 3e-2
"""Largest difference that states, loss and gradient may have, relative: in float32, and in narrower arithmetic, where
two orders of batches differ by about as much."""


class UnfitError(Exception):
    """Why the states of this model's frozen layers cannot be kept."""


FAILURES = (UnfitError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, OSError)
"""What an unknown architecture or a full disk may raise: the states are not kept then, and training goes on."""


def fill(
    task: Task,
    loaded: Loaded,
    data: EncodedSet,
    settings: TrainSettings,
    *,
    gigabytes: float,
    folder: Path,
    seed: int,
    total: int,
    watcher: Watcher,
) -> tuple[Cache, tuple[str, ...]]:
    """What the frozen layers of `loaded.model` give for the training sequences; nothing where that would save nothing.

    Args:
        gigabytes: bound of the file; sequences beyond it are computed in every epoch.
        folder: where the file without a name is; it takes no more than half of the room left there.
        total: optimizer steps in the whole run; the states are worth their while from the second epoch on. A resumed
            run has the same states for its last steps as the whole one. 0: no step is left.

    Returns:
        the cache, and a note on what is kept, or why nothing is.
    """
    plan = Plan(data.lengths, settings.batch_size, seed, together.training(loaded.model))
    run = _Passes(task, loaded, data, frozen_part(loaded.model), plan, int(settings.micro_batch_tokens))
    cache = Cache(data.lengths)
    if not gigabytes or not run.frozen.blocks or total <= plan.steps_per_epoch:
        return cache, unused(gigabytes, moving=not run.frozen.blocks, left=total, watcher=watcher)
    try:
        cache = _measured(run, _limit(gigabytes, folder)).opened(folder)
        with watcher.progress("computing the frozen layers", cache.count) as progress:
            _write(cache, run, progress)
        _prove(cache, run)
    except FAILURES as error:
        cache.close()
        note = f"the frozen layers are computed in every epoch: {error}"
        watcher.note(note)
        return Cache(data.lengths), (note,)
    except BaseException:
        cache.close()
        raise
    finally:
        loaded.model.zero_grad(set_to_none=True)
    share = "" if cache.count == len(data) else f" for {cache.count:,} of {len(data):,} sequences"
    note = f"what {len(run.frozen.blocks)} frozen layers give is kept{share}: {cache.starts[-1] / 1e6:,.1f} MB"
    watcher.note(note)
    return cache, (note,)


def room(
    task: Task, loaded: Loaded, data: EncodedSet, settings: TrainSettings, *, gigabytes: float, folder: Path, seed: int
) -> tuple[float, float]:
    """Bytes that the states of all sequences take, and how many `fill` keeps at most; twice 0 where it keeps none."""
    plan = Plan(data.lengths, settings.batch_size, seed, together.training(loaded.model))
    run = _Passes(task, loaded, data, frozen_part(loaded.model), plan, int(settings.micro_batch_tokens))
    if not gigabytes or not run.frozen.blocks:
        return 0.0, 0.0
    try:
        return float(_measured(run, math.inf).starts[-1]), _limit(gigabytes, folder)
    except FAILURES:
        return 0.0, 0.0


def _limit(gigabytes: float, folder: Path) -> float:
    """Bytes that the file may have."""
    return min(gigabytes * 1e9, shutil.disk_usage(folder).free / 2)


@dataclass(frozen=True)
class _Passes:
    """Forward passes over the training sequences, as in training."""

    task: Task
    loaded: Loaded
    data: EncodedSet
    frozen: Frozen
    plan: Plan
    budget: int

    @property
    def packed(self) -> bool:
        return fast.of(self.loaded.model).packed

    @property
    def first(self) -> list[int]:
        """The sequences of the first forward pass."""
        return self.plan.micro_batches(self.plan.epoch(0)[0], self.budget, packed=self.packed)[0]

    def mode(self, *, dropout: bool) -> None:
        self.loaded.model.train(dropout)
        self.frozen.quiet()

    def batch(self, items: Sequence[Encoded]) -> Batch:
        return batch_of(self.loaded.model, items, self.loaded.tokenizer.pad_token_id, self.loaded.device)

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss."""
        with autocast(self.loaded.device, self.loaded.dtype):
            total, count = self.task.loss(self.loaded.model, batch)
        return total / count

    def output(self, positions: Sequence[int]) -> Any:
        """What the last frozen block gives; the layers above it are not run."""
        try:
            with self._watching(_stop):
                self.loss(self.batch([self.data[position] for position in positions]))
        except _ReachedError as reached:
            return reached.output
        raise UnfitError("the model runs its layers in a way of its own")

    def states(self, positions: Sequence[int]) -> list[Tensor]:
        """The frozen part's states `[T, H]` for each sequence."""
        items = [self.data[position] for position in positions]
        return rows_of(_state(self.output(positions))[0], items, packed=self.packed)

    def gradient_of_states(self, positions: Sequence[int]) -> Tensor:
        """The slope `[B, T, H]` of the loss along the frozen part's states."""
        seen: list[Tensor] = []

        def open_(module: Any, inputs: Any, output: Any) -> Any:
            state, places = _state(output)
            seen.append(state.detach().requires_grad_())
            return (seen[0], *output[1:]) if places else seen[0]

        with self._watching(open_):
            loss = self.loss(self.batch([self.data[position] for position in positions]))
        return torch.autograd.grad(loss, seen[0])[0]

    @contextmanager
    def _watching(self, hook: Any) -> Iterator[None]:
        handle = self.frozen.blocks[-1].register_forward_hook(hook)
        try:
            with uncompiled(self.frozen.blocks):
                yield
        finally:
            handle.remove()


class _ReachedError(Exception):
    """The forward pass has come to the end of the frozen part."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop(module: Any, inputs: Any, output: Any) -> None:
    raise _ReachedError(output)


def _state(output: Any) -> tuple[Tensor, int]:
    """The hidden states in what a block gives, and the length of the tuple they come in, 0 if they come alone."""
    if isinstance(output, Tensor):
        return output, 0
    if not isinstance(output, tuple) or any(part is not None for part in output[1:]):
        raise UnfitError("its layers give one another more than hidden states")
    return output[0], len(output)


def _measured(run: _Passes, limit: float) -> Cache:
    """The cache that the model asks for, within `limit` bytes, still without a file."""
    run.mode(dropout=True)
    state, places = _state(run.output(run.first))
    if state.requires_grad:
        raise UnfitError("something below them moves")
    kept, lengths = _token_read(run), run.data.lengths
    if kept != "all":
        lengths = [1] * len(lengths)
    whole = Cache(
        lengths, len(lengths), run.frozen, kept, run.loaded.tokenizer.pad_token_id, places,
        state.shape[-1], state.dtype, run.loaded.device,
    )  # fmt: skip
    count = int((whole.starts[1:] <= limit).sum())
    if not count:
        raise UnfitError("speed.cache_gigabytes, or half of the free disk space, holds not even one sequence")
    return replace(whole, lengths=[*lengths[:count], *run.data.lengths[count:]], count=count)


def _token_read(run: _Passes) -> Kept:
    """Which token's state a classifier's head reads, where all blocks are frozen: the one that moves the loss."""
    everything = len(run.frozen.blocks) == len(layer_list(run.loaded.model))
    if not everything or run.task.kind != "sequence-classification":
        return "all"
    reading = fast.of(run.loaded.model).reading
    if reading is not None:
        return reading.token
    run.mode(dropout=False)
    slopes = run.gradient_of_states(run.first).abs().sum(-1)  # [B, T]
    tokens = [run.data[position].tokens for position in run.first]
    for kept in ("first", "last"):
        places = [token_place(row, kept, run.loaded.tokenizer.pad_token_id) for row in tokens]
        elsewhere = slopes.clone()
        elsewhere[range(len(places)), places] = 0
        if slopes.any() and not elsewhere.any():
            return kept
    return "all"


def _write(cache: Cache, run: _Passes, progress: Callable[[int], None]) -> None:
    run.mode(dropout=True)
    for positions in run.plan.micro_batches(range(cache.count), run.budget, packed=run.packed):
        with torch.no_grad():
            states = run.states(positions)
        for position, state in zip(positions, states, strict=True):
            cache.write(position, _read_rows(cache, run.data[position], state))
        progress(len(positions))


def _read_rows(cache: Cache, item: Encoded, state: Tensor) -> Tensor:
    """Those states `[T, H]` of a sequence that are kept."""
    if cache.kept == "all":
        return state
    place = token_place(item.tokens, cache.kept, cache.pad_id)
    return state[place : place + 1]


def _prove(cache: Cache, run: _Passes) -> None:
    """In training, the frozen part gives the kept states; without dropout, loss and gradients with them are the same.

    Raises:
        UnfitError: they are not.
    """
    batch = next(part for step in run.plan.epoch(0) for part in cache.parts(step) if part[0] < cache.count)
    positions = run.plan.micro_batches(batch, run.budget, packed=run.packed)[0]
    run.mode(dropout=True)
    with torch.no_grad():
        states = run.states(positions)
    rows = [_read_rows(cache, run.data[place], state) for place, state in zip(positions, states, strict=True)]
    items = cache.items(run.data, positions)
    kept = rows_of(cache.read(positions, items, packed=run.packed), items, packed=run.packed)
    run.mode(dropout=False)
    plain = _loss_and_gradient(run, Cache(run.data.lengths), positions)
    quick = _loss_and_gradient(run, cache, positions)
    pairs = {"states": (torch.cat(rows), torch.cat(kept)), **{name: (plain[name], quick[name]) for name in plain}}
    for name, (one, other) in pairs.items():
        apart = _apart(one.cpu().double(), other.cpu().double())
        if not apart <= (TOLERANCE if run.loaded.dtype == torch.float32 else NARROW_TOLERANCE):
            raise UnfitError(f"their {name} would differ by {apart:.1e}")


def _apart(one: Tensor, other: Tensor) -> float:
    """How far apart two vectors are, as a share of the first."""
    return float((one - other).norm()) / max(float(one.norm()), 1e-30)


def _loss_and_gradient(run: _Passes, cache: Cache, positions: Sequence[int]) -> dict[str, Tensor]:
    """The loss, and all gradients in one vector."""
    run.loaded.model.zero_grad(set_to_none=True)
    items = cache.items(run.data, positions)
    batch = run.batch(items)
    with cache.feeding(positions, items, packed=run.packed):
        loss = run.loss(batch)
    loss.backward()
    found = [p.grad.flatten().float() for p in run.loaded.model.parameters() if p.grad is not None]
    return {"loss": loss.detach()[None], "gradients": torch.cat(found)}
