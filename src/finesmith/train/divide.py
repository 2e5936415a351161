"""Among how many processes (`train/parallel.py`) a step is divided, what that takes, and who gets which rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
from torch import nn

from finesmith.errors import RecipeError

LEAST_WORK = 4e10
"""Operations in a step below which a second process brings nothing (measured: docs/explanation/speed.md)."""
LEAST_SHARE = 10_000
"""Operations for each weight that moves below which adding gradients up costs most of what the second process gains."""
LEAST_BODY = 0.5
"""Share of the weights below the output layer, whose product is so large that two cores share it well."""
OWN = 100_000_000
"""Bytes of a forked process that are not those of the first one: pages that either of them wrote to since."""


def usable(device: torch.device) -> bool:
    """Whether this system can fork a process that computes: Linux, and a model on the CPU."""
    return device.type == "cpu" and sys.platform == "linux"


def chosen(asked: int | str, model: nn.Module, device: torch.device, tokens: float, rows: int) -> int:
    """How many processes: as asked, or 2 on a CPU with two threads where a step has enough to compute.

    Args:
        tokens: in a step, on average.
        rows: sequences in a step.

    Raises:
        RecipeError: a number that this system, or a step, cannot have.
    """
    if asked != "auto":
        if int(asked) > 1 and not usable(device):
            raise RecipeError(f"speed.processes: {asked} needs Linux and a CPU; this run is on '{device.type}'.")
        if int(asked) > rows:
            raise RecipeError(
                f"speed.processes is {asked}, but a step has only {rows} rows (train.batch_size) to share."
            )
        return int(asked)
    if not usable(device) or torch.get_num_threads() != 2 or len(os.sched_getaffinity(0)) < 2 or rows < 2:
        return 1
    moving = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    work, body = operations(model), operations(model, without=_output(model))
    return 2 if work * tokens >= max(LEAST_WORK, LEAST_SHARE * moving) and body >= LEAST_BODY * work else 1


def memory(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that each further process takes besides the activations of its share, which the others then do not hold.

    Gradients, and autocast's copies of weights that move.
    """
    moving = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return OWN + moving * (4 + (dtype.itemsize if dtype != torch.float32 else 0))


def operations(model: nn.Module, without: nn.Module | None = None) -> float:
    """Operations of a step for each token: 2 for a weight in each direction, and 2 for its gradient where it moves.

    Args:
        without: a layer that is not counted.
    """
    left_out = set(map(id, without.parameters())) if without else set()
    read = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    multiplied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    return sum(
        (6.0 if weight.requires_grad else 4.0) * weight.numel()
        for weight in model.parameters()
        if weight.dim() > 1 and (id(weight) not in read or id(weight) in multiplied) and id(weight) not in left_out
    )


def _output(model: nn.Module) -> nn.Module | None:
    """The layer that gives a score to every word of the vocabulary, in models that have one."""
    found = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, nn.Module) else None


def shares(positions: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """A step's sequences for so many processes, of nearly equal numbers of tokens: the longest to the least laden."""
    found: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for position in sorted(positions, key=lambda place: -lengths[place]):
        least = loads.index(min(loads))
        found[least].append(position)
        loads[least] += lengths[position]
    return found
