"""What a run will take, before it is run: peak memory with its parts, time, disk. Nothing is written.

Everything up to step 1 is done as `tune` does it. Memory comes from a rehearsal of the steps without numbers
(`train/memory.py`), time from a few real steps, disk from the sizes of what will be saved.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finesmith import measure, run, stages
from finesmith.data import split
from finesmith.models import device as devices
from finesmith.models import together
from finesmith.recipe import Recipe
from finesmith.stages import Ready
from finesmith.tasks.classification import Classification
from finesmith.train import budget, loop, optim
from finesmith.train import fill as filling
from finesmith.train import fit as fitting
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.budget import Forecast
from finesmith.train.cache import Cache
from finesmith.train.memory import UnforeseenError
from finesmith.train.parallel import Processes
from finesmith.train.validate import validate
from finesmith.types import Step
from finesmith.watch import Watcher

MOST_STEPS, MOST_SECONDS = 8, 20.0
VALIDATED = 16
"""Rows of which the time of an evaluation is taken."""


@dataclass(frozen=True)
class Duration:
    """Seconds of a training, from `low` to `high`, and how they were found."""

    low: float
    high: float
    how: str


@dataclass(frozen=True)
class Disk:
    """Bytes on disk: the delivered model, what a run keeps to go on from (with the next state, which is written beside
    the last one; all removed at its end), the answers, and the temporary file of what the frozen layers give."""

    model: int
    checkpoint: int
    predictions: int
    frozen_states: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a run will take; `free` is the memory in bytes that it can have.

    `memory` is None where it cannot be found without training, and `problem` then says why; `seconds` is None where
    memory is too small to try.
    """

    recipe: Recipe
    memory: Forecast | None
    free: int | None
    seconds: Duration | None
    disk: Disk
    steps: int
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether memory has room for it, by the rule that `tune` chooses by; True where that is not known."""
        return self.memory is None or budget.fits(self.memory.growth, self.free)

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "peak_memory_bytes": self.memory.peak if self.memory else None,
            "memory": asdict(self.memory) if self.memory else None,
            "memory_problem": self.problem,
            "free_memory_bytes": self.free,
            "fits": self.fits,
            "seconds": asdict(self.seconds) if self.seconds else None,
            "disk": asdict(self.disk),
            "steps": self.steps,
            "micro_batch_tokens": self.recipe.train.micro_batch_tokens,
            "checkpointing": self.recipe.speed.checkpointing,
            "processes": self.recipe.speed.processes,
            "compiled": False,
        }


def estimate(recipe: Recipe, *, watcher: Watcher | None = None, probe: bool = True) -> Estimate:
    """Peak memory, time and disk of a run.

    Args:
        recipe: as `tune` takes it.
        watcher: receives notes and progress.
        probe: also take a few steps, for the time.

    Raises:
        FinesmithError: as `tune` does before step 1.
    """
    watcher = watcher or Watcher()
    prepared, _ = run.begin(recipe, watcher)
    ready = _uncompiled(prepared, watcher)
    memory, problem = _memory(ready)
    free = devices.free_memory(ready.loaded.device)
    total = fitting.total_steps(ready.recipe.train, len(ready.data))
    found = Estimate(ready.recipe, memory, free, None, _disk(ready), total, problem)
    if memory is not None and free is not None and memory.growth > free:
        return found
    kept = replace(found.disk, frozen_states=int(min(_states(ready, ready.data, total))))
    return replace(found, disk=kept, seconds=_seconds(ready, total, watcher) if probe else None)


def _uncompiled(prepared: run.Prepared, watcher: Watcher) -> Ready:
    """The run before step 1 without `speed.compile`, which only its recipe names; in as many processes as with it."""
    speed = prepared.recipe.speed
    plain = {"compile": False, "processes": 1 if speed.compile and speed.processes == "auto" else speed.processes}
    ready = stages.build(prepared.recipe.replace(speed=plain), prepared.splits, watcher)
    return replace(ready, recipe=ready.recipe.replace(speed={"compile": speed.compile}))


def _memory(ready: Ready) -> tuple[Forecast | None, str]:
    """The memory of the run, or why it cannot be said."""
    settings, speed = ready.recipe.train, ready.recipe.speed
    try:
        found = budget.forecast(
            ready.model,
            ready.task,
            ready.loaded,
            ready.data,
            settings,
            int(settings.micro_batch_tokens),
            seed=ready.recipe.seed,
            keep_memory=speed.keep_memory,
            processes=int(speed.processes),
            evaluation=stages.pieces(ready.task, ready.loaded, ready.splits.validation, int(settings.max_length)),
        )
        return found, ""
    except UnforeseenError as error:
        return None, str(error)


def _seconds(ready: Ready, total: int, watcher: Watcher) -> Duration:
    """A few real steps, the first of which is not counted, and an evaluation of a few rows."""
    settings, data = ready.recipe.train, ready.data
    few, cache, keeping = _cached(ready, total)
    with closing(cache):
        steps = list(_probe(few, cache, watcher))
    counted = steps[1:] or steps
    rates = sorted(step.seconds / step.tokens for step in counted)
    rates = rates[1:-1] if len(rates) > 4 else rates
    rows = split.spread(ready.splits.validation, VALIDATED)
    began = time.perf_counter()
    validate(ready.task, replace(ready.loaded, model=ready.model), rows)
    once = (time.perf_counter() - began) / len(rows) * len(ready.splits.validation)
    evaluating = once * len(fitting.evaluation_steps(settings, len(data)))
    tokens = sum(data.lengths) / -(-len(data) // settings.batch_size) * total
    how = f"{len(counted)} real steps ({sum(step.tokens for step in counted):,} tokens) and {len(rows)} validation rows"
    more = evaluating + keeping
    return Duration(rates[0] * tokens + more, rates[-1] * tokens + more, how)


def _cached(ready: Ready, total: int) -> tuple[Ready, Cache, float]:
    """The run with the sequences of its first steps alone, and what the frozen layers give for as large a share of
    them as the run keeps.

    Also the seconds that these layers take for all sequences that the run keeps; 0 where it keeps none.
    """
    settings, data = ready.recipe.train, ready.data
    plan = Plan(data.lengths, settings.batch_size, ready.recipe.seed, together.training(ready.model))
    first = [place for batch in plan.epoch(0)[:MOST_STEPS] for place in batch]
    few, (needed, limit) = EncodedSet([data[place] for place in first]), _states(ready, data, total)
    share = min(1.0, limit / needed) if needed else 0.0
    clock, began = _Clock(), time.perf_counter()
    cache, _ = filling.fill(
        ready.task,
        replace(ready.loaded, model=ready.model),
        few,
        settings,
        gigabytes=_ABOVE * share * _states(ready, few, total)[0] / 1e9,
        folder=Path(tempfile.gettempdir()),
        seed=ready.recipe.seed,
        total=total if total > plan.steps_per_epoch else 0,
        watcher=clock,
    )
    once = time.perf_counter() - began - clock.seconds
    kept = once + clock.seconds * share * len(data) / cache.count if cache.count else 0.0
    return replace(ready, data=few), cache, kept


_ABOVE = 1 + 1e-9
"""So that a bound that was worked out holds what it was worked out for."""


def _states(ready: Ready, data: EncodedSet, total: int) -> tuple[float, float]:
    """Bytes that the frozen layers' states of these sequences take, and how many the run keeps at most."""
    if total <= -(-len(ready.data) // ready.recipe.train.batch_size):  # in one epoch nothing is read again
        return 0.0, 0.0
    out = Path(ready.recipe.out).absolute()
    return filling.room(
        ready.task,
        replace(ready.loaded, model=ready.model),
        data,
        ready.recipe.train,
        gigabytes=ready.recipe.speed.cache_gigabytes,
        folder=next(place for place in (out, *out.parents) if place.is_dir()),
        seed=ready.recipe.seed,
    )


class _Clock(Watcher):
    """Takes the time of what is told to it as progress: the part that grows with the rows."""

    seconds = 0.0

    @contextmanager
    def progress(self, title: str, total: int, unit: str = "row") -> Iterator[Callable[[int], None]]:
        """Adds what it takes."""
        began = time.perf_counter()
        yield lambda done: None
        self.seconds += time.perf_counter() - began


def _probe(ready: Ready, cache: Cache, watcher: Watcher) -> Iterator[Step]:
    """The first steps of the run, at a learning rate at which nothing moves."""
    settings = ready.recipe.train.model_copy(update={"learning_rate": 1e-12})
    processes = Processes(int(ready.recipe.speed.processes))
    began = time.perf_counter()
    rows = min(settings.batch_size, len(ready.data))
    with closing(processes), watcher.progress(f"timing {MOST_STEPS} real steps", MOST_STEPS * rows) as progress:
        for step in loop.train(
            ready.model,
            ready.task,
            ready.data,
            settings,
            optimizer=optim.optimizer(
                ready.model, learning_rate=1e-12, weight_decay=0.0, beta2=settings.beta2, name=settings.optimizer
            ),
            accelerator=fitting.accelerator_for(ready.loaded.device),
            dtype=ready.loaded.dtype,
            pad_id=ready.loaded.tokenizer.pad_token_id,
            total=MOST_STEPS,
            cache=cache,
            processes=processes,
            seed=ready.recipe.seed,
        ):
            progress(rows)
            yield step
            if time.perf_counter() - began > MOST_SECONDS:
                return


def _disk(ready: Ready) -> Disk:
    trained = sum(weight.nbytes for weight in optim.trainable(ready.model).values())
    whole = sum(weight.numel() for weight in ready.model.parameters()) * ready.loaded.stored.itemsize
    core = getattr(ready.loaded.tokenizer, "backend_tokenizer", None)
    words = len(core.to_str().encode()) if core is not None else 0
    best = trained if ready.recipe.train.keep == "best" else 0
    state = trained + optim.state_bytes(ready.model, ready.recipe.train.optimizer)
    return Disk(
        model=(trained if ready.method.adapter else whole) + words,
        checkpoint=2 * state + best,
        predictions=_predictions(ready),
    )


def _predictions(ready: Ready) -> int:
    """A row is an id, the answer, the reference and the scores; so many for each system that is tested."""
    task = ready.task
    labels = [len(label) + 25 for label in task.labels] if isinstance(task, Classification) else [60]
    systems = 2 + len(measure.opponents(ready.recipe.task))
    rows = sum(2 * len(str(getattr(row.target, "text", row.target))) + 80 for row in ready.splits.test)
    return systems * (rows + len(ready.splits.test) * sum(labels))
