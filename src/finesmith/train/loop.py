"""The training loop: a generator of steps. It logs, saves and evaluates nothing; between two steps the model is yours.

The loss of a step is the sum over all its sequences divided by their supervised tokens (or rows), so that how a step is
cut into forward passes does not change it. Running out of memory is an event: the step is done again in smaller passes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from finesmith.errors import TrainingError
from finesmith.methods._frozen import frozen_part
from finesmith.models import fast
from finesmith.models.device import autocast, is_out_of_memory
from finesmith.tasks.base import Task, batch_of
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.cache import Cache
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
    name_of: Callable[[int], str] = str,
) -> Iterator[Step]:
    """Trains step by step, from step `start` to step `total`.

    Args:
        model: with exactly the weights open that should move.
        data: the training sequences.
        settings: resolved; `learning_rate` is a number.
        total: optimizer steps in the whole run.
        cache: what the frozen layers give, where it is kept.
        name_of: the id of an example by its position, for messages.

    Yields:
        a Step after each optimizer step.

    Raises:
        TrainingError: a loss or gradient that is not a number, with the rows; a row that alone does not fit in memory.
    """
    plan = Plan(data.lengths, settings.batch_size, seed)
    budget, cache, frozen = int(settings.micro_batch_tokens), cache or Cache(data.lengths), frozen_part(model)
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
        loss, budget = _gradients(model, task, data, cache, shape, batch, budget, accelerator, dtype, pad_id, name_of)
        norm = float(accelerator.clip_grad_norm_(model.parameters(), settings.clip or math.inf))
        if not math.isfinite(norm):
            raise TrainingError(
                f"The gradient became {norm} in step {index + 1}.",
                problems=_names(data, batch, name_of),
                hint="A lower train.learning_rate usually helps; so does model.dtype=float32.",
            )
        optimizer.step()
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


SCALE = 2.0**16
"""What a loss is multiplied by before its backward pass in float16, where gradients below 6e-8 are 0."""


def _gradients(
    model: nn.Module,
    task: Task,
    data: EncodedSet,
    cache: Cache,
    plan: Plan,
    batch: Sequence[int],
    budget: int,
    accelerator: Accelerator,
    dtype: torch.dtype,
    pad_id: int,
    name_of: Callable[[int], str],
) -> tuple[float, int]:
    """Accumulates one step's gradients; returns its mean loss in nats and the token budget that fitted into memory.

    In float16 they are those of a multiple of the loss, divided again; where that overflows, of a smaller multiple.
    """
    packed, scale = fast.of(model).packed, SCALE if dtype == torch.float16 else 1.0
    while True:
        parts = cache.parts(sorted(batch, key=lambda position: -data.lengths[position]))
        passes = [rows for part in parts for rows in plan.micro_batches(part, budget, packed=packed)]
        try:
            loss = _accumulate(model, task, data, cache, passes, accelerator, dtype, pad_id, name_of, scale)
            if scale == 1.0 or _divided(model, scale):
                return loss, budget
            scale /= 16
            continue
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if all(len(positions) == 1 for positions in passes):
                raise TrainingError(
                    "Memory is too small even for one row at a time.",
                    hint="Use a smaller train.max_length, method lora, or a smaller model.",
                    problems=_names(data, passes[0], name_of),
                ) from error
        model.zero_grad(set_to_none=True)  # what a failed pass has left is thrown away: the step begins anew
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget = max(1, min(budget, max(_size([plan.lengths[i] for i in p], packed) for p in passes)) // 2)


def _divided(model: nn.Module, scale: float) -> bool:
    """Divides the gradients; False where one of them is not a number, after which they are gone."""
    found = [weight.grad.div_(scale) for weight in model.parameters() if weight.grad is not None]
    if all(bool(torch.isfinite(gradient).all()) for gradient in found):
        return True
    model.zero_grad(set_to_none=True)
    return False


def _accumulate(
    model: nn.Module,
    task: Task,
    data: EncodedSet,
    cache: Cache,
    passes: Sequence[Sequence[int]],
    accelerator: Accelerator,
    dtype: torch.dtype,
    pad_id: int,
    name_of: Callable[[int], str],
    scale: float = 1.0,
) -> float:
    count = sum(data.supervised[position] for positions in passes for position in positions)
    total: Any = 0.0
    device = next(model.parameters()).device
    for positions in passes:
        items = cache.items(data, positions)
        inputs = batch_of(model, items, pad_id, device)
        with autocast(device, dtype), cache.feeding(positions, items, packed=fast.of(model).packed):
            loss, _ = task.loss(model, inputs)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()}.",
                problems=_names(data, positions, name_of),
                hint="A lower train.learning_rate usually helps; so does model.dtype=float32.",
            )
        accelerator.backward(loss * (scale / count) if scale != 1.0 else loss / count)
        total = total + loss.detach()
    return float(total) / count


def _size(lengths: Sequence[int], packed: bool) -> int:
    return sum(lengths) if packed else len(lengths) * max(lengths)


def _names(data: EncodedSet, positions: Sequence[int], name_of: Callable[[int], str]) -> list[str]:
    return sorted({name_of(data.rows[position]) for position in positions})
