"""The gradients of some forward passes: where what is trained, on which rows and in which arithmetic come together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from finesmith.errors import TrainingError
from finesmith.models import fast
from finesmith.models.device import autocast
from finesmith.tasks.base import Task, batch_of
from finesmith.train.batches import EncodedSet
from finesmith.train.cache import Cache

NOT_A_NUMBER = "A lower train.learning_rate usually helps; so does model.dtype=float32."
"""What helps where a loss, a gradient or a validation score is not a number."""


@dataclass(frozen=True)
class Work:
    """All that a forward and a backward pass need besides the numbers of their sequences.

    `name_of` gives the id of an example by its position, for messages.
    """

    model: nn.Module
    task: Task
    data: EncodedSet
    cache: Cache
    accelerator: Accelerator
    dtype: torch.dtype
    pad_id: int
    name_of: Callable[[int], str] = str

    @property
    def packed(self) -> bool:
        """Whether the sequences of a pass stand one behind the other, without padding."""
        return fast.of(self.model).packed

    def supervised(self, positions: Sequence[int]) -> float:
        """What the loss counts in these sequences: tokens or rows."""
        return sum(self.data.supervised[position] for position in positions)

    def accumulate(self, passes: Sequence[Sequence[int]], count: float, scale: float = 1.0) -> float:
        """Adds the gradients of some passes to those that are there; returns their part of the step's loss in nats.

        Args:
            count: what the loss counts in the whole step, of which these passes may be a share.
            scale: what the loss is multiplied by for the backward pass.

        Raises:
            TrainingError: a loss that is not a number, with the rows.
        """
        total: Any = 0.0
        device = next(self.model.parameters()).device
        for positions in passes:
            items = self.cache.items(self.data, positions)
            inputs = batch_of(self.model, items, self.pad_id, device)
            with autocast(device, self.dtype), self.cache.feeding(positions, items, packed=self.packed):
                loss, _ = self.task.loss(self.model, inputs)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The loss became {loss.item()}.",
                    problems=self.names(positions),
                    hint=NOT_A_NUMBER,
                )
            self.accelerator.backward(loss * (scale / count) if scale != 1.0 else loss / count)
            total = total + loss.detach()
        return float(total) / count

    def names(self, positions: Sequence[int]) -> list[str]:
        """The ids of the examples that sequences came from."""
        return sorted({self.name_of(row) for position in positions for row in self.data.origins(position)})
