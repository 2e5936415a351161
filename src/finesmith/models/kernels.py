"""Norms and gated layers by Liger's Triton kernels (Hsu et al. 2024, arXiv 2410.10989), for CUDA.

Liger's own patches replace classes of transformers for the whole process. Here the layers of one model are given
another forward pass, which is proved on that model, gradients included, and taken away after training.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from finesmith.errors import MissingExtraError, RecipeError

TOLERANCE = 1e-3
"""Largest difference in logits and gradients in float32, relative to the largest of them."""


def use_liger(model: nn.Module, device: torch.device) -> int:
    """Gives a model's RMS norms and SiLU-gated layers Liger's kernels; how many layers there were.

    0 where the model has none, or where logits or gradients come out otherwise: then it stays as it was.

    Raises:
        RecipeError: the device is not a CUDA device.
        MissingExtraError: liger-kernel is not installed.
    """
    if device.type != "cuda":
        raise RecipeError(f"speed.kernels: liger needs a CUDA device; this run is on '{device.type}'.")
    if find_spec("liger_kernel") is None:
        raise MissingExtraError("liger_kernel", "liger", "speed.kernels: liger")
    return install(model)


def install(model: nn.Module) -> int:
    """`use_liger` without its questions."""
    norms = [module for module in model.modules() if _is_norm(module)]
    gated = [module for module in model.modules() if _is_gated(module)]
    if not norms + gated:
        return 0
    before = _answer(model, norms)
    for kind, layers in ((_Norm, norms), (_Gated, gated)):
        for layer in layers:
            layer.forward = kind(layer)
    try:
        right = all(map(_close, before, _answer(model, norms)))
    except (RuntimeError, TypeError, AttributeError, ImportError):
        right = False
    if not right:
        release(model)
    return len(norms + gated) if right else 0


def release(model: nn.Module) -> None:
    """Gives every layer its library's forward pass back."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), (_Norm, _Gated)):
            del module.forward


def _is_norm(module: nn.Module) -> bool:
    return (
        type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight") and hasattr(module, "variance_epsilon")
    )


def _is_gated(module: nn.Module) -> bool:
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    return all(hasattr(module, part) for part in parts) and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")


class _Norm:
    """x / rms(x) * weight, the norm in float32, as Llama does it."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, hidden_states: Tensor) -> Tensor:
        apply: Callable[..., Tensor] = import_module("liger_kernel.ops.rms_norm").LigerRMSNormFunction.apply
        return apply(hidden_states, self.module.weight, self.module.variance_epsilon, 0.0, "llama", False)


class _Gated:
    """down(silu(gate(x)) * up(x)); the three layers may carry adapters."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        apply: Callable[..., Tensor] = import_module("liger_kernel.ops.swiglu").LigerSiLUMulFunction.apply
        return self.module.down_proj(apply(self.module.gate_proj(x), self.module.up_proj(x)))


def _answer(model: Any, norms: list[nn.Module]) -> tuple[Tensor, ...]:
    """Logits for a few embeddings, and the gradients of their mean square for those and for the norms' weights."""
    generator = torch.Generator().manual_seed(0)
    table = model.get_input_embeddings().weight
    places = torch.randint(table.shape[0], (2, 8), generator=generator)
    inputs = table.detach()[places.to(table.device)].requires_grad_()
    weights = [norm.weight for norm in norms if norm.weight.requires_grad]
    training = model.training
    try:
        with torch.enable_grad():
            logits = model.eval()(inputs_embeds=inputs, use_cache=False).logits.float()
            gradients = torch.autograd.grad(logits.square().mean(), [inputs, *weights])
    finally:
        model.train(training)
    return (logits.detach(), *gradients)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * one.abs().max())
