"""A tuned model anywhere on the line to its base, in place and without training (WiSE-FT, Wortsman et al. 2022,
arXiv 2109.01903): adapters by the factor that they are added with, whole weights tensor by tensor.

For plain LoRA the factor is the same as interpolating the merged weights (peft/helpers.py, rescale_adapter_scale).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finesmith.errors import ModelError

COPIES = 1 << 30
"""Most bytes of matrices that are kept a second time, so that adapters can be added to them and taken out exactly."""
MOVES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Beginnings of `init_lora_weights` that take something out of the base's own weights."""


def refusal(adapter: Mapping[str, Any]) -> str:
    """Why an adapter with this `adapter_config.json` cannot be scaled; empty where it can."""
    kind, start = str(adapter.get("peft_type", "")), str(adapter.get("init_lora_weights", True)).lower()
    if kind != "LORA":
        return f"an adapter of the kind {kind} does not become the base when its scale is 0"
    if adapter.get("use_dora"):
        return "DoRA divides by the norm of the changed weights, so that half of the update is not half of the way"
    if start.startswith(MOVES_BASE):
        return f"adapters that begin with {start} change the base's own weights, so that scale 0 is not the base"
    if adapter.get("bias", "none") != "none" or adapter.get("trainable_token_indices"):
        return "the adapter also moved biases or single tokens, which its scale does not reach"
    return ""


@dataclass(frozen=True)
class _Moved:
    """A tensor of the model with its two ends."""

    place: Tensor
    base: Tensor
    tuned: Tensor

    def put(self, scale: float) -> None:
        if scale in (0.0, 1.0):
            self.place.copy_(self.tuned if scale else self.base)
            return
        base, tuned = (end.to(self.place.device, self.place.dtype) for end in (self.base, self.tuned))
        self.place.copy_(base + scale * (tuned - base))


class Between:
    """Puts `model` at any scale: 0 is the base (with the head of `start`), 1 the tuned model.

    No third model is kept: of tensors that moved both ends, as narrow as they are in the checkpoints without rounding.

    Raises:
        ModelError: the two are not the same architecture, or an adapter cannot be scaled.
    """

    def __init__(self, model: Any, start: Mapping[str, Tensor], stored: torch.dtype) -> None:
        self.model = model
        why = [refusal(config.to_dict() | {"peft_type": config.peft_type.value}) for config in _configs(model)]
        if any(why):
            raise ModelError(f"The model cannot be scaled: {next(filter(None, why))}.")
        self._adapters = list(_lora_layers(model))
        self._moved = list(_moved(model, start, stored))
        self._copies: list[tuple[Any, Tensor]] = []
        self.scale = 1.0

    @property
    def moved(self) -> int:
        """How many tensors and adapters change with the scale."""
        return len(self._moved) + len(self._adapters)

    def at(self, scale: float, *, added: bool = False) -> None:
        """Puts the model there. With `added` adapters are added to their matrices, which answers faster and differs by
        rounding; where that would round them or take too much memory it has no effect, and at scale 1 neither."""
        for layer, weight in self._copies:
            layer.merged_adapters.clear()
            layer.get_base_layer().weight.data.copy_(weight)
        self._copies.clear()
        for layer, adapter in self._adapters:
            layer.set_scale(adapter, scale)
        with torch.no_grad():
            for tensor in self._moved:
                tensor.put(scale)
        if added and scale != 1.0 and _addable(self._adapters):
            for layer, adapter in self._adapters:
                self._copies.append((layer, layer.get_base_layer().weight.detach().clone()))
                layer.merge(adapter_names=[adapter])
        self.scale = scale


def _addable(adapters: list[tuple[Any, str]]) -> bool:
    """Float32 matrices, and memory for a copy of them."""
    weights = [layer.get_base_layer().weight for layer, _ in adapters]
    layers = {id(layer) for layer, _ in adapters}
    whole = all(weight.dtype == torch.float32 for weight in weights) and len(layers) == len(adapters)
    return whole and sum(weight.nbytes for weight in weights) <= COPIES


def heads(start: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of the named modules."""
    return {name: tensor for name, tensor in start.named_parameters() if name.split(".")[0] in names}


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keeps tensors in a file."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def read(path: Path) -> dict[str, Tensor]:
    """What `write` kept."""
    from safetensors.torch import load_file

    return load_file(path)


def _configs(model: Any) -> list[Any]:
    return list(getattr(model, "peft_config", {}).values())


def _lora_layers(model: Any) -> Iterator[tuple[Any, str]]:
    from peft.tuners.lora import LoraLayer

    for module in model.modules() if _configs(model) else ():
        if isinstance(module, LoraLayer):
            yield from ((module, adapter) for adapter in module.scaling)


def _moved(model: Any, start: Mapping[str, Tensor], stored: torch.dtype) -> Iterator[_Moved]:
    """Every tensor whose two ends differ; of an adapter's model the copies of whole modules (heads)."""
    plain = model.get_base_model() if _configs(model) else model
    for name, tensor in plain.named_parameters():
        known = name
        if _configs(model):
            before, saved, behind = name.partition(".modules_to_save.")
            if not saved:
                continue
            known = f"{before}.{behind.partition('.')[2]}"
        base = start.get(known)
        if base is None or base.shape != tensor.shape:
            sizes = f"{'missing' if base is None else tuple(base.shape)} in the base, {tuple(tensor.shape)} in the run"
            raise ModelError(f"The model cannot be scaled: the sizes of {known} differ ({sizes}).")
        if not torch.equal(base.to(tensor), tensor):
            yield _Moved(tensor.data, _narrow(base.detach(), stored), _narrow(tensor.detach(), stored))


def _narrow(tensor: Tensor, stored: torch.dtype) -> Tensor:
    """A copy in the checkpoint's precision, if that loses nothing."""
    small = tensor.to(stored, copy=True)
    return small if torch.equal(small.to(tensor.dtype), tensor) else tensor.clone()
