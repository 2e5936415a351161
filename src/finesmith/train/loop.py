"""The training loop: a generator of steps. It logs, saves and evaluates nothing; between two steps the model is yours.

The loss of a step is the sum over all its sequences divided by their supervised tokens (or rows), so that how a step is
cut into forward passes does not change it. Running out of memory is an event: the step is done again in smaller passes.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from finesmith.errors import TrainingError
from finesmith.methods._frozen import frozen_part
from finesmith.models import together
from finesmith.models.device import is_out_of_memory
from finesmith.tasks.base import Task
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.cache import Cache
from finesmith.train.divide import shares
from finesmith.train.gradients import NOT_A_NUMBER, Work
from finesmith.train.parallel import Processes
from finesmith.train.schedule import multiplier
from finesmith.train.settings import TrainSettings
from finesmith.train.state import device_of, put_back, random_numbers
from finesmith.types import Step


@dataclass
class Room:
    """Of how many tokens a step's forward passes are, all processes together: as settled, until memory runs out.

    `step` is the last one in which it did; `tell` is called with a note then.
    """

    settled: int
    tokens: int
    step: int = 0
    tell: Callable[[str], None] = lambda note: None

    def less(self, tokens: int, step: int) -> None:
        """From now on passes are of at most so many tokens, in the step that is tried again and all later ones."""
        self.tokens, self.step = tokens, step
        for note in self.notes:
            self.tell(note)

    @property
    def notes(self) -> tuple[str, ...]:
        """That memory ran out, and with what the training went on."""
        if not self.step:
            return ()
        fewer = f"forward passes are of up to {self.tokens:,} tokens, not {self.settled:,}"
        return (f"memory ran out in step {self.step}: from there on {fewer}",)

    def go_on(self, facts: Mapping[str, Any]) -> None:
        """As it was when a state was saved; one that was saved before this was kept changes nothing."""
        self.tokens, self.step = facts.get("tokens", self.tokens), facts.get("step", self.step)

    def facts(self) -> dict[str, Any]:
        """What `go_on` takes."""
        return {"tokens": self.tokens, "step": self.step}


def room_for(settings: TrainSettings, tell: Callable[[str], None] = lambda note: None) -> Room:
    """Room for the passes that the settings have; `micro_batch_tokens` is a number by now."""
    tokens = int(settings.micro_batch_tokens)
    return Room(tokens, tokens, tell=tell)


def train(
    model: nn.Module,
    task: Task,
    data: EncodedSet,
    settings: TrainSettings,
    *,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    dtype: torch.dtype,
    pad_id: int,
    total: int,
    seed: int,
    start: int = 0,
    cache: Cache | None = None,
    processes: Processes | None = None,
    room: Room | None = None,
    name_of: Callable[[int], str] = str,
) -> Iterator[Step]:
    """Trains step by step, from step `start` to step `total`.

    Args:
        model: with exactly the weights open that should move.
        data: the training sequences.
        settings: resolved; `learning_rate` is a number.
        total: optimizer steps in the whole run.
        cache: what the frozen layers give, where it is kept.
        processes: how many compute each step's gradients; the caller closes them.
        room: of how many tokens the passes are; as the settings say where it is not given.
        name_of: the id of an example by its position, for messages.

    Yields:
        a Step after each optimizer step.

    Raises:
        TrainingError: a loss or gradient that is not a number, with the rows; a row that alone does not fit in memory;
            no memory for the optimizer's moments.
    """
    plan = Plan(data.lengths, settings.batch_size, seed, together.training(model))
    room, cache, frozen = room or room_for(settings), cache or Cache(data.lengths), frozen_part(model)
    work = Work(model, task, data, cache, accelerator, dtype, pad_id, name_of)
    processes = processes or Processes()
    if start < total:
        processes.start(work, seed)
    shape = replace(
        plan, lengths=cache.lengths
    )  # of the forward passes; which rows are in a step does not depend on it
    epoch, batches = -1, []
    for index in range(start, total):
        if index // plan.steps_per_epoch != epoch:
            epoch = index // plan.steps_per_epoch
            batches = plan.epoch(epoch)
        began = time.perf_counter()
        batch = batches[index % plan.steps_per_epoch]
        rate = float(settings.learning_rate) * multiplier(
            index, total, warmup=settings.warmup, schedule=settings.schedule
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        frozen.quiet()
        loss = _gradients(work, shape, batch, room, processes, index)
        norm = float(accelerator.clip_grad_norm_(model.parameters(), settings.clip or math.inf))
        if not math.isfinite(norm):
            raise TrainingError(
                f"The gradient became {norm} in step {index + 1}.",
                problems=work.names(batch),
                hint=NOT_A_NUMBER,
            )
        _move(optimizer)
        optimizer.zero_grad(set_to_none=True)
        yield Step(
            index=index + 1,
            epoch=(index + 1) / plan.steps_per_epoch,
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            supervised=round(sum(data.supervised[p] for p in batch)),
            tokens=sum(data.lengths[p] for p in batch),
            seconds=time.perf_counter() - began,
        )


def _move(optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's step; in its first one it takes the memory for its moments."""
    try:
        optimizer.step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "Memory is too small for what the optimizer keeps beside each weight that moves.",
            hint="Use method lora (few weights move), train.optimizer=adamw_8bit, or a smaller model.",
        ) from error


