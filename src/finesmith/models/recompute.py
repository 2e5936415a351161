"""Activation checkpointing: a block keeps its input only and is computed again in the backward pass.

Chen et al. 2016 (arXiv 1604.06174), one block at a time, through PyTorch's non-reentrant form. It wraps the block's
forward pass and not the library's, so that it is the same for every architecture, packed rows and fused adapters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def begin(model: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """From now on the model's blocks keep their inputs only.

    The model makes no cache of keys any more unless it is told to: a second pass would add to it.
    """
    config = _config(model)
    cached = getattr(config, "use_cache", None)
    for block in blocks:
        block.forward = _Again(block, cached)
    if cached:
        config.use_cache = False


def end(model: nn.Module) -> None:
    """Gives every block of a model its own forward pass back."""
    for module in model.modules():
        found = vars(module).get("forward")
        if isinstance(found, _Again):
            del module.forward
            if found.cached is not None:
                _config(model).use_cache = found.cached


def _config(model: Any) -> Any:
    return model.config.get_text_config() if hasattr(model, "config") else None


class _Again:
    """The forward pass that stands in for a block's own where gradients are wanted."""

    def __init__(self, block: nn.Module, cached: bool | None) -> None:
        self.block, self.cached = block, cached

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = functools.partial(type(self.block).forward, self.block)
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
