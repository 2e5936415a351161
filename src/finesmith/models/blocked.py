"""Attention on a CPU in blocks that stay in the processor's cache.

PyTorch's fused attention is slow here in bfloat16 and at short lengths, its backward pass above all. This computes
scores and softmax in float32 for a few documents and a tile of their tokens at a time, with the keys these can see and
no others, and computes them again in the backward pass (Dao et al. 2022, arXiv 2205.14135, without tiles of keys).

Legend for shapes: n documents of one length T, H heads, G key heads, S = H / G, D head size; of a block: m documents,
r tokens, K keys.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TILE, BLOCK = 64, 1 << 18  # tokens whose scores are made at a time; scores in one block, 1 MB in float32
RACED, LIMIT, CLEARLY = 64, 512, 1.6
"""The race is run at so many tokens; blocks that are so much faster there do all documents up to the limit.

Decisive on purpose, so that runs that should be alike choose alike: bfloat16 wins 2 to 4 times, float32 never clearly.
"""
SPAN, RUNS = 0.008, 400  # seconds of the processor for which a kernel is timed, and how often it is run at the most


@dataclass(frozen=True)
class Seen:
    """What a token sees: what is before it, of that the last `window` tokens; or everything but what `hidden` hides.

    `hidden` `[n, T]` is added to the scores: 0 or minus infinity.
    """

    causal: bool = True
    window: int | None = None
    hidden: Tensor | None = None


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: Seen, dropout: float) -> Tensor:
    """`[n, T, H, D]` and `[n, T, G, D]` twice to `[n, T, H, D]`, in autocast's precision where it is on."""
    device = query.device.type
    narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    return _Blocked.apply(query.to(narrow), key.to(narrow), value.to(narrow), scale, seen, dropout)


@dataclass(frozen=True)
class _Block:
    """Documents `some`, of their tokens `rows`, and the keys that these can see."""

    some: slice
    rows: slice
    keys: slice


def _blocks(query: Tensor, seen: Seen) -> Iterator[_Block]:
    """Tile by tile for the same documents."""
    count, length, heads = query.shape[:3]
    step = max(1, BLOCK // (heads * min(length, TILE) * length))
    for start in range(0, count, step):
        for row in range(0, length, TILE):
            end = min(length, row + TILE)
            first = max(0, row - seen.window + 1) if seen.causal and seen.window else 0
            yield _Block(slice(start, start + step), slice(row, end), slice(first, end if seen.causal else length))


class _Blocked(torch.autograd.Function):
    """softmax(scale * Q K' + bias) V; scores and softmax in float32.

    With dropout, shares are dropped and the others scaled up; which, is kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, seen: Seen, dropout: float
    ) -> Tensor:
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        groups, kept = key.shape[2], []
        with torch.autocast(query.device.type, enabled=False):
            for block in _blocks(query, seen):
                rows, keys, values = _parts(block, query, key, value)
                shares = _shares(rows, keys, _bias(seen, block, groups, rows), scale)
                kept.append(_kept(shares, dropout))
                used = _dropped(shares, kept[-1], dropout)
                out[block.some, block.rows] = _tokens(torch.bmm(used.to(values.dtype), values), groups, block)
        ctx.save_for_backward(query, key, value)
        ctx.scale, ctx.seen, ctx.dropout, ctx.kept = scale, seen, dropout, kept
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        query, key, value = ctx.saved_tensors
        to_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        to_key, to_value = (torch.zeros(key.shape, device=key.device) for _ in range(2))
        gradient, groups = gradient.to(query.dtype), key.shape[2]
        with torch.autocast(query.device.type, enabled=False):
            for block, kept in zip(_blocks(query, ctx.seen), ctx.kept, strict=True):
                rows, keys, values = _parts(block, query, key, value)
                back = _heads(gradient[block.some, block.rows], groups)
                shares = _shares(rows, keys, _bias(ctx.seen, block, groups, rows), ctx.scale)
                slopes = _dropped(torch.bmm(back, values.transpose(1, 2)).float(), kept, ctx.dropout)
                slopes = torch._softmax_backward_data(slopes, shares, -1, torch.float32)
                slopes = slopes.mul_(ctx.scale).to(query.dtype)
                to_query[block.some, block.rows] = _tokens(torch.bmm(slopes, keys), groups, block)
                used = _dropped(shares, kept, ctx.dropout).to(value.dtype)
                for whole, left, right in ((to_key, slopes, rows), (to_value, used, back)):
                    part = torch.bmm(left.transpose(1, 2), right).unflatten(0, (-1, groups))
                    whole[block.some, block.keys] += part.transpose(1, 2)
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None, None, None


def _parts(block: _Block, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a block the queries `[m * G, S * r, D]`, keys and values `[m * G, K, D]`."""
    keys, values = (part[block.some, block.keys].transpose(1, 2).flatten(0, 1) for part in (key, value))
    return _heads(query[block.some, block.rows], key.shape[2]), keys, values


def _heads(tokens: Tensor, groups: int) -> Tensor:
    """`[m, r, H, D]` as `[m * G, S * r, D]`: the heads that share a key head are more rows of one multiplication."""
    size, length = tokens.shape[3], tokens.shape[1]
    apart = tokens.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4)  # [m, G, S, r, D]
    return apart.reshape(-1, apart.shape[2] * length, size)


