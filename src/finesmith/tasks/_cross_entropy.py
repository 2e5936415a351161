"""Cross-entropy of the next token that never holds tokens x vocabulary: chunk by chunk, gradient in the forward pass.

The output layer runs on the supervised tokens only. Each chunk's logits are made once, turned into their gradient in
place, and dropped (the scheme of Liger Kernel, Hsu et al. 2024, arXiv 2410.10989). Multiplications are in the
arithmetic's precision, the softmax and the sums over chunks in float32.

Legend for shapes: N supervised tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SMALLEST = 1e-30  # below this a probability's logarithm is taken from the logits
BUDGET = 1 << 28  # bytes for the logits of a chunk and their gradient


def chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    """Slices of the N rows whose logits, in float32 and once more narrow, stay within the budget."""
    step = max(64, BUDGET // (6 * vocabulary))
    return (slice(start, start + step) for start in range(0, rows, step))


def nats(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, targets: Tensor) -> Tensor:
    """Negative log-probabilities `[N]` in float32 of `targets` `[N]` under logits scale * (hidden weight' + bias)."""
    hidden, weight, bias = _narrow(hidden, weight, bias)
    found = [
        -_log_softmax(hidden[part], weight, bias, scale).gather(1, targets[part, None]).squeeze(1)
        for part in chunks(len(hidden), len(weight))
    ]
    return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)


def weighted_sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, targets: Tensor, weights: Tensor
) -> Tensor:
    """Sum of weights x nats, a number; its gradient is at hand when the forward pass ends."""
    return _Summed.apply(hidden, weight, bias, scale, targets, weights)


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    return torch.log_softmax(logits if scale == 1.0 else logits * scale, dim=1, dtype=torch.float32)


def _softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """Probabilities `[N, V]` in float32, and the nats `[N]` of those chosen `[N, 1]`."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits if scale == 1.0 else logits * scale
    if logits.device.type == "cpu":  # one pass less; elsewhere the question would wait for the device
        shares = torch.softmax(logits, dim=1, dtype=torch.float32)
        found = shares.gather(1, chosen)
        if bool((found > SMALLEST).all()):
            return shares, -found.log().squeeze(1)
    logs = torch.log_softmax(logits, dim=1, dtype=torch.float32)
    found = -logs.gather(1, chosen).squeeze(1)
    return logs.exp_(), found


def _narrow(*tensors: Any) -> tuple[Any, ...]:
    """The tensors in the precision of the arithmetic: autocast's where it is on, else that of the first."""
    device = tensors[0].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensors[0].dtype
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, targets: Tensor, weights: Tensor
    ) -> Tensor:
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        wanted = ctx.needs_input_grad[:3]
        narrow, matrix, offset = _narrow(hidden, weight, bias)
        with torch.autocast(hidden.device.type, enabled=False):
            total, ctx.gradients = _chunked(narrow, matrix, offset, scale, targets, weights, wanted)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        found = [
            None if tensor is None else tensor.mul_(gradient).to(dtype)
            for tensor, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = ()
        return (*found, None, None, None)


def _chunked(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    targets: Tensor,
    weights: Tensor,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The loss, and its gradients for hidden states, weight and bias where they are wanted."""
    to_hidden = torch.empty_like(hidden) if wanted[0] else None
    to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    to_bias = weight.new_zeros(len(weight), dtype=torch.float32) if wanted[2] else None
    total = hidden.new_zeros((), dtype=torch.float32)
    factors = weights * scale
    plain = hidden.device.type == "cpu" and bool((factors == 1).all())  # then a pass over all logits is saved
    for part in chunks(len(hidden), len(weight)):
        chosen = targets[part, None]
        shares, found = _softmax(hidden[part], weight, bias, scale, chosen)
        total += (found * weights[part]).sum()
        if not any(wanted):
            continue
        slopes = shares.scatter_add_(1, chosen, shares.new_full(chosen.shape, -1.0))
        slopes = (slopes if plain else slopes.mul_(factors[part, None])).to(hidden.dtype)
        if to_hidden is not None:
            torch.mm(slopes, weight, out=to_hidden[part])
        if to_weight is not None:
            to_weight += slopes.T @ hidden[part]
        if to_bias is not None:
            to_bias += slopes.sum(0, dtype=torch.float32)
    return total, (to_hidden, to_weight, to_bias)
