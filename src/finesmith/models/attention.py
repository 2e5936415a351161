"""Attention inside documents: several documents stand in one row, without padding, and none sees another.

Short documents go through `blocked` where the start-up race says so, others through PyTorch's fused attention.

Legend for shapes: N tokens of a packed row, n documents of one length T, H heads, G key heads, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finesmith.errors import MissingExtraError, ModelError
from finesmith.models import blocked
from finesmith.models.blocked import Seen
from finesmith.models.device import choose_device, choose_dtype
from finesmith.models.documents import Documents, collect, spread
from finesmith.models.settings import ModelSettings

NAME = "finesmith"
_packed: ContextVar[bool] = ContextVar("packed", default=False)
_windows: ContextVar[set[int] | None] = ContextVar("windows", default=None)


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


def to_answer(settings: ModelSettings) -> ModelSettings:
    """The settings for a model that is no more trained: without flash attention where it cannot run (elsewhere than on
    CUDA, in float32, not installed); the answers do not hang on it."""
    if settings.attention != "flash_attention_2":
        return settings
    device = choose_device(settings.device)
    narrow = choose_dtype(settings.dtype, device) != torch.float32
    there = device.type == "cuda" and narrow and find_spec("flash_attn") is not None
    return settings if there else settings.model_copy(update={"attention": "auto"})


@contextmanager
def packed() -> Iterator[None]:
    """While this lasts no attention mask is built: the layout of the documents takes its place."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)


@contextmanager
def windows() -> Iterator[set[int]]:
    """The windows that layers name to packed attention while this lasts. A window in a mask alone is not among them."""
    named: set[int] = set()
    token = _windows.set(named)
    try:
        yield named
    finally:
        _windows.reset(token)


def own_segment(segments: Tensor) -> Tensor:
    """What is added to attention scores, [B, 1, T, T]: 0 in a token's own segment up to itself, else very low."""
    kind, length = segments.device.type, segments.shape[1]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    before = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    allowed = (segments[:, None, :, None] == segments[:, None, None, :]) & before
    return torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)


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
    named = _windows.get()
    if named is not None and sliding_window is not None:
        named.add(sliding_window)
    extra = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    causal = getattr(module, "is_causal", True)
    if extra or query.shape[0] != 1 or (sliding_window is not None and not causal):
        raise NotImplementedError(f"packed attention has no {', '.join(extra) or 'such form'}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    heads, size = query.shape[1], query.shape[3]
    whole = [spread(tensor[0].transpose(0, 1).flatten(1), documents) for tensor in (query, key, value)]  # [P, H * D]
    out = []
    for (count, length, hidden), *parts in zip(
        documents.groups, *(tensor.split(documents.sizes) for tensor in whole), strict=True
    ):
        apart = [part.view(count, length, -1, size) for part in parts]  # [n, T, H, D] and [n, T, G, D] twice
        window = sliding_window if sliding_window is not None and sliding_window < length else None
        use = blocked.attend if length <= documents.blocked else fused
        result = use(apart[0], apart[1], apart[2], scale, Seen(causal, window, None if causal else hidden), dropout)
        out.append(result.flatten(0, 1).flatten(1))
    return collect(out, documents).view(1, -1, heads, size), None


def fused(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: Seen, dropout: float) -> Tensor:
    """PyTorch's own: `[n, T, H, D]`, `[n, T, G, D]` twice, to `[n, T, H, D]`."""
    mask = None if seen.window is None else blocked.allowed(query.shape[1], seen.window, query.device)
    if seen.hidden is not None:
        mask = seen.hidden[:, None, None] == 0
    shared = query.shape[2] // key.shape[2]
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if shared > 1:
        key, value = (tensor.repeat_interleave(shared, dim=1) for tensor in (key, value))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale, is_causal=seen.causal and mask is None
    ).transpose(1, 2)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _packed.get() else sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
