"""The state between two steps, in safetensors: weights that move, optimizer, random numbers, position, scores.

Loading it and going on gives the same numbers, bit for bit, as never having stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    tensors |= {f"random.{kind}": numbers for kind, numbers in random_numbers(device_of(model)).items()}
    save_file(_apart(tensors), path, metadata={"facts": json.dumps(facts), "numbers": json.dumps(numbers)})


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts a saved state back into a model and an optimizer of the same make; returns the facts."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        numbers = json.loads(file.metadata()["numbers"])
        saved = {name: file.get_tensor(name) for name in file.keys() if name.startswith("optimizer.")}  # noqa: SIM118
        for name, weight in trainable(model).items():
            weight.copy_(file.get_tensor(f"weight.{name}"))
        _load_optimizer(optimizer, trainable(model), saved | numbers)
        kinds = [name.removeprefix("random.") for name in file.keys() if name.startswith("random.")]  # noqa: SIM118
        put_back({kind: file.get_tensor(f"random.{kind}") for kind in kinds}, device_of(model))
        return json.loads(file.metadata()["facts"])


def random_numbers(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of the CPU stand, and of the device: dropout draws from them."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def put_back(numbers: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Lets the random numbers go on from where they stood; those of another kind of device are passed over."""
    torch.set_rng_state(numbers["cpu"])
    if device.type == "cuda" and "cuda" in numbers:
        torch.cuda.set_rng_state(numbers["cuda"], device)
    elif device.type == "mps" and "mps" in numbers:
        torch.mps.set_rng_state(numbers["mps"])


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
    return int(saved_facts(path).get("step", 0))


def saved_facts(path: Path) -> dict[str, Any]:
    """The facts of a saved state; empty where there is none."""
    if not path.exists():
        return {}
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["facts"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes only the weights that move (the best ones so far)."""
    save_file({name: weight.detach().contiguous() for name, weight in trainable(model).items()}, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts weights that `save_weights` wrote back into the model."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, weight in trainable(model).items():
            weight.copy_(file.get_tensor(name))
