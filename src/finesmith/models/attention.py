"""Attention inside documents: several documents stand in one row, without padding, and none sees another.

On a CPU, PyTorch's fused bfloat16 attention is slow at short lengths, its backward pass above all. `_blocked` computes
the same in blocks that stay in the processor's cache: scores and softmax in float32, computed again in the backward
pass (Dao et al. 2022, arXiv 2205.14135, without the tiling over keys, which short documents do not need).

Legend for shapes: N tokens of a packed row, n documents of one length T, H heads, G key heads, D head size.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finesmith.errors import MissingExtraError, ModelError
from finesmith.models.settings import ModelSettings

NAME = "finesmith"
BLOCK = 1 << 20  # scores in one block: 4 MB in float32
RACED, BLOCKED = 64, 128  # tokens: the race is run at the first; who wins clearly does all documents up to the second
WASTE, SHORT_WASTE = 1.15, 2.0  # a group may be padded to so many times its tokens; the second up to RACED tokens
_packed: ContextVar[bool] = ContextVar("packed", default=False)


@dataclass(frozen=True)
class Documents:
    """Where documents stand in a packed row of N tokens, in groups of like length.

    `groups` has for each group its documents n, its length T and the places `[n * T]` of its tokens (a place behind a
    document's end is that of its last token: a causal document never looks there, and its answer is not read), and for
    attention in both directions the bias `[n, T]` that hides what is behind the end (None where nothing is).
    `back` `[N]` says where each token's result stands when the groups' results follow one another.
    Groups of at most `blocked` tokens are computed in blocks.
    """

    groups: tuple[tuple[int, int, Tensor, Tensor | None], ...]
    back: Tensor
    blocked: int = 0


def documents(lengths: Sequence[int], device: Any = "cpu", *, blocked: int = 0) -> Documents:
    """The layout of documents that follow one another, longest first.

    Args:
        lengths: tokens of each document.
    """
    groups, back, start, done = [], [], 0, 0
    for members in _alike(lengths):
        longest = members[0]
        places = []
        for size in members:
            steps = torch.arange(longest)
            places.append(start + steps.clamp(max=size - 1))
            back.append(done + steps[:size])
            start, done = start + size, done + longest
        behind = torch.tensor(members)[:, None] <= torch.arange(longest)  # [n, T]
        hidden = torch.zeros(behind.shape).masked_fill_(behind, float("-inf")).to(device) if behind.any() else None
        groups.append((len(members), longest, torch.cat(places).to(device), hidden))
    return Documents(tuple(groups), torch.cat(back).to(device), blocked)


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Runs of lengths that may be padded to the first of them."""
    members: list[int] = []
    for size in lengths:
        waste = SHORT_WASTE if members and members[0] <= RACED else WASTE  # there attention is little work, groups are
        if members and members[0] * (len(members) + 1) > waste * (sum(members) + size):
            yield members
            members = []
        members.append(size)
    if members:
        yield members


def argument(settings: ModelSettings, device: torch.device) -> dict[str, str]:
    """What transformers is told about `model.attention`. It would fetch flash attention from a hub by itself.

    Raises:
        ModelError: flash attention elsewhere than on CUDA.
        MissingExtraError: flash attention that is not installed.
    """
    if settings.attention == "auto":
        return {}
    if settings.attention == "flash_attention_2" and device.type != "cuda":
        raise ModelError(f"model.attention: flash_attention_2 needs a CUDA device; this run is on '{device.type}'.")
    if settings.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise MissingExtraError("flash_attn", "flash", "model.attention: flash_attention_2")
    return {"attn_implementation": settings.attention}


@contextmanager
def packed() -> Iterator[None]:
    """While this lasts no attention mask is built: the layout of the documents takes its place."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)


@torch.compiler.disable  # the layout differs from pass to pass: a compiled one would be compiled again each time
def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: query `[B, H, N, D]` and key, value `[B, G, N, D]` to `[B, N, H, D]`.

    Raises:
        NotImplementedError: something that a packed row cannot have (score caps, sinks).
    """
    if documents is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
    extra = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    causal = getattr(module, "is_causal", True)
    if extra or query.shape[0] != 1 or (sliding_window is not None and not causal):
        raise NotImplementedError(f"packed attention has no {', '.join(extra) or 'such form'}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = []
    for count, length, places, hidden in documents.groups:
        parts = [tensor[0][:, places].unflatten(1, (count, length)).transpose(0, 1) for tensor in (query, key, value)]
        window = sliding_window if sliding_window is not None and sliding_window < length else None
        use = _blocked if length <= documents.blocked else _fused
        result = use(parts[0], parts[1], parts[2], scale, Seen(causal, window, None if causal else hidden), dropout)
        out.append(result.transpose(0, 1).flatten(1, 2))  # [H, n * T, D]
    return torch.cat(out, dim=1)[:, documents.back].transpose(0, 1).unsqueeze(0).contiguous(), None


@dataclass(frozen=True)
class Seen:
    """What a token sees: what is before it, of that the last `window` tokens; or everything but what `hidden` hides."""

    causal: bool = True
    window: int | None = None
    hidden: Tensor | None = None


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: Seen, dropout: float) -> Tensor:
    """PyTorch's own: `[n, H, T, D]`, `[n, G, T, D]` twice, to `[n, H, T, D]`."""
    mask = None if seen.window is None else _allowed(query.shape[2], seen.window, query.device)
    if seen.hidden is not None:
        mask = seen.hidden[:, None, None] == 0
    heads = query.shape[1] // key.shape[1]
    if heads > 1:
        key, value = (tensor.repeat_interleave(heads, dim=1) for tensor in (key, value))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale, is_causal=seen.causal and mask is None
    )