SCALE = 2.0**16
"""What a loss is multiplied by before its backward pass in float16, where gradients below 6e-8 are 0."""


def _gradients(work: Work, plan: Plan, batch: Sequence[int], room: Room, processes: Processes, step: int) -> float:
    """Accumulates one step's gradients in passes that fit into memory; returns its mean loss in nats.

    In float16 they are those of a multiple of the loss, divided again; where that overflows, of a smaller multiple.
    Every attempt draws the same random numbers.
    """
    packed, scale, count = work.packed, SCALE if work.dtype == torch.float16 else 1.0, work.supervised(batch)
    device = device_of(work.model)
    random = random_numbers(device)
    while True:
        put_back(random, device)
        sides = len(processes.helpers) + 1
        passes = [_passes(work, plan, part, room.tokens // sides) for part in shares(batch, work.data.lengths, sides)]
        try:
            loss = processes.gradients(work, passes, count, scale, step)
            if scale == 1.0 or _divided(work.model, scale):
                return loss
            scale /= 16
            continue
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            alone = all(len(positions) == 1 for side in passes for positions in side)
            if alone and sides == 1:
                raise TrainingError(
                    "Memory is too small even for one row at a time.",
                    hint="Use a smaller train.max_length, method lora, or a smaller model.",
                    problems=work.names(passes[0][0]),
                ) from error
            if alone:
                processes.close()
                processes.notes += (f"memory ran out in step {step + 1} with a row in each of {sides} processes: "
                                    "the training went on in one",)  # fmt: skip
        work.model.zero_grad(set_to_none=True)  # what a failed pass has left is thrown away: the step begins anew
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(_size([plan.lengths[i] for i in p], packed) for side in passes for p in side)
        room.less(max(1, min(room.tokens, sides * largest) // 2), step + 1)


def _passes(work: Work, plan: Plan, batch: Sequence[int], budget: int) -> list[list[int]]:
    """Sequences in forward passes: those whose frozen states are kept apart from those that are computed."""
    parts = work.cache.parts(sorted(batch, key=lambda position: -work.data.lengths[position]))
    return [rows for part in parts for rows in plan.micro_batches(part, budget, packed=work.packed)]


def _divided(model: nn.Module, scale: float) -> bool:
    """Divides the gradients; False where one of them is not a number, after which they are gone."""
    found = [weight.grad.div_(scale) for weight in model.parameters() if weight.grad is not None]
    if all(bool(torch.isfinite(gradient).all()) for gradient in found):
        return True
    model.zero_grad(set_to_none=True)
    return False


def _size(lengths: Sequence[int], packed: bool) -> int:
    return sum(lengths) if packed else len(lengths) * max(lengths)
