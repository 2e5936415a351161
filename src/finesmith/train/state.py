"""The state between two steps, in safetensors: weights that move, optimizer, random numbers, position, scores.

Loading it and going on gives the same numbers, bit for bit, as never having stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from finesmith.train.optim import trainable


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Writes the state to a file. `facts` are plain values: the step, the history of scores.

    Of the optimizer it takes whatever stands in its state: tensors, and numbers (`step` of some).
    """
    tensors = {f"weight.{name}": weight.detach() for name, weight in trainable(model).items()}
    numbers: dict[str, float] = {}
    for name, weight in trainable(model).items():
        for key, value in optimizer.state.get(weight, {}).items():
            (tensors if isinstance(value, torch.Tensor) else numbers)[f"optimizer.{key}.{name}"] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if (device := device_of(model)).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random.mps"] = torch.mps.get_rng_state()
    save_file(_apart(tensors), path, metadata={"facts": json.dumps(facts), "numbers": json.dumps(numbers)})


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts a saved state back into a model and an optimizer of the same make; returns the facts."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        numbers = json.loads(file.metadata()["numbers"])
        saved = {name: file.get_tensor(name) for name in file.keys() if name.startswith("optimizer.")}  # noqa: SIM118
        for name, weight in trainable(model).items():
            weight.copy_(file.get_tensor(f"weight.{name}"))
        _load_optimizer(optimizer, trainable(model), saved | numbers)
        torch.set_rng_state(file.get_tensor("random.cpu"))
        device, names = device_of(model), set(file.keys())
        if device.type == "cuda" and "random.cuda" in names:  # not where it was saved on another kind of device
            torch.cuda.set_rng_state(file.get_tensor("random.cuda"), device)
        elif device.type == "mps" and "random.mps" in names:
            torch.mps.set_rng_state(file.get_tensor("random.mps"))
        return json.loads(file.metadata()["facts"])


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of a model are, and with them the random numbers of its dropout."""
    return next(model.parameters()).device


def _load_optimizer(optimizer: torch.optim.Optimizer, weights: dict[str, nn.Parameter], saved: dict[str, Any]) -> None:
    """Through the optimizer's own `load_state_dict`, which knows on which device and in which type it wants what."""
    packed = optimizer.state_dict()
    order = [weight for group in optimizer.param_groups for weight in group["params"]]
    ids = [number for group in packed["param_groups"] for number in group["params"]]
    place = dict(zip(order, ids, strict=True))
    state: dict[int, dict[str, Any]] = {}
    for full, value in saved.items():
        _, key, name = full.split(".", 2)
        state.setdefault(place[weights[name]], {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": packed["param_groups"]})


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous, and no two in the same memory: an optimizer's codebook may stand in the state of every weight."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen
        seen.add(tensor.data_ptr())
        apart[name] = tensor.clone() if shared else tensor.contiguous()
    return apart


def saved_step(path: Path) -> int:
    """The step that a saved state stands at; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["facts"])["step"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes only the weights that move (the best ones so far)."""
    save_file({name: weight.detach().contiguous() for name, weight in trainable(model).items()}, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts weights that `save_weights` wrote back into the model."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, weight in trainable(model).items():
            weight.copy_(file.get_tensor(name))