def _blocked(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: Seen, dropout: float) -> Tensor:
    """The same in blocks. The heads that share a key head become more rows of one multiplication."""
    count, heads, length, size = query.shape
    shared = heads // key.shape[1]
    if seen.causal:
        bias = _bias(length, seen.window, shared, query.device)
    elif seen.hidden is None:
        bias = torch.zeros(1, 1, device=query.device)
    else:
        bias = seen.hidden.repeat_interleave(key.shape[1], 0)[:, None]  # [n * G, 1, T]
    rows = query.reshape(-1, shared * length, size)
    narrow = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else None
    tensors = [tensor.to(narrow) if narrow else tensor for tensor in (rows, key.flatten(0, 1), value.flatten(0, 1))]
    return _Blocked.apply(*tensors, bias, scale, dropout).view(count, heads, length, size)


def _allowed(length: int, window: int | None, device: Any) -> Tensor:
    places = torch.arange(length, device=device)
    gap = places[:, None] - places
    return (gap >= 0) & (gap < (window or length))


@functools.lru_cache(maxsize=64)
def _bias(length: int, window: int | None, shared: int, device: Any) -> Tensor:
    """0 where a token may look and minus infinity elsewhere, `[shared * T, T]`."""
    bias = torch.zeros(length, length, device=device).masked_fill_(~_allowed(length, window, device), float("-inf"))
    return bias.repeat(shared, 1)


def forget() -> None:
    """Drops what is kept between passes."""
    _bias.cache_clear()


