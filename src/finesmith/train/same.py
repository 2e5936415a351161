"""How far apart two ways of computing a pass are: compared piece by piece, no gradient kept longer than needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

PIECE = 1 << 20
"""Numbers that are compared at a time, in float64."""
Squares = tuple[float, float]
"""Sums of squares: of the difference of two tensors, and of the first."""


def squares(one: Tensor, other: Tensor) -> Squares:
    """In float64, a piece at a time."""
    difference = first = 0.0
    for left, right in zip(one.flatten().split(PIECE), other.flatten().split(PIECE), strict=True):
        exact = left.cpu().double()
        difference += float((exact - right.cpu().double()).square().sum())
        first += float(exact.square().sum())
    return difference, first


def apart(parts: Iterable[Squares]) -> float:
    """How far apart two vectors are, by the squares of their parts, as a share of the first."""
    difference, first = (math.sqrt(sum(values)) for values in zip(*parts, strict=True))
    return difference / max(first, 1e-30)


def gradients_apart(model: nn.Module, one: Callable[[], Tensor], other: Callable[[], Tensor]) -> tuple[float, float]:
    """How far apart two losses are, and their gradients.

    Of the gradients one set is held at most, as in a step of the training; none is left.
    """
    kept: dict[nn.Parameter, Tensor] = {}
    found: list[Squares] = []

    def compare(weight: nn.Parameter, gradient: Tensor) -> None:
        first = kept.pop(weight, None)
        found.append(squares(torch.zeros_like(gradient) if first is None else first, gradient))

    losses = [_backward(model, one, kept.__setitem__), _backward(model, other, compare)]
    found += [squares(left, torch.zeros_like(left)) for left in kept.values()]
    return apart([squares(*losses)]), apart(found)


def _backward(
    model: nn.Module, loss_of: Callable[[], Tensor], take: Callable[[nn.Parameter, Tensor], object]
) -> Tensor:
    """The loss; `take` gets each weight's gradient as soon as it is there, and the weight keeps none."""

    def taken(weight: Any) -> None:
        found, weight.grad = weight.grad, None
        take(weight, found)

    model.zero_grad(set_to_none=True)
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    handles = [weight.register_post_accumulate_grad_hook(taken) for weight in moving]
    try:
        loss = loss_of()
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    return loss.detach()
