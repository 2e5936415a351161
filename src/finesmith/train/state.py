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
    """Writes the state to a file. `facts` are plain values: the step, the history of scores."""
    tensors = {f"weight.{name}": weight.detach() for name, weight in trainable(model).items()}
    for name, weight in trainable(model).items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"facts": json.dumps(facts)}
    )


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts a saved state back into a model and an optimizer of the same make; returns the facts."""
    with safe_open(path, framework="pt") as file:
        for name, weight in trainable(model).items():
            with torch.no_grad():
                weight.copy_(file.get_tensor(f"weight.{name}"))
            state = {key: file.get_tensor(f"optimizer.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            optimizer.state[weight] = {
                key: value if key == "step" else value.to(weight.device) for key, value in state.items()
            }
        torch.set_rng_state(file.get_tensor("random.cpu"))
        if torch.cuda.is_available() and "random.cuda" in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            torch.cuda.set_rng_state(file.get_tensor("random.cuda"))
        return json.loads(file.metadata()["facts"])


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