def _tokens(rows: Tensor, groups: int, block: _Block) -> Tensor:
    """The way back: `[m * G, S * r, D]` as `[m, r, H, D]`."""
    length = block.rows.stop - block.rows.start
    apart = rows.view(-1, groups, rows.shape[1] // length, length, rows.shape[2])
    return apart.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _shares(rows: Tensor, keys: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Softmax of the scores, `[m * G, S * r, K]` in float32."""
    wide, others = rows.float(), keys.float().transpose(1, 2)
    if bias is None:
        return torch.softmax(torch.bmm(wide, others).mul_(scale), -1)
    return torch.softmax(torch.baddbmm(bias, wide, others, alpha=scale), -1)


def _bias(seen: Seen, block: _Block, groups: int, rows: Tensor) -> Tensor | None:
    """What is added to a block's scores: `[S * r, K]` for all, `[m * G, 1, K]`, or nothing."""
    if seen.causal:
        shared = rows.shape[1] // (block.rows.stop - block.rows.start)
        first, row, end = block.keys.start, block.rows.start, block.rows.stop
        return _causal(row - first, end - first, seen.window, shared, rows.device)
    return None if seen.hidden is None else seen.hidden[block.some].repeat_interleave(groups, 0)[:, None]


@functools.lru_cache(maxsize=128)
def _causal(row: int, end: int, window: int | None, shared: int, device: Any) -> Tensor:
    """0 where tokens `row` to `end` may look among the first `end`, else minus infinity: `[S * (end - row), end]`."""
    hides = ~allowed(end, window, device)[row:]
    return torch.zeros(hides.shape, device=device).masked_fill_(hides, float("-inf")).repeat(shared, 1)


def allowed(length: int, window: int | None, device: Any) -> Tensor:
    """Which tokens `[T]` may look at which `[T]`: at what is before them, of that at the last `window`."""
    places = torch.arange(length, device=device)
    gap = places[:, None] - places
    return (gap >= 0) & (gap < (window or length))


def forget() -> None:
    """Drops what is kept between passes."""
    _causal.cache_clear()


def _dropped(shares: Tensor, kept: Tensor | None, dropout: float) -> Tensor:
    """In place: without what is not kept, the others scaled up."""
    return shares if kept is None else shares.mul_(kept).mul_(1 / (1 - dropout))


def _kept(shares: Tensor, dropout: float) -> Tensor | None:
    """Which shares are not dropped."""
    return torch.rand(shares.shape, device=shares.device) >= dropout if dropout else None


def up_to(gain: float) -> int:
    """Up to which document length blocks are used where they are so many times faster; 0: at none."""
    return LIMIT if gain > CLEARLY else 0


def speedup(
    fused: Callable[..., Tensor], length: int, heads: int, shared: int, size: int, dtype: torch.dtype, rounds: int = 3
) -> float:
    """The start-up race: how many times faster blocks are, forward and backward. The two take turns and the fastest of
    each counts.

    Args:
        fused: the other way, called like `attend`. heads: H. shared: S. size: D. dtype: of the arithmetic.

    1 where the clock of the processor's time stands still: nothing was measured then.
    """
    count = max(1, 1024 // length)
    query = torch.randn(count, length, heads, size).to(dtype).requires_grad_()
    key, value = (torch.randn(count, length, heads // shared, size).to(dtype).requires_grad_() for _ in range(2))
    gradient = torch.ones_like(query)

    def once(kernel: Callable[..., Tensor]) -> None:
        kernel(query, key, value, size**-0.5, Seen(), 0.0).backward(gradient)

    times: dict[Any, list[float]] = {fused: [], attend: []}
    for _ in range(rounds):
        for kernel, taken in times.items():
            taken.append(_seconds(functools.partial(once, kernel)))
    slow, quick = min(times[fused]), min(times[attend])
    return slow / quick if slow and quick else 1.0


def _seconds(run: Callable[[], object]) -> float:
    """Processor time of one run (a busy machine must not decide), over whole ticks of its clock; 0 if that is still.

    The clock moves in steps of up to 16 ms (Windows; Linux under a limit), which are longer than a run.
    """
    first = edge = time.process_time()
    count = 0
    for _ in range(RUNS):
        run()
        now = time.process_time()
        if edge == first:
            edge = now  # counted from here: the runs before lead to the edge of a tick
            continue
        count += 1
        if now - edge >= SPAN:
            return (now - edge) / count
    return 0.0
