"""A linear layer with its low-rank adapter as one operation: y = x W' + bias + s (x A') B', without copies of x.

PEFT's own forward pass casts x to the adapter's float32 and autocast casts it back, for every layer. Here x is read
as it is, and only x itself is kept for the backward pass (as Unsloth and axolotl do on a GPU, in plain PyTorch).

Legend for shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft.tuners.lora import Linear

Precision = Literal["float32", "compute"]


def fuse(model: nn.Module, precision: Precision) -> int:
    """Makes one operation of every plain adapter layer of a PEFT model; how many there were.

    Layers with dropout, DoRA, several adapters or another base than `nn.Linear` stay as they are.
    """
    from peft.tuners.lora import Linear

    found = [module for module in model.modules() if isinstance(module, Linear) and _is_plain(module)]
    for module in found:
        module.forward = _Forward(module, precision)
    return len(found)


def unfuse(model: nn.Module) -> None:
    """Gives every layer PEFT's own forward pass back."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _Forward):
            del module.forward
    forget()


def _is_plain(module: Linear) -> bool:
    names = module.active_adapters
    return (
        type(module.base_layer) is nn.Linear
        and len(names) == 1
        and names[0] not in module.lora_variant
        and isinstance(module.lora_dropout[names[0]], nn.Identity)
        and not module.fan_in_fan_out
        and not module.lora_bias[names[0]]
    )


class _Forward:
    """The forward pass that stands in for a layer's own while its adapter is on and apart from the base."""

    def __init__(self, module: Linear, precision: Precision) -> None:
        self.module, self.precision = module, precision

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        module = self.module
        if module.disable_adapters or module.merged or args or kwargs:
            return type(module).forward(module, x, *args, **kwargs)
        name, base = module.active_adapters[0], module.base_layer
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        wide = self.precision == "float32"
        flat = _LoraLinear.apply(x, base.weight, base.bias, down, up, module.scaling[name], wide)
        return flat.view(*x.shape[:-1], -1)  # here: what an operation itself gives as a view cannot be changed in place


class _LoraLinear(torch.autograd.Function):
    """x `[..., I]`, weight `[O, I]`, bias `[O]` (both frozen), down `[R, I]`, up `[O, R]` to `[N, O]`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float, wide: bool
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.dtypes, ctx.scale, ctx.wide = (x.dtype, down.dtype, up.dtype), scale, wide
        with torch.autocast(device, enabled=False):
            flat = x.reshape(-1, x.shape[-1]).to(dtype)
            weight = weight.to(dtype)
            out = F.linear(flat, weight, None if bias is None else bias.to(dtype))
            inner = _read(flat, wide) @ _branch(down, wide, dtype).T
            _add(out, inner, _branch(up, wide, dtype).T, scale)
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.shape = x.shape
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        flat, weight, down, up, inner = ctx.saved_tensors
        wide, scale, dtype = ctx.wide, ctx.scale, flat.dtype
        gradient = gradient.reshape(-1, gradient.shape[-1]).to(dtype)
        slopes = gradient.float() if wide else gradient
        back = slopes @ _branch(up, wide, dtype)  # [N, R]
        to_up = (slopes.T @ inner).mul_(scale).to(ctx.dtypes[2])
        to_down = (back.T @ _read(flat, wide)).mul_(scale).to(ctx.dtypes[1])
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ weight
            _add(to_x, back, _branch(down, wide, dtype), scale)
            to_x = to_x.view(ctx.shape).to(ctx.dtypes[0])
        return to_x, None, None, to_down, to_up, None, None


_last = threading.local()  # of each thread that computes: what it read last, and that in float32


def _read(flat: Tensor, wide: bool) -> Tensor:
    """What a layer reads, in the branch's precision. Layers that read the same (query, key, value) share the cast."""
    if not wide or flat.dtype == torch.float32:
        return flat
    if flat.is_inference():  # has no version to tell whether it was changed
        return flat.float()
    source, version, cast = getattr(_last, "kept", (None, 0, None))
    if source is None or cast is None or version != flat._version or not source.is_set_to(flat):
        cast = flat.float()
        _last.kept = flat, flat._version, cast
    return cast


def forget() -> None:
    """Drops what is kept between layers."""
    vars(_last).clear()


def _branch(tensor: Tensor, wide: bool, dtype: torch.dtype) -> Tensor:
    """A factor of the adapter's branch in the branch's precision."""
    return tensor.float() if wide else tensor.to(dtype)


def _add(out: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """out += scale * left @ right, the sum rounded once."""
    if left.dtype == out.dtype:
        out.addmm_(left, right, alpha=scale)
    else:
        out.copy_(out.float().addmm_(left, right, alpha=scale))
