"""The training loop: a generator of steps. It logs, saves and evaluates nothing; between two steps the model is yours.

The loss of a step is the sum over all its sequences divided by their supervised tokens (or rows), so that how a step is
cut into forward passes does not change it. Running out of memory is an event: the step is done again in smaller passes.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

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
from finesmith.types import Step


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
        name_of: the id of an example by its position, for messages.

    Yields:
        a Step after each optimizer step.

    Raises:
        TrainingError: a loss or gradient that is not a number, with the rows; a row that alone does not fit in memory;
            no memory for the optimizer's moments.
    """
    plan = Plan(data.lengths, settings.batch_size, seed, together.training(model))
    budget, cache, frozen = int(settings.micro_batch_tokens), cache or Cache(data.lengths), frozen_part(model)
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
        loss, budget = _gradients(work, shape, batch, budget, processes, index)
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


def _gradients(
    work: Work, plan: Plan, batch: Sequence[int], budget: int, processes: Processes, step: int
) -> tuple[float, int]:
    """Accumulates one step's gradients; returns its mean loss in nats and the token budget that fitted into memory.

    In float16 they are those of a multiple of the loss, divided again; where that overflows, of a smaller multiple.
    """
    packed, scale, count = work.packed, SCALE if work.dtype == torch.float16 else 1.0, work.supervised(batch)
    while True:
        sides = len(processes.helpers) + 1
        passes = [_passes(work, plan, part, budget // sides) for part in shares(batch, work.data.lengths, sides)]
        try:
            loss = processes.gradients(work, passes, count, scale, step)
            if scale == 1.0 or _divided(work.model, scale):
                return loss, budget
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
        work.model.zero_grad(set_to_none=True)  # what a failed pass has left is thrown away: the step begins anew
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(_size([plan.lengths[i] for i in p], packed) for side in passes for p in side)
        budget = max(1, min(budget, sides * largest) // 2)


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