class _Blocked(torch.autograd.Function):
    """softmax(scale * Q K' + bias) V for Q `[M, R, D]`, K, V `[M, T, D]`; scores and softmax in float32.

    The bias is `[R, T]` for all, or `[M, 1, T]`. With dropout, shares are dropped and the others scaled up; which,
    is kept for the backward pass, `[M, R, T]`.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, dropout: float
    ) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            out = torch.empty_like(query)
            norms = torch.empty(query.shape[:2], device=query.device)
            kept = [_kept(query[block], key, dropout) for block in _blocks(query, key)]
            for block, mask in zip(_blocks(query, key), kept, strict=True):
                wide, keys = query[block].float(), key[block].float()
                scores = torch.baddbmm(_part(bias, block), wide, keys.transpose(1, 2), alpha=scale)
                norms[block] = scores.logsumexp(-1)
                shares = scores.sub_(norms[block].unsqueeze(-1)).exp_()
                shares = shares if mask is None else shares.mul_(mask).mul_(1 / (1 - dropout))
                torch.bmm(shares.to(value.dtype), value[block], out=out[block])
        ctx.save_for_backward(query, key, value, out, norms)
        ctx.bias, ctx.scale, ctx.dropout, ctx.kept = bias, scale, dropout, kept
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        query, key, value, out, norms = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        gradient = gradient.contiguous().to(query.dtype)
        for block, mask in zip(_blocks(query, key), ctx.kept, strict=True):
            wide, keys = query[block].float(), key[block].float()
            shares = torch.baddbmm(_part(ctx.bias, block), wide, keys.transpose(1, 2), alpha=ctx.scale)
            shares = shares.sub_(norms[block].unsqueeze(-1)).exp_()
            back, drop = gradient[block], None if mask is None else mask.float().mul_(1 / (1 - ctx.dropout))
            used = shares if drop is None else shares * drop
            torch.bmm(used.to(value.dtype).transpose(1, 2), back, out=to_value[block])
            slopes = torch.bmm(back, value[block].transpose(1, 2)).float()
            slopes = slopes if drop is None else slopes.mul_(drop)
            slopes.sub_((back * out[block]).sum(-1, keepdim=True, dtype=torch.float32))
            slopes = slopes.mul_(shares).mul_(ctx.scale).to(query.dtype)
            torch.bmm(slopes, key[block], out=to_query[block])
            torch.bmm(slopes.transpose(1, 2), query[block], out=to_key[block])
        return to_query, to_key, to_value, None, None, None


def _kept(query: Tensor, key: Tensor, dropout: float) -> Tensor | None:
    """Which shares are not dropped, `[m, R, T]`."""
    if not dropout:
        return None
    return torch.rand(*query.shape[:2], key.shape[1], device=query.device) >= dropout


def _part(bias: Tensor, block: slice) -> Tensor:
    return bias[block] if bias.dim() == 3 else bias


def _blocks(query: Tensor, key: Tensor) -> list[slice]:
    step = max(1, BLOCK // (query.shape[1] * key.shape[1]))
    return [slice(start, start + step) for start in range(0, len(query), step)]


def blocked_up_to(heads: int, shared: int, size: int, dtype: torch.dtype) -> int:
    """The start-up race: up to which document length blocks are used here; 0: at none.

    One decisive race and not one for each length, so that two runs on a machine choose alike.

    Args:
        heads: H. shared: heads for each key head. size: D. dtype: of the arithmetic.
    """
    return BLOCKED if blocked_speedup(RACED, heads, shared, size, dtype) > 1.3 else 0


def blocked_speedup(length: int, heads: int, shared: int, size: int, dtype: torch.dtype, rounds: int = 5) -> float:
    """How many times faster blocks are, forward and backward. The two take turns and the fastest of each counts."""
    count = max(1, 1024 // length)
    query = torch.randn(count, heads, length, size).to(dtype).requires_grad_()
    key, value = (torch.randn(count, heads // shared, length, size).to(dtype).requires_grad_() for _ in range(2))
    gradient = torch.ones_like(query)
    kernels: tuple[Callable[..., Tensor], ...] = (_fused, _blocked)
    times: dict[Any, list[float]] = {kernel: [] for kernel in kernels}
    for _ in range(rounds):
        for kernel in kernels:
            start = time.process_time()  # a busy machine must not decide
            kernel(query, key, value, size**-0.5, Seen(), 0.0).backward(gradient)
            times[kernel].append(time.process_time() - start)
    return min(times[_fused]) / min(times[_blocked])


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _packed.get() else sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
