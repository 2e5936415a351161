"""One training from the first step to the kept weights: the loop with validation, saving, stopping and resuming."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from finesmith.errors import TrainingError
from finesmith.models.load import Loaded
from finesmith.tasks.base import Task
from finesmith.train import divide, loop, optim, state
from finesmith.train.batches import EncodedSet
from finesmith.train.cache import Cache
from finesmith.train.gradients import NOT_A_NUMBER
from finesmith.train.parallel import Processes
from finesmith.train.settings import TrainSettings
from finesmith.train.stop import History
from finesmith.train.validate import validate
from finesmith.types import Example, Step
from finesmith.watch import Interrupted

MAX_EVALUATIONS = 10


@dataclass(frozen=True)
class Event:
    """What has just happened: a step, and after some steps the validation scores."""

    step: Step
    scores: dict[str, float] = field(default_factory=dict)
    best: bool = False

    def row(self) -> dict[str, Any]:
        """What `steps.jsonl` says of it."""
        values = asdict(self.step)
        values["step"] = values.pop("index")
        return {**values, **({"validation": self.scores, "best": self.best} if self.scores else {})}


Write = Callable[[str, Callable[[Path], None]], None]


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps what it needs to go on (`state`) and its best weights (`best`).

    `write(name, writer)` makes a file in `folder` in one piece (`RunFolder.write_with`).
    """

    folder: Path
    write: Write

    @property
    def state(self) -> Path:
        """Everything between two steps."""
        return self.folder / "state.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the best validation score."""
        return self.folder / "best.safetensors"


def accelerator_for(device: torch.device, **settings: Any) -> Accelerator:
    """Accelerate for a model on this device, which stays where it is.

    Accelerate remembers the device of the first run in a process, which may have been another.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", **settings)


def total_steps(settings: TrainSettings, sequences: int) -> int:
    """Optimizer steps of a whole run; `epochs` is a number by now."""
    if settings.max_steps:
        return settings.max_steps
    return max(1, round(float(settings.epochs) * -(-sequences // settings.batch_size)))


def evaluation_steps(settings: TrainSettings, sequences: int) -> set[int]:
    """After which steps the validation rows are measured: evenly spread, the last step included."""
    total = total_steps(settings, sequences)
    wanted = 0 if settings.evaluations == "auto" else settings.evaluations
    if not wanted:
        wanted = min(MAX_EVALUATIONS, max(1, math.ceil(total / -(-sequences // settings.batch_size))))
    return {math.ceil(total * part / wanted) for part in range(1, wanted + 1)}


def fit(
    model: nn.Module,
    task: Task,
    loaded: Loaded,
    data: EncodedSet,
    validation: Sequence[Example],
    settings: TrainSettings,
    *,
    seed: int,
    checkpoints: Checkpoints,
    track: Callable[[dict[str, float], int], None],
    accelerator: Accelerator,
    cache: Cache | None = None,
    processes: Processes | None = None,
    room: loop.Room | None = None,
    costs: Callable[[], dict[str, float]] = dict,
    name_of: Callable[[int], str] = str,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Trains, and leaves the kept weights in `model`. Yields an Event after each step.

    `costs` says what the training has cost so far; a saved state has it, and its reader adds to it.

    Raises:
        Interrupted: `should_stop` said so; the state is saved and `resume=True` goes on bit for bit.
        TrainingError: as of `loop.train`; a validation score that is not a number.
    """
    optimizer = optim.optimizer(
        model,
        learning_rate=float(settings.learning_rate),
        weight_decay=settings.weight_decay,
        beta2=settings.beta2,
        name=settings.optimizer,
    )
    model, optimizer = accelerator.prepare(model, optimizer, device_placement=[False, False])
    history, start, unjudged = History(settings.patience), 0, list[Step]()
    room, processes = room or loop.room_for(settings), processes or Processes()
    if resume and checkpoints.state.exists():
        facts = state.load_state(checkpoints.state, model, optimizer)
        history = _history(facts, settings)
        room.go_on(facts.get("room", {}))
        if divide.usable(loaded.device):
            processes.go_on(facts.get("processes", {}))
        unjudged = [Step(**facts["unjudged"])] if "unjudged" in facts else []
        start = facts["step"] + len(unjudged)
    else:
        torch.manual_seed(seed)
    total, evaluate_at = total_steps(settings, len(data)), evaluation_steps(settings, len(data))
    asked = Loaded(model, loaded.tokenizer, loaded.device, loaded.dtype, loaded.stored)
    saved_at = monotonic()

    def save(step: int, **more: Any) -> None:
        """Saves the state behind `step`, the last that is logged."""
        facts = {"step": step, "scores": history.scores, "costs": costs(), **more}
        facts |= {"room": room.facts(), "processes": processes.facts(), "kept": cache.count if cache else 0}
        checkpoints.write(checkpoints.state.name, lambda path: state.save_state(path, model, optimizer, facts))

    steps = loop.train(
        model,
        task,
        data,
        settings,
        optimizer=optimizer,
        accelerator=accelerator,
        dtype=loaded.dtype,
        pad_id=loaded.tokenizer.pad_token_id,
        total=total,
        seed=seed,
        start=start,
        cache=cache,
        processes=processes,
        room=room,
        name_of=name_of,
    )
    for step in chain(unjudged, () if history.should_stop else steps):
        event = Event(step)
        if step.index in evaluate_at:
            try:
                scores = validate(task, asked, validation)
            except Exception:  # for want of memory mostly: the step is done, and judged when the run goes on
                save(step.index - 1, unjudged=asdict(step))
                raise
            scores = _finite(scores, step.index)
            history = history.add(step.index, tuple(scores.values()))
            event = Event(step, scores, best=history.improved)
            if history.improved and settings.keep == "best":
                checkpoints.write(checkpoints.best.name, lambda path: state.save_weights(path, model))
        track(
            {
                "loss": step.loss,
                "learning_rate": step.learning_rate,
                "gradient_norm": step.gradient_norm,
                **{f"validation_{name}": value for name, value in event.scores.items()},
            },
            step.index,
        )
        yield event
        stopping = should_stop()
        if stopping or monotonic() - saved_at > 60 * settings.save_minutes:
            save(step.index)
            saved_at = monotonic()
        if stopping:
            raise Interrupted(str(checkpoints.folder.parent))
        if history.should_stop:
            break
    save(total)
    if settings.keep == "best":
        state.load_weights(checkpoints.best, model)


def steps_are_left(facts: Mapping[str, Any], settings: TrainSettings, total: int) -> bool:
    """Whether a training that goes on from a state with these facts (none: from the beginning) computes a step."""
    done = facts.get("step", 0) + ("unjudged" in facts)
    return done < total and not _history(facts, settings).should_stop


def _history(facts: Mapping[str, Any], settings: TrainSettings) -> History:
    scores = facts.get("scores", ())
    return History(settings.patience, tuple((step, tuple(values)) for step, values in scores))


def _finite(scores: dict[str, float], step: int) -> dict[str, float]:
    """The same scores.

    Raises:
        TrainingError: one is not a number, so that no step could be called the best.
    """
    for name, value in scores.items():
        if not math.isfinite(value):
            raise TrainingError(f"The validation score {name} became {value} in step {step}.", hint=NOT_A_NUMBER)
    return scores
